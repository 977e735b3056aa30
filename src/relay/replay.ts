/**
 * Keeps what is needed to send a request a second time on another connection.
 *
 * How often that happens needs no limit of its own: it happens only after a
 * connection broke that had carried an exchange before, and that one is gone
 * then. A partner in trouble has none left, and gets each request once.
 */
import type { Framing } from '../http1/body-reader.ts';
import { NO_FIELDS, type RawFields } from '../http1/fields.ts';
import { BufferPool } from './bulk.ts';
import { keepBytes, readBuffer } from './node-internals.ts';

/** For one request, bytes. */
const LONGEST_REPLAYED = 65_536;
/** For all requests together, bytes. */
const MOST_IN_ALL = 16 * 1024 * 1024;

/** Content read in large pieces is kept in memory that is used again: the garbage collector would be busy with it. 4 MiB at most. */
const PIECES = new BufferPool(readBuffer.length, 64, 16);
/** Smaller ones are not worth such memory, bytes. */
const LEAST_PIECE = 16_384;
/** Pieces after the first are gathered in blocks of this size, bytes: a chunk of one byte in a Buffer of its own would take fifty. */
const BLOCK = 4_096;

const NO_CHUNKS: readonly Buffer[] = [];

/** Shared by all exchanges. */
export class ReplayBudget {
  /** Of content that is kept. */
  bytes = 0;
}

/** Whether all the content of a request is sure to be kept. */
export function fitsReplay(framing: Framing): boolean {
  return framing.kind === 'none' || (framing.kind === 'length' && framing.length <= LONGEST_REPLAYED);
}

/** Keeps the content of one request, as long as it may have to be sent again. */
export class RequestReplay {
  readonly #budget: ReplayBudget;
  #held: Buffer[] | null = null;
  /** Lent by `PIECES`. */
  #lent: Buffer[] | null = null;
  /** The block that is being filled, the last of `#held`, and how far. */
  #block: Buffer | null = null;
  #filled = 0;
  #bytes = 0;
  #trailers = NO_FIELDS;
  /** All of it so far is kept, and it may be repeated at all. */
  #repeatable: boolean;
  #retried = false;

  constructor(budget: ReplayBudget, idempotent: boolean) {
    this.#budget = budget;
    this.#repeatable = idempotent;
  }

  /** The content to send on a connection, the first one or another. Valid until `release`. */
  get held(): readonly Buffer[] {
    return this.#held ?? NO_CHUNKS;
  }

  /** Empty until `complete`. */
  get trailers(): RawFields {
    return this.#trailers;
  }

  /** It may be sent again unchanged. */
  get mayRepeat(): boolean {
    return this.#repeatable && !this.#retried;
  }

  /** Some content has come. Content that comes before there is a connection is always kept: it has not been sent yet. */
  keep(content: Buffer, sent: boolean): void {
    if (sent && !this.#repeatable) return;
    if (sent && (this.#bytes + content.length > LONGEST_REPLAYED || this.#budget.bytes + content.length > MOST_IN_ALL)) {
      this.release();
      return;
    }
    this.#copy(content);
    this.#bytes += content.length;
    this.#budget.bytes += content.length;
  }

  #copy(content: Buffer): void {
    const large = content.buffer === readBuffer.buffer && content.length >= LEAST_PIECE ? PIECES.borrow() : null;
    if (large !== null) {
      (this.#lent ??= []).push(large);
      content.copy(large);
      this.#append(large.subarray(0, content.length));
    } else if (this.#held === null || content.length >= BLOCK) this.#append(keepBytes(content));
    else this.#gather(this.#held, content);
  }

  #append(piece: Buffer): void {
    (this.#held ??= []).push(piece);
    this.#block = null;
  }

  #gather(held: Buffer[], content: Buffer): void {
    if (this.#block === null || this.#filled + content.length > BLOCK) {
      this.#block = Buffer.allocUnsafeSlow(BLOCK);
      this.#filled = 0;
      held.push(this.#block);
    }
    this.#filled += content.copy(this.#block, this.#filled);
    held[held.length - 1] = this.#block.subarray(0, this.#filled);
  }

  /** The content is complete. */
  complete(trailers: RawFields): void {
    this.#trailers = trailers;
  }

  /** It has been passed to a connection: if it cannot be repeated, it need not be kept. */
  noteSent(): void {
    if (!this.#repeatable) this.release();
  }

  /** It is being sent again. */
  noteRetry(): void {
    this.#retried = true;
  }

  /** Its content is not needed any more: an answer has begun, or the exchange is over. */
  release(): void {
    this.#repeatable = false;
    this.#budget.bytes -= this.#bytes;
    this.#bytes = 0;
    this.#held = null;
    this.#block = null;
    if (this.#lent === null) return;
    for (const buffer of this.#lent) PIECES.giveBack(buffer);
    this.#lent = null;
  }
}
