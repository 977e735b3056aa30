/**
 * Reads the files of a configuration and detects when they change. It compares
 * their state, because that covers the symlinks that Kubernetes swaps when a
 * ConfigMap changes, and editors and network file systems, whose events differ.
 */
import { closeSync, constants, fstatSync, openSync, readSync, statSync } from 'node:fs';

/** Bytes: a file of this size takes some ten seconds to check. */
const LARGEST_FILE = 16_777_216;

/** Editors of Windows put a byte order mark before UTF-8, which would be part of the first word. */
const WITHOUT_MARK = new TextDecoder();

/** The text of a file, pipe or device. Throws the errors of node:fs, and one for UTF-16 and for a file without an end, such as /dev/zero. */
export function readUtf8(path: string): string {
  const file = openSync(path, constants.O_RDONLY);
  try {
    return readOpened(file);
  } finally {
    closeSync(file);
  }
}

/** A chunk at a time: neither a pipe nor a file that grows says how much is to come. */
function readOpened(file: number): string {
  const chunks: Buffer[] = [];
  for (let length = 0; length <= LARGEST_FILE;) {
    const chunk = Buffer.allocUnsafe(65_536);
    const read = readSync(file, chunk);
    if (read === 0) {
      const [first, second] = chunks[0] ?? [];
      // A byte order mark, or half of an ASCII character. No certificate in DER begins so.
      if ((first === 0) !== (second === 0) || (first === 0xff && second === 0xfe) || (first === 0xfe && second === 0xff))
        throw new Error('it is UTF-16. Save it as UTF-8');
      return WITHOUT_MARK.decode(Buffer.concat(chunks));
    }
    chunks.push(chunk.subarray(0, read));
    length += read;
  }
  throw new Error(`it has more than ${LARGEST_FILE / 1_048_576} MiB`);
}

/** Reads files, and remembers the state of each to detect later changes. */
export class ReadFiles {
  #read = new Map<string, string>();
  /** Those that could not be opened: what prevents that may end without a change of the file, such as a lack of descriptors. */
  #closed = new Set<string>();
  #lastLook = '';
  #again = false;

  /** Drops the remembered files: call before loading anew. */
  begin(): void {
    this.#again = true;
    this.#read = new Map();
    this.#closed = new Set();
    this.#lastLook = '';
  }

  /**
   * Throws the errors of node:fs; still remembers the file, for it may appear. The first time it may be a pipe
   * (`--config <(…)`); later, when requests are being served, to wait for a pipe's writer would stop them all.
   */
  readonly read = (path: string): string => {
    // Before reading: a change in between is then detected at the next check, also one between two readings of a file
    // that is named twice.
    if (!this.#read.has(path)) this.#read.set(path, stateOf(path));
    try {
      return this.#again ? readRegularFile(path) : readUtf8(path);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).syscall === 'open') this.#closed.add(path);
      throw error;
    }
  };

  /** Files read since the last `begin`. */
  get count(): number {
    return this.#read.size;
  }

  /**
   * Whether any file has changed since it was read, or can be opened now, and has been stable for two
   * checks: a file that is still being written is not read.
   */
  changed(): boolean {
    let look = '';
    let differs = false;
    for (const [path, before] of this.#read) {
      const state = stateOf(path);
      differs ||= state !== before || (this.#closed.has(path) && opens(path));
      look += `${state}\n`;
    }
    const settled = look === this.#lastLook;
    this.#lastLook = look;
    return differs && settled;
  }
}

/** Without O_NONBLOCK, opening a pipe waits for its writer. */
const WITHOUT_WAITING = constants.O_RDONLY | constants.O_NONBLOCK;

function readRegularFile(path: string): string {
  const file = openSync(path, WITHOUT_WAITING);
  try {
    const stats = fstatSync(file);
    if (!stats.isFile() && !stats.isDirectory()) throw new Error('it is a pipe or a device, which can be read at the start only');
    return readOpened(file);
  } finally {
    closeSync(file);
  }
}

function opens(path: string): boolean {
  try {
    closeSync(openSync(path, WITHOUT_WAITING));
    return true;
  } catch {
    return false;
  }
}

function stateOf(path: string): string {
  try {
    // Not ctime: the kubelet may set owners again once a minute.
    const stats = statSync(path);
    const { ino, dev, mode, size, mtimeMs } = stats;
    // A pipe changes with each write to it, and is not read again.
    return stats.isFile() ? `${dev}:${ino}:${mode}:${size}:${mtimeMs}` : String(mode);
  } catch (error) {
    // Absent or unreachable is a state like any other; reading the file gives the reason.
    return (error as NodeJS.ErrnoException).code ?? 'unknown';
  }
}
