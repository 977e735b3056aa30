/**
 * Writes log lines. No disk, terminal or reader ever ends, delays or blocks the
 * process: a batch is written whole, or reported with the number of bytes
 * written and the error.
 *
 * Node's own streams are not used for standard output. The one for files writes
 * synchronously, so a slow disk stops every request, and it treats a partial
 * write as complete. The one for terminals blocks while the terminal's reader
 * is stopped. After an error they are closed, although a disk may have room
 * again.
 */
import { closeSync, constants, fstatSync, openSync, write, writeSync } from 'node:fs';
import type { Writable } from 'node:stream';
import { isatty } from 'node:tty';

/** @param written bytes of the batch that were written, from its beginning; all of them unless there is an error */
export type OnWritten = (written: number, error: NodeJS.ErrnoException | null) => void;

/** Where batches of log lines are written. */
export abstract class LogOutput {
  /** For people: lines may be coloured. */
  abstract readonly isTTY: boolean;
  /** Tries to write all of `batch`, and reports the result once. One batch at a time. Neither throws nor blocks. */
  abstract write(batch: Buffer, done: OnWritten): void;
  /** The process ends in this turn: writes what can be written at once, first the rest of the current batch. */
  abstract writeLast(batch: Buffer): void;
  /** Closes what it opened itself; the caller's stream or descriptor stays open. */
  abstract close(): void;
}

const STANDARD_OUTPUT = 1;
const STANDARD_ERROR = 2;

/**
 * @param stream one whose `fd` is that of standard output or standard error is written by its descriptor; any other
 *   is written as a stream, whose writes must not block
 */
export function openLogOutput(stream: Writable & { readonly fd?: unknown; readonly isTTY?: boolean }): LogOutput {
  const { fd } = stream;
  return fd === STANDARD_OUTPUT || fd === STANDARD_ERROR ? openDescriptor(fd) : new StreamOutput(stream);
}

function openDescriptor(fd: number): LogOutput {
  if (isatty(fd)) return new PromptOutput(reopenTerminal(fd), true);
  const kind = fstatSync(fd);
  // Pipes and sockets do not block: Node makes them non-blocking when it creates a stream for them, as for
  // process.stdout.
  return kind.isFIFO() || kind.isSocket() ? new PromptOutput({ fd, own: false }, false) : new FileOutput(fd);
}

interface Descriptor {
  readonly fd: number;
  /** It was opened here. */
  readonly own: boolean;
}

/**
 * A separate open file description for the same terminal: non-blocking, without
 * a change for other writers. Where there is none (no /proc, or no right to
 * open the terminal), a stopped terminal blocks.
 */
function reopenTerminal(fd: number): Descriptor {
  try {
    return { fd: openSync(`/proc/self/fd/${fd}`, constants.O_WRONLY | constants.O_NONBLOCK | constants.O_NOCTTY), own: true };
  } catch {
    return { fd, own: false };
  }
}

/** Files, and devices other than terminals: written from the thread pool, because a disk may be slow. */
class FileOutput extends LogOutput {
  readonly isTTY = false;
  readonly #fd: number;

  constructor(fd: number) {
    super();
    this.#fd = fd;
  }

  write(batch: Buffer, done: OnWritten): void {
    const go = (from: number): void => {
      write(this.#fd, batch, from, batch.length - from, null, (error, count) => {
        const written = from + (error === null ? count : 0);
        // A full disk first accepts a partial write, and fails only for the
        // rest.
        if (error === null && count > 0 && written < batch.length) go(written);
        else done(written, error ?? (written < batch.length ? new Error('a write took nothing') : null));
      });
    };
    go(0);
  }

  writeLast(batch: Buffer): void {
    // The thread pool still completes the write that it has, before this one or after it.
    writeAtOnce(this.#fd, batch);
  }

  close(): void {
    // Nothing was opened here.
  }
}

/** Longest wait between two attempts, ms. */
const LONGEST_WAIT = 250;

