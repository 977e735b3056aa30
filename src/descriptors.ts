/**
 * File descriptors: how many the limits of the configuration need, and whether
 * there are enough left for another connection. When the system has none, libuv
 * closes new connections silently, names do not resolve, and probes are not
 * answered: so the proxy refuses connections before that.
 */
import { closeSync, openSync, readdirSync, statSync } from 'node:fs';
import type { Config } from './config/config.ts';

/** Listeners, log, DNS, probe, admin port and descriptors of Node itself. */
const OWN = 100;

/** How many file descriptors the limits of a configuration may need, including those of the process itself. */
export interface DescriptorNeeds {
  /** For client connections only: with fewer, limits.connections can never be reached. */
  readonly clients: number;
  /** With everything that may be open at once. */
  readonly all: number;
}

/** Computes the needs from `limits`; each destination counts with a full pool. */
export function descriptorNeeds({ limits, destinations }: Pick<Config, 'limits' | 'destinations'>): DescriptorNeeds {
  const { connections, tunnels, upstreamConnections } = limits;
  const clients = connections + OWN;
  return { clients, all: clients + tunnels + upstreamConnections * destinations.length };
}

/** What was refused for lack of descriptors: a client's connection, a request that may need another one; `system`: not even a file could be opened. A label value of the metrics. */
export type DescriptorRefusal = 'connection' | 'request' | 'system';

/** An eighth is reserved for names, probes and answers, but no more than this. */
const MOST_RESERVED = 64;
/** Least time between two counts if counting is slow, ms. */
const COUNT_EVERY = 100;
const WATCH_EVERY = 5_000;

/** For `Descriptors`; all but `limit` and `onRefused` are for tests. */
export interface DescriptorsOptions {
  /** How many the process may have open; null: not limited, or unknown. */
  readonly limit: number | null;
  readonly onRefused: (what: DescriptorRefusal, open: number, limit: number) => void;
  /** How many are open; by default as reported by the system. */
  readonly count?: () => OpenCount;
  /** Monotonic ms; `performance.now` by default. */
  readonly now?: () => number;
}

/** Number of open descriptors, and the cost of counting. */
export interface OpenCount {
  readonly open: number;
  /** Whether it cost next to nothing. */
  readonly cheap: boolean;
}

/** Refuses connections and requests while a reserve of file descriptors is still left, because without any the process can neither resolve names nor answer probes. */
export class Descriptors {
  readonly #options: DescriptorsOptions;
  readonly #reserve: number;
  /** When last counted. */
  #open = 0;
  #countedAt = -Infinity;
  #cheap = true;
  /** Since then, at most. */
  #taken = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: DescriptorsOptions) {
    this.#options = options;
    this.#reserve = Math.min(MOST_RESERVED, Math.floor((options.limit ?? 0) / 8));
  }

  /** Whether one more may be opened for this, later. A refusal is reported. */
  allows(what: 'connection' | 'request'): boolean {
    if (this.#left() > this.#reserve) return true;
    this.#refuse(what);
    return false;
  }

  /** The same, for one that is open since the latest count, or will be in this turn of the event loop. */
  take(what: 'connection' | 'request'): boolean {
    if (!this.allows(what)) return false;
    this.#taken += 1;
    return true;
  }

  /** So few are left that a refused connection cannot even be answered: that would use one for seconds. */
  exhausted(): boolean {
    if (this.#left() >= this.#reserve / 2) return false;
    this.#refuse('connection');
    return true;
  }

  /** So few are left that probes might get none. */
  get tight(): boolean {
    return this.#left() < this.#reserve / 4;
  }

  /** One sentence for an operator; null: there are enough. */
  warning(): string | null {
    const { limit } = this.#options;
    if (limit === null || this.#left() > this.#reserve) return null;
    return `${this.#open + this.#taken} of ${limit} file descriptors are open, so new connections are refused. Raise the limit (ulimit -n), or lower limits.connections.`;
  }

  /** Checks by itself from time to time, also for limits of the whole system. */
  watch(): void {
    this.#timer = setInterval(() => {
      if (!canOpen()) this.#refuse('system');
    }, WATCH_EVERY).unref();
  }

  /** Ends `watch`. */
  close(): void {
    clearInterval(this.#timer);
  }

  /** At least this many; counted again once half of those above the reserve may be used. */
  #left(): number {
    const { limit, count = countOpen, now = performance.now.bind(performance) } = this.#options;
    if (limit === null) return Infinity;
    const margin = limit - this.#open - this.#reserve;
    if (this.#countedAt !== -Infinity && this.#taken * 2 < margin) return limit - this.#open - this.#taken;
    const at = now();
    if (this.#cheap || at - this.#countedAt >= COUNT_EVERY) {
      const { open, cheap } = count();
      this.#open = open === Infinity ? limit : open;
      this.#cheap = cheap;
      this.#countedAt = at;
      this.#taken = 0;
    }
    return limit - this.#open - this.#taken;
  }

  #refuse(what: DescriptorRefusal): void {
    this.#options.onRefused(what, this.#open + this.#taken, this.#options.limit ?? 0);
  }
}

/** How many file descriptors the process has open; Infinity: as many as there may be; 0: it cannot be determined. */
export function countOpen(): OpenCount {
  try {
    // Linux 6.2 and later report the number.
    const { size } = statSync('/proc/self/fd');
    if (size > 0) return { open: size, cheap: true };
    return { open: readdirSync('/proc/self/fd').length - 1, cheap: false };
  } catch {
    return { open: countInDev(), cheap: false };
  }
}

function countInDev(): number {
  try {
    return readdirSync('/dev/fd').length - 1;
  } catch (error) {
    // Not even that could be opened: all are in use, or the number cannot be determined.
    const { code } = error as NodeJS.ErrnoException;
    return code === 'EMFILE' || code === 'ENFILE' ? Infinity : 0;
  }
}

function canOpen(): boolean {
  try {
    closeSync(openSync('/dev/null', 'r'));
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    return code !== 'EMFILE' && code !== 'ENFILE';
  }
}
