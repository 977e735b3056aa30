/** What all commands share of the process they run in: its streams, exit codes and signals, and how they write files. */
import {
  chmodSync,
  chownSync,
  fstatSync,
  lstatSync,
  readlinkSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { constants } from 'node:os';
import { dirname, resolve } from 'node:path';
import { type Readable, Writable } from 'node:stream';
import { readUtf8 } from '../config/read-files.ts';

/** Streams and environment of a command; tests give their own. The streams stay open. */
export interface CommandIo {
  readonly stdin: Readable;
  readonly stdout: Writable;
  readonly stderr: Writable;
  readonly env: Readonly<Record<string, string | undefined>>;
}

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

/** For a command that cannot run: says why. @returns its exit code */
export function misuse({ stderr }: Pick<CommandIo, 'stderr'>, problem: string): number {
  stderr.write(`${problem}\n`);
  return EXIT.usage;
}

// SIGTERM and SIGINT, from the first line of the program to its end.

const ENDING = ['SIGTERM', 'SIGINT'] as const;

/**
 * A signal without a handler ends a process, but the first process of a
 * container never receives it. There, until the command has a handler of its
 * own, a signal ends the process with the code that it would have elsewhere.
 *
 * @param serves SIGHUP would end the process, and asks for nothing before the configuration has been read
 */
export function heedEarlySignals(serves: boolean): void {
  if (serves) process.on('SIGHUP', () => {});
  // Node would open its debugger: anyone on this machine could run code in the process.
  process.on('SIGUSR1', () => {});
  if (process.pid !== 1) return;
  for (const signal of ENDING) process.on(signal, endAtOnce);
}

function endAtOnce(signal: NodeJS.Signals): void {
  process.exit(128 + constants.signals[signal]);
}

/** From here on the command handles them; it receives every signal, not only the first. */
export function onEndingSignal(handle: (signal: NodeJS.Signals) => void): void {
  for (const signal of ENDING) process.on(signal, handle).off(signal, endAtOnce);
}

/**
 * For commands that run until a signal. Signals after the first change nothing:
 * closing is bounded to a few seconds, and `npm run` passes on a Ctrl-C that
 * the terminal has already sent.
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

// Standard output for commands, and its write errors.

const FD = 1;

/** Standard output; for a file, one that writes the whole of it or fails. */
export function openStandardOutput(): Writable {
  return fstatSync(FD).isFile() ? new FileStream() : process.stdout;
}

/** Node's own stream treats a partial write on a full disk as complete: output is cut off, and the exit code is 0. */
class FileStream extends Writable {
  /** As of process.stdout. */
  readonly fd = FD;

  override _write(chunk: Buffer, _encoding: string, done: (error?: Error | null) => void): void {
    try {
      for (let written = 0; written < chunk.length;) written += writeSync(FD, chunk, written);
    } catch (error) {
      done(error as Error);
      return;
    }
    done();
  }
}

/**
 * Writes a file as a whole: other programs read the old text or the new one,
 * also where the disk is full or the process is killed. Keeps owner and mode of
 * the old file; a symlink stays, and the file that it leads to is written.
 * What is no file, such as a pipe or /dev/stdout, is written to.
 *
 * @throws the errors of node:fs; then the old file is as it was
 */
export function replaceFile(path: string, text: string): void {
  const old = statSync(path, { throwIfNoEntry: false });
  if (old?.isFile() === false) {
    writeFileSync(path, text);
    return;
  }
  if (old === undefined && lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() === true) {
    replaceFile(resolve(realpathSync(dirname(path)), readlinkSync(path)), text);
    return;
  }
  const target = old === undefined ? path : realpathSync(path);
  const draft = `${target}.${process.pid}.new`;
  // In a container every process may have the same id: one that was killed has left its draft.
  rmSync(draft, { force: true });
  try {
    writeFileSync(draft, text, { flag: 'wx', ...(old === undefined ? {} : { mode: 0o600 }) });
    if (old !== undefined) {
      chownSync(draft, old.uid, old.gid);
      chmodSync(draft, old.mode & 0o777);
    }
    renameSync(draft, target);
  } catch (error) {
    rmSync(draft, { force: true });
    throw error;
  }
}

/** The command never ran, because of where it was started. */
export class WrongPlace extends Error {}

/** The text of `.env` in the working directory; null: there is none. @throws WrongPlace when it cannot be read */
export async function readDotenv(): Promise<string | null> {
  try {
    // dotenv would find no variable in UTF-16, and the defaults would be used without a message.
    return readUtf8('.env');
  } catch (error) {
    if (!(error instanceof Error) || ('code' in error && error.code === 'ENOENT')) return null;
    const { describeFileError } = await import('../config/named-files.ts');
    throw new WrongPlace(`.env cannot be read: ${describeFileError(error)}. Correct it, or start in another directory.`);
  }
}
