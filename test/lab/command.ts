/** What programs have in common that build a network: nothing of it is left, however they end. */
import { constants } from 'node:os';
import { removeLab, sweepLeftovers, TITLE } from './leftovers.ts';

/** From now on this process is one that builds a network, which is removed whatever ends the process. @returns processes that left theirs behind, which has been removed */
export function beginLab(): number[] {
  process.title = TITLE;
  const swept = sweepLeftovers();
  // This event comes after signals and errors, too.
  process.on('exit', () => { removeLab(process.pid); });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => process.exit(128 + constants.signals[signal]));
  return swept;
}
