/**
 * What decides how pooled connections are used: how often an upstream closes
 * them without `Connection: close` (docs/http.md#reuse-and-retries), how long
 * exchanges take, and TCP keep-alive.
 */
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';

/** Weight of the latest connection in the mean. */
const CLOSE_WEIGHT = 1 / 16;
const DOUBTFUL = 0.02;
const SILENT = 0.05;
/** Nothing is known: doubtful, and one close is enough for silent. */
const UNKNOWN_RISK = 0.04;

/**
 * Estimates how likely one upstream is to close a connection without a word.
 * Each connection that could be used again is evidence once it has been used
 * again, has stayed open, or has closed. The mean of the latest decides.
 */
export class SilentCloses {
  #mean = UNKNOWN_RISK;

  /** A connection was used again, or stayed open while idle. */
  noteKept(): void {
    this.#mean -= this.#mean * CLOSE_WEIGHT;
  }

  /** A connection closed where it could have been used again. */
  noteClosed(): void {
    this.#mean += (1 - this.#mean) * CLOSE_WEIGHT;
  }

  /** One close in fifty or more: a connection rests before it carries what must not be repeated. */
  get areDoubtful(): boolean {
    return this.#mean >= DOUBTFUL;
  }

  /** One close in twenty or more: what must not be repeated takes only a connection that was never used. */
  get areFrequent(): boolean {
    return this.#mean >= SILENT;
  }
}

/** Where every exchange takes so long, it is the way that does, ms. */
const FAR_MS = 10;
/** To wait where it is far: what a new connection takes there itself. */
const PATIENCE_FAR_MS = 50;
/** To wait elsewhere: so many exchanges' time. With fewer waiting for each connection, none is opened. */
const PATIENCE_NEAR = 8;
/** But no less than this, ms: so long a busy machine may let a process wait for its turn. */
const MIN_PATIENCE_NEAR_MS = 400;
const MAX_PATIENCE_MS = 1000;
/** Exchanges that have to be seen first: those of the beginning share the CPU with handshakes. */
const ENOUGH = 64;
/** The quickest is that of at least so many, and of at most twice as many: enough that a minute in which all CPU was elsewhere does not look like a long way. */
const EPOCH = 4096;
/** Weight of the latest exchange in the mean. */
const PACE_WEIGHT = 1 / 32;

/**
 * How quickly the exchanges of a pool go, and so how long one should wait for
 * a connection before another is opened (docs/port-economy.md).
 *
 * Many wait at once for one of two reasons. The answers take their time, on
 * the way or at the upstream: then more connections carry more. Or somebody is
 * short of CPU, here or there: then more connections only share what there is.
 * The quickest of the latest exchanges tells them apart: the way takes its
 * time from every exchange, and want of CPU does not.
 */
export class Pace {
  #count = 0;
  #mean = 0;
  #quickest = Infinity;
  #quickestBefore = Infinity;

  /** An exchange has held its connection so long, ms. */
  note(ms: number): void {
    this.#mean = this.#count === 0 ? ms : this.#mean + (ms - this.#mean) * PACE_WEIGHT;
    this.#quickest = Math.min(this.#quickest, ms);
    this.#count += 1;
    if (this.#count % EPOCH !== 0) return;
    this.#quickestBefore = this.#quickest;
    this.#quickest = Infinity;
  }

  /** Whether the way, or the upstream, takes its time from every exchange. */
  get isFar(): boolean {
    return this.#count >= ENOUGH && Math.min(this.#quickest, this.#quickestBefore) >= FAR_MS;
  }

  /** How long to wait for a connection to come free, ms. */
  get patience(): number {
    if (this.isFar) return PATIENCE_FAR_MS;
    return this.#count < ENOUGH ? MAX_PATIENCE_MS : Math.min(MAX_PATIENCE_MS, Math.max(MIN_PATIENCE_NEAR_MS, PATIENCE_NEAR * this.#mean));
  }
}

// TCP keep-alive for connections that last: a peer that vanished without a word is noticed, and the NAT on the way keeps its entry.

/** Ms; below the idle times of firewalls and NATs. */
const FIRST_PROBE = 30_000;

/** Four system calls: not worth them for a connection that is over at once. Streams that are no socket have none. */
export function keepAlive(stream: Duplex & { setKeepAlive?: Socket['setKeepAlive'] }): void {
  stream.setKeepAlive?.(true, FIRST_PROBE);
}
