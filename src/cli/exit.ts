/** Exit codes, the same for every command. */
export const EXIT = {
  ok: 0,
  /** It ran, and failed. */
  failed: 1,
  /** It never ran: the arguments or the configuration are wrong. */
  usage: 2,
} as const;
