/** What programs have in common that build a network: their options, and that nothing of them is left, however they end. */
import { constants } from 'node:os';
import { parseArgs, type ParseArgsConfig } from 'node:util';
import { removeLab, sweepLeftovers, TITLE } from './leftovers.ts';

/** Ends the process with a text on standard output. */
export function leave(words: string, exitCode: number): never {
  process.stdout.write(words);
  process.exit(exitCode);
}

/** The options of the command line; with ones that are not known, the process ends with what is. */
export function readOptions<const Options extends NonNullable<ParseArgsConfig['options']>>(options: Options, usage: string): ReturnType<typeof parseArgs<{ options: Options }>>['values'] {
  try {
    return parseArgs({ options }).values;
  } catch (error) {
    return leave(`${(error as Error).message}\n${usage}`, 2);
  }
}

/** From now on this process is one that builds a network, which is removed whatever ends the process. @returns processes that left theirs behind, which has been removed */
export function beginLab(): number[] {
  process.title = TITLE;
  const swept = sweepLeftovers();
  // This event comes after signals and errors, too.
  process.on('exit', () => { removeLab(process.pid); });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => process.exit(128 + constants.signals[signal]));
  return swept;
}
