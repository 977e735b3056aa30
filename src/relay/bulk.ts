/**
 * Fast reading for tunnels with much traffic. Node reads into a new buffer each
 * time, 64 KiB at most; a reused one costs less than half
 * (docs/decisions/0120-buffers-and-sets.md has the figures). Node offers that
 * only for sockets that it connects (`onread`), and only from the start. So a
 * connection that turns out to have much traffic gets one later
 * (node-internals.ts); where that is not possible it works as before, slower.
 */
import type { Duplex } from 'node:stream';
import { readBuffer, takeReads } from './node-internals.ts';

/** Buffers of one size, lent to those with much traffic. */
export class BufferPool {
  readonly size: number;
  /** Most buffers lent at once to all together: this bounds their memory. */
  readonly #most: number;
  /** Kept for the next borrower. */
  readonly #spares: number;
  readonly #spare: Buffer[] = [];
  #lent = 0;

  constructor(size: number, most: number, spares: number) {
    this.size = size;
    this.#most = most;
    this.#spares = spares;
  }

  /** @returns null: all are in use */
  borrow(): Buffer | null {
    if (this.#lent >= this.#most) return null;
    this.#lent += 1;
    return this.#spare.pop() ?? Buffer.allocUnsafeSlow(this.size);
  }

  /** From `borrow`; nothing uses it any more. */
  giveBack(buffer: Buffer): void {
    this.#lent -= 1;
    if (this.#spare.length < this.#spares) this.#spare.push(buffer);
  }
}

/** For tunnels that fill a medium one: 64 MiB at most. With fewer spares, 16 streams that need one now and then would get new memory each time. */
const LARGE = new BufferPool(1024 * 1024, 64, 16);
/** For most tunnels with much traffic: a partner writes TLS records, or what a link delivers, 32 MiB at most. */
const MEDIUM = new BufferPool(readBuffer.length, 512, 32);
/** A tunnel that reads fewer bytes than this at a time needs no buffer of its own: copying is cheaper. */
const SMALL = 2048;

/** Bytes. Shorter reads come while the sender writes: more is read at a time when the sender is ahead. */
const SHORT = 131_072;
/** After this many short reads, without a byte from the other side, reading rests if they were fast. */
const BURST = 16;
/** As many are enough if it has just rested. */
const SHORTER_BURST = 4;
/** They are fast if together they took less than this for each read and each byte, ms. */
const FAST_READ = 1 / 8;
const FAST_BYTE = 1 / 16_384;
/** A rest takes as long as SHORTER_BURST of these reads did, so that about as many come as one; 1 ms at least, and this at most, ms. */
const LONGEST_REST = 4;

/** What a reader in bulk reads for. */
export interface BulkOwner {
  /**
   * Takes the bytes read, and returns whether to continue: if not, it needs the
   * bytes for longer than this call, and calls `resume` of the socket when it
   * does not.
   */
  onBytes(bytes: Buffer): boolean;
  /** Bytes that have come from the other side so far. */
  answered(): number;
}

/** A connection that is read in bulk: through its own socket, which emits no bytes any more. */
export interface BulkConnection {
  /** Call it once the connection is closed: nothing is written from its buffer any more. */
  release(): void;
}

/** Small reads are copied into it, into the same part for the same length: the next read may not begin before the system has taken the bytes. */
let scratch = Buffer.allocUnsafeSlow(SMALL);
/** The first bytes of `scratch`, by their number. */
let beginnings: Buffer[] = [];

/** `length` bytes of memory, until the next call, or for good if `keepScratch` comes before it. */
function takeScratch(length: number): Buffer {
  return (beginnings[length] ??= scratch.subarray(0, length));
}

function keepScratch(): void {
  scratch = Buffer.allocUnsafeSlow(SMALL);
  beginnings = [];
}

/** Reads into its own reused buffer or, for small reads, into the shared one: bytes are valid only during `onBytes`. */
class BulkReader implements BulkConnection {
  readonly #socket: Duplex;
  readonly #owner: BulkOwner;
  #pool: BufferPool = MEDIUM;
  /** From this pool; null: it reads into the shared one. */
  #own: Buffer | null = null;
  /** Bytes in its own buffer are still needed. */
  #held = false;
  /** Length of the last read. */
  #last = 0;
  /** Short reads that are still to come in the present burst. */
  #left = BURST;
  #burst = BURST;
  /** How long it may take to be fast, ms. */
  #fast = 0;
  /** When it began, monotonic ms. */
  #since = 0;
  /** What the other side had sent by then, bytes. */
  #answered = 0;

  constructor(socket: Duplex, owner: BulkOwner) {
    this.#socket = socket;
    this.#owner = owner;
  }

  release(): void {
    if (this.#own !== null) this.#pool.giveBack(this.#own);
    this.#own = null;
  }

  /** @returns whether to continue reading */
  read(length: number, buffer: Buffer): boolean {
    this.#last = length;
    const taken = buffer === readBuffer ? this.#passCopy(length) : this.#passOwn(length, buffer);
    return taken && !(length < SHORT && this.#rests(length));
  }

  #passCopy(length: number): boolean {
    this.#held = false;
    const small = length <= SMALL;
    const bytes = small ? takeScratch(length) : Buffer.allocUnsafe(length);
    readBuffer.copy(bytes, 0, 0, length);
    const taken = this.#owner.onBytes(bytes);
    if (!taken && small) keepScratch();
    return taken;
  }

  #passOwn(length: number, buffer: Buffer): boolean {
    this.#held = !this.#owner.onBytes(length === buffer.length ? buffer : buffer.subarray(0, length));
    return !this.#held;
  }

  /**
   * Each short read takes a wake-up, a read and a write. Where they come fast and in one direction only, so that no
   * answer waits for them, reading rests until more has come, as network cards do with interrupts.
   */
  #rests(length: number): boolean {
    this.#left -= 1;
    this.#fast += FAST_READ + length * FAST_BYTE;
    if (this.#left > 0) return false;
    const [now, answered] = [performance.now(), this.#owner.answered()];
    const took = now - this.#since;
    const streams = took < this.#fast && answered === this.#answered;
    if (streams) {
      setTimeout(
        () => {
          this.#since = performance.now();
          // Something else has resumed it meanwhile, and its buffer waits for the other side to take it.
          if (!this.#held) this.#socket.resume();
        },
        Math.ceil(Math.min((took * SHORTER_BURST) / this.#burst, LONGEST_REST)),
      );
    }
    this.#burst = streams ? SHORTER_BURST : BURST;
    this.#left = this.#burst;
    this.#fast = 0;
    this.#since = now;
    this.#answered = answered;
    return streams;
  }

  /** Called by Node before the first read, and after each. */
  next(): Buffer {
    if (!this.#held) this.#fit();
    return this.#own ?? readBuffer;
  }

  /** Exchanges its own buffer for one that fits the size of its reads. */
  #fit(): void {
    const pool = this.#last < SMALL ? null : this.#last < MEDIUM.size ? MEDIUM : LARGE;
    if (this.#own !== null && pool === this.#pool) return;
    this.release();
    if (pool === null) return;
    this.#own = pool.borrow();
    this.#pool = pool;
    if (this.#own !== null || pool === MEDIUM) return;
    this.#own = MEDIUM.borrow();
    this.#pool = MEDIUM;
  }
}

/** Reads `socket` in bulk from now on. Null, and nothing has changed, where that is not possible (node-internals.ts). */
export function readInBulk(socket: Duplex, owner: BulkOwner): BulkConnection | null {
  const reader = new BulkReader(socket, owner);
  return takeReads(socket, { buffer: () => reader.next(), callback: (length, buffer) => reader.read(length, buffer) }) ? reader : null;
}
