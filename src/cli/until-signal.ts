/** For commands that run until they are told to end. */

/**
 * Signals after the first change nothing: closing is bounded to a few seconds,
 * and `npm run` passes on a Ctrl-C that the terminal has already sent.
 */
export function untilSignal(): Promise<void> {
  return new Promise((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
      process.on(signal, () => {
        resolve();
      });
    }
  });
}
