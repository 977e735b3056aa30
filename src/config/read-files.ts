/**
 * Reads the files of a configuration and knows when they are no longer as they
 * were read. It compares their state, because that sees through the symlinks
 * that Kubernetes swaps when a ConfigMap changes, and through editors and
 * network file systems, none of which agree on events.
 */
import { readFileSync, statSync } from 'node:fs';

/** Reads files, and remembers the state of each to tell later whether it has changed. */
export class ReadFiles {
  #read = new Map<string, string>();
  #lastLook = '';

  /** Forgets what was read: call before loading anew. */
  begin(): void {
    this.#read = new Map();
    this.#lastLook = '';
  }

  /** Throws what node:fs throws; remembers the file all the same, for it may appear. */
  readonly read = (path: string): string => {
    // Before reading: a change in between is then seen at the next look.
    this.#read.set(path, stateOf(path));
    return readFileSync(path, 'utf8');
  };

  /** Files that have been read since. */
  get count(): number {
    return this.#read.size;
  }

  /**
   * Whether any file differs from when it was read, and has been the same for
   * two looks: what is still being written is left alone.
   */
  changed(): boolean {
    let look = '';
    let differs = false;
    for (const [path, before] of this.#read) {
      const state = stateOf(path);
      differs ||= state !== before;
      look += `${state}\n`;
    }
    const settled = look === this.#lastLook;
    this.#lastLook = look;
    return differs && settled;
  }
}

function stateOf(path: string): string {
  try {
    const { ino, dev, size, mtimeMs } = statSync(path);
    return `${dev}:${ino}:${size}:${mtimeMs}`;
  } catch (error) {
    // Absent, or out of reach: a state like any other; reading it tells why.
    return (error as NodeJS.ErrnoException).code ?? 'unknown';
  }
}
