/** SIGTERM and SIGINT, from the first line of the program to its end. */
import { constants } from 'node:os';

const ENDING = ['SIGTERM', 'SIGINT'] as const;

/**
 * A signal without a handler ends a process, but the first process of a
 * container never receives it. There, until the command has a handler of its
 * own, a signal ends the process with the code that it would have elsewhere.
 */
export function endOnEarlySignals(): void {
  if (process.pid !== 1) return;
  for (const signal of ENDING) process.on(signal, endAtOnce);
}

function endAtOnce(signal: NodeJS.Signals): void {
  process.exit(128 + constants.signals[signal]);
}

/** From here on it is the command that handles them; every signal, not only the first, is given to it. */
export function onEndingSignal(handle: (signal: NodeJS.Signals) => void): void {
  for (const signal of ENDING) process.on(signal, handle).off(signal, endAtOnce);
}

/**
 * For commands that run until they are told to end. Signals after the first
 * change nothing: closing is bounded to a few seconds, and `npm run` passes on
 * a Ctrl-C that the terminal has already sent.
 */
export function untilSignal(): Promise<void> {
  return new Promise((resolve) => {
    onEndingSignal(() => {
      resolve();
    });
    process.on('SIGHUP', () => {
      resolve();
    });
  });
}
