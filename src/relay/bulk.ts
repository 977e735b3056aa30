/**
 * Reading for tunnels that move much. Node reads into a new buffer each time,
 * 64 KiB at most; a large one that is used again and again costs less than half
 * (docs/decisions/0120-buffers-and-sets.md has the figures). Node offers that for
 * sockets it connects (`onread`), not for those it accepts, and only from
 * their beginning on. So a connection that turns out to move much gets a new
 * socket, with such a buffer, on the handle it has (node-internals.ts); where
 * that is not possible everything works as before, slower.
 */
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { readBuffer, rebuildSocket } from './node-internals.ts';

/** Of a large buffer, bytes. */
const LARGE = 1024 * 1024;
/** Lent at once to all tunnels together: this bounds their memory. The others share a small one. */
const MOST = 64;
/** Kept for the next one that wants it. */
const SPARE = 8;
/** Who reads less than this at a time has no use for a large one. */
const SMALL = readBuffer.length;

const spare: Buffer[] = [];
let lent = 0;

/**
 * Takes what was read, and says whether to go on: if not, it needs the bytes
 * for longer than this call, and calls `resume` of the socket when it does not.
 */
export type OnBulk = (bytes: Buffer) => boolean;

/** A connection that is read in bulk. */
export interface BulkConnection {
  /** Stands in for the socket that was given. That one can no longer be used; the two close together. */
  readonly socket: Socket;
  /** Call it once the connection is closed: nothing is written from its buffer any more. */
  release(): void;
}

/** Reads into a large buffer that is used again: bytes are valid only during `onBytes`. */
class BulkReader {
  readonly #onBytes: OnBulk;
  #large: Buffer | null = null;
  /** Bytes in the large buffer are still needed. */
  #held = false;
  /** How much the last read gave. */
  #last = 0;

  constructor(onBytes: OnBulk) {
    this.#onBytes = onBytes;
  }

  release(): void {
    if (this.#large === null) return;
    lent -= 1;
    if (spare.length < SPARE) spare.push(this.#large);
    this.#large = null;
  }

  /** @returns whether to go on reading */
  read(length: number, buffer: Buffer): boolean {
    this.#last = length;
    // A little is copied: it must not keep the shared buffer from all, nor a large one from those that move much.
    if (length <= SMALL) {
      this.#held = false;
      const bytes = Buffer.allocUnsafe(length);
      buffer.copy(bytes, 0, 0, length);
      return this.#onBytes(bytes);
    }
    this.#held = !this.#onBytes(length === LARGE ? buffer : buffer.subarray(0, length));
    return !this.#held;
  }

  /** Node asks before the first read, and after each. */
  next(): Buffer {
    if (!this.#held) {
      if (this.#last < SMALL) this.release();
      else this.#large ??= borrow();
    }
    return this.#large ?? readBuffer;
  }
}

function borrow(): Buffer | null {
  if (lent >= MOST) return null;
  lent += 1;
  return spare.pop() ?? Buffer.allocUnsafeSlow(LARGE);
}

/** Reads `socket` in bulk from now on. Null, and nothing has changed, where that is not possible (node-internals.ts). */
export function readInBulk(socket: Duplex, onBytes: OnBulk): BulkConnection | null {
  const reader = new BulkReader(onBytes);
  const replacement = rebuildSocket(socket, { buffer: () => reader.next(), callback: (length, buffer) => reader.read(length, buffer) });
  if (replacement === null) return null;
  replacement.once('close', () => socket.destroy());
  socket.once('close', () => replacement.destroy());
  return {
    socket: replacement,
    release: () => {
      reader.release();
    },
  };
}
