/**
 * Statistics that decide how pooled connections are used: how often an upstream
 * closes them without `Connection: close` (docs/http.md#reuse-and-retries), how
 * long exchanges take, and TCP keep-alive.
 */
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { Fault } from '../errors.ts';

/** Weight of the latest connection in the mean. */
const CLOSE_WEIGHT = 1 / 16;
const DOUBTFUL = 0.02;
const SILENT = 0.05;
/** Nothing is known yet: doubtful, and one close makes it silent. */
const UNKNOWN_RISK = 0.04;

/**
 * Estimates how likely one upstream is to close a connection without notice.
 * Each reusable connection is evidence once it has been reused, has stayed
 * open, or has closed. The mean of the latest decides.
 */
export class SilentCloses {
  #mean = UNKNOWN_RISK;

  /** A connection was reused, or stayed open while idle. */
  noteKept(): void {
    this.#mean -= this.#mean * CLOSE_WEIGHT;
  }

  /** A reusable connection has closed. */
  noteClosed(): void {
    this.#mean += (1 - this.#mean) * CLOSE_WEIGHT;
  }

  /** One close in fifty or more: a connection rests before it carries a request that must not be repeated. */
  get areDoubtful(): boolean {
    return this.#mean >= DOUBTFUL;
  }

  /** One close in twenty or more: a request that must not be repeated takes only a connection that was never used. */
  get areFrequent(): boolean {
    return this.#mean >= SILENT;
  }
}

/** If every exchange takes this long, the delay is in the network path or in the upstream, ms. */
const FAR_MS = 2;
/** How long a line may stand on a long path: a burst is over by then, and a new connection takes as long itself. */
const PATIENCE_FAR_MS = 50;
/** How long to wait elsewhere: the time of this many exchanges. With fewer waiting for each connection, none is opened. */
const PATIENCE_NEAR = 8;
/** But at least this long, ms: a busy machine may keep a process waiting for its turn that long. */
const MIN_PATIENCE_NEAR_MS = 400;
const MAX_PATIENCE_MS = 1000;
/** Exchanges needed before the statistics are used: the first ones share the CPU with handshakes. */
const ENOUGH = 64;
/** The quickest is taken from at least this many exchanges, and at most twice as many: enough that a minute without CPU does not look like a long path. */
const EPOCH = 4096;
/** Weight of the latest exchange in the mean. */
const PACE_WEIGHT = 1 / 32;

/**
 * How quickly the exchanges of a pool go, and so how long to wait for a
 * connection before another is opened (docs/port-economy.md).
 *
 * Many wait at once for one of two reasons. Answers are slow because of the
 * network path or the upstream: then more connections carry more. Or CPU is
 * short, here or there: then more connections only share it. The quickest of
 * the latest exchanges distinguishes the two: the path delays every exchange,
 * shortage of CPU does not.
 */
export class Pace {
  #count = 0;
  #mean = 0;
  #quickest = Infinity;
  #quickestBefore = Infinity;

  /** An exchange has held its connection for this long, ms. */
  note(ms: number): void {
    this.#mean = this.#count === 0 ? ms : this.#mean + (ms - this.#mean) * PACE_WEIGHT;
    this.#quickest = Math.min(this.#quickest, ms);
    this.#count += 1;
    if (this.#count % EPOCH !== 0) return;
    this.#quickestBefore = this.#quickest;
    this.#quickest = Infinity;
  }

  /** Whether the path, or the upstream, delays every exchange. */
  get isFar(): boolean {
    return this.#count >= ENOUGH && Math.min(this.#quickest, this.#quickestBefore) >= FAR_MS;
  }

  /** How long to wait for a connection to become free, ms. */
  get patience(): number {
    if (this.isFar) return PATIENCE_FAR_MS;
    return this.#count < ENOUGH ? MAX_PATIENCE_MS : Math.min(MAX_PATIENCE_MS, Math.max(MIN_PATIENCE_NEAR_MS, PATIENCE_NEAR * this.#mean));
  }
}

// TCP keep-alive for long connections: a peer that vanished without notice is detected, and NATs on the path keep their
// entry.

/** Ms without a byte; below the idle times of firewalls and NATs. */
const FIRST_PROBE = 30_000;
/** Ms between probes without an answer, and how many: a minute, so that what is idle survives a failover of the network too. */
const NEXT_PROBE = 10_000;
const UNANSWERED_PROBES = 6;

/** Four system calls: not worth them for a short connection. Streams that are not sockets have none. */
export function keepAlive(stream: Duplex & { setKeepAlive?: Socket['setKeepAlive'] }): void {
  stream.setKeepAlive?.(true, FIRST_PROBE, NEXT_PROBE, UNANSWERED_PROBES);
}

/** Errors by which the system gives up a connection from which nothing comes, not even acknowledgements: neither side has closed it. */
const LOST: ReadonlySet<string> = new Set(['ETIMEDOUT', 'EHOSTUNREACH', 'ENETUNREACH']);

/** The fault of an upstream whose connection is lost; null: the error says that it has closed it. */
export function lostFault(error: NodeJS.ErrnoException | null): Fault | null {
  if (error?.code === undefined || !LOST.has(error.code)) return null;
  return new Fault('upstream-silent', `the connection to the upstream was lost: its host no longer answers (${error.code})`, {
    cause: error,
    remedy: 'Check the route to it, and whether a firewall or NAT on the way has dropped the connection; and whether its host is up.',
  });
}
