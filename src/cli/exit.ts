/** Exit codes, the same for every command. */
export const EXIT = {
  ok: 0,
  /** It ran, and failed. */
  failed: 1,
  /** It never ran: the arguments or the configuration are wrong. */
  usage: 2,
  /** It ran, and some of it takes effect at the next start only. */
  partly: 3,
} as const;
