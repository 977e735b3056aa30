/** The command lines of the programs that developers run: what they read, `--help`, and an end with 2 for what they cannot read. */
import { parseArgs, type ParseArgsConfig } from 'node:util';

// A reader that goes away, such as `head`, ends the program; any other error is one.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
  process.exit(1);
});

/** Ends the process with a text on standard output. */
export function leave(words: string, exitCode: number): never {
  process.stdout.write(words);
  process.exit(exitCode);
}

/** Ends the process with 2, what is wrong and the usage on standard error. */
export function refuse(wrong: string, usage: string): never {
  process.stderr.write(`${wrong}\n${usage}`);
  process.exit(2);
}

type Options = NonNullable<ParseArgsConfig['options']>;

/** The options of the command line. `--help` prints the usage and ends the process; so does what is not an option. */
export function readOptions<const Known extends Options>(options: Known, usage: string): ReturnType<typeof parseArgs<{ options: Known }>>['values'] {
  const { values, positionals } = readCommandLine(options, usage);
  return positionals.length === 0 ? values : refuse(`Unexpected argument ${positionals.join(' ')}`, usage);
}

/** As `readOptions`, with operands. */
export function readCommandLine<const Known extends Options>(options: Known, usage: string): ReturnType<typeof parseArgs<{ options: Known; allowPositionals: true }>> {
  const args = process.argv.slice(2);
  if (args.includes('--help')) leave(usage, 0);
  try {
    return parseArgs({ args, options, allowPositionals: true });
  } catch (error) {
    return refuse(error instanceof Error ? error.message : String(error), usage);
  }
}

/** The number in the value of an option; ends the process where it is none, or less than `least`. */
export function readNumber(option: string, value: string, usage: string, least: number): number {
  const number = Number(value);
  return value.trim() !== '' && number >= least && number < Infinity ? number : refuse(`${option} ${value}: a number of ${least} or more`, usage);
}

/** As `readNumber`, for what is counted. */
export function readCount(option: string, value: string, usage: string, least: number): number {
  return /^\d+$/.test(value) && Number(value) >= least ? Number(value) : refuse(`${option} ${value}: a whole number of ${least} or more`, usage);
}

/** Those whose name contains the text; ends the process where none does, since a misspelt name must not look like a run without findings. */
export function chooseByName<T>(all: readonly T[], text: string, nameOf: (one: T) => string, usage: string): T[] {
  const chosen = all.filter((one) => nameOf(one).toLowerCase().includes(text.toLowerCase()));
  return chosen.length > 0 ? chosen : refuse(`--only ${text}: not found. There are ${all.map(nameOf).join(', ')}`, usage);
}