/** Pipes, sockets and terminals: the unwritten rest is retried, with an increasing delay. */
class PromptOutput extends LogOutput {
  readonly isTTY: boolean;
  readonly #descriptor: Descriptor;
  #left: Buffer | null = null;
  #timer: NodeJS.Timeout | undefined;

  constructor(descriptor: Descriptor, isTTY: boolean) {
    super();
    this.#descriptor = descriptor;
    this.isTTY = isTTY;
  }

  write(batch: Buffer, done: OnWritten): void {
    let wait = 1;
    const go = (): void => {
      const before = this.#left ?? batch;
      const { rest, error } = writeAtOnce(this.#descriptor.fd, before);
      this.#left = rest;
      if (error === null && rest.length > 0) {
        wait = rest.length < before.length ? 1 : Math.min(wait * 2, LONGEST_WAIT);
        this.#timer = setTimeout(go, wait).unref();
        return;
      }
      this.#left = null;
      done(batch.length - rest.length, error);
    };
    go();
  }

  writeLast(batch: Buffer): void {
    writeAtOnce(this.#descriptor.fd, this.#left === null ? batch : Buffer.concat([this.#left, batch]));
  }

  close(): void {
    clearTimeout(this.#timer);
    if (this.#descriptor.own) closeSync(this.#descriptor.fd);
  }
}

/** @returns the rest when the other end accepts no more for now; with an error: never again */
function writeAtOnce(fd: number, bytes: Buffer): { readonly rest: Buffer; readonly error: NodeJS.ErrnoException | null } {
  let written = 0;
  try {
    while (written < bytes.length) {
      const count = writeSync(fd, bytes, written);
      if (count === 0) break;
      written += count;
    }
  } catch (thrown) {
    const error = thrown as NodeJS.ErrnoException;
    return { rest: bytes.subarray(written), error: error.code === 'EAGAIN' ? null : error };
  }
  return { rest: bytes.subarray(written), error: null };
}

class StreamOutput extends LogOutput {
  readonly #stream: Writable & { readonly isTTY?: boolean };
  readonly #onError = (): void => {};

  constructor(stream: Writable) {
    super();
    this.#stream = stream;
    // The callback of the write gets the same error.
    stream.on('error', this.#onError);
  }

  get isTTY(): boolean {
    return this.#stream.isTTY === true;
  }

  write(batch: Buffer, done: OnWritten): void {
    let told = false;
    const tell: OnWritten = (written, error) => {
      if (told) return;
      told = true;
      done(written, error);
    };
    if (!this.#stream.writable) {
      tell(0, new Error('the stream is closed'));
      return;
    }
    try {
      this.#stream.write(batch, (error) => {
        if (error === null || error === undefined) tell(batch.length, null);
        else tell(0, error);
      });
    } catch (thrown) {
      tell(0, thrown instanceof Error ? thrown : new Error(String(thrown)));
    }
  }

  writeLast(batch: Buffer): void {
    this.write(batch, () => {});
  }

  close(): void {
    // A write in progress may fail later.
    if (this.#stream.writableLength === 0) this.#stream.off('error', this.#onError);
  }
}

/** Holds the first batch until `release`: other output has to be written first. */
export class HeldOutput extends LogOutput {
  readonly #output: LogOutput;
  #start: (() => void) | null = null;
  #released = false;

  constructor(output: LogOutput) {
    super();
    this.#output = output;
  }

  get isTTY(): boolean {
    return this.#output.isTTY;
  }

  /** Writes what has been held, and everything from now on. */
  release(): void {
    this.#released = true;
    this.#start?.();
    this.#start = null;
  }

  write(batch: Buffer, done: OnWritten): void {
    if (this.#released) this.#output.write(batch, done);
    else {
      this.#start = () => {
        this.#output.write(batch, done);
      };
    }
  }

  writeLast(batch: Buffer): void {
    this.release();
    this.#output.writeLast(batch);
  }

  close(): void {
    this.#output.close();
  }
}
