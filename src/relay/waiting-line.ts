/**
 * Exchanges that wait for a pooled connection: first come, first served. How
 * long each has waited is counted without the time in which the proxy itself
 * had no CPU to spare: another connection would not have been served sooner.
 */
import type { Fault } from '../errors.ts';
import type { PooledConnection } from './pooled-connection.ts';

/** Who waits for a connection. Exactly one of the two is called, once. */
export interface Waiter {
  onConnection(connection: PooledConnection): void;
  onNoConnection(fault: Fault): void;
}

interface Place {
  readonly waiter: Waiter;
  /** Takes none that has been used. */
  readonly fresh: boolean;
  /** Ends its wait, ms. */
  readonly until: number;
  /** Reading of the idle clock when it came. */
  readonly ticks: number;
}

export interface WaitingLineOptions {
  /** How long one may wait, ms. */
  readonly longest: number;
  /** It has waited so long, and is not in the line any more. */
  readonly onLate: (waiter: Waiter) => void;
  /** Somebody may have lost patience. */
  readonly onTick: () => void;
}

const TICK_MS = 10;
/** Above this share of its time at work, the event loop has none to spare. */
const BUSY = 0.8;

export class WaitingLine {
  readonly #options: WaitingLineOptions;
  readonly #places: Place[] = [];
  /** Those of them that take none that has been used. */
  #fresh = 0;
  /** Counts the ticks in which the loop had time to spare. */
  #ticks = 0;
  #timer: NodeJS.Timeout | null = null;
  #loop = performance.eventLoopUtilization();

  constructor(options: WaitingLineOptions) {
    this.#options = options;
  }

  get length(): number {
    return this.#places.length;
  }

  add(waiter: Waiter, fresh: boolean): void {
    this.#places.push({ waiter, fresh, until: performance.now() + this.#options.longest, ticks: this.#ticks });
    if (fresh) this.#fresh += 1;
    if (this.#timer !== null) return;
    this.#loop = performance.eventLoopUtilization();
    this.#timer = setInterval(() => {
      this.#tick();
    }, TICK_MS).unref();
  }

  /** @returns whether it was in the line */
  remove(waiter: Waiter): boolean {
    const at = this.#places.findIndex((place) => place.waiter === waiter);
    return this.#take(at) !== null;
  }

  /** Who comes first, taken out of the line; with a connection that has been used, who takes one. */
  next(used: boolean): Waiter | null {
    return this.#take(used && this.#fresh > 0 ? this.#places.findIndex(({ fresh }) => !fresh) : 0);
  }

  /** Whether more have waited for `patience` ms than these dials are for. */
  isImpatient(dials: number, patience: number): boolean {
    const place = this.#places[dials];
    return this.#fresh > dials || (place !== undefined && (this.#ticks - place.ticks) * TICK_MS >= patience);
  }

  #take(at: number): Waiter | null {
    const [place] = at < 0 ? [] : this.#places.splice(at, 1);
    if (place === undefined) return null;
    if (place.fresh) this.#fresh -= 1;
    if (this.#places.length === 0 && this.#timer !== null) {
      clearInterval(this.#timer);
      this.#timer = null;
    }
    return place.waiter;
  }

  #tick(): void {
    const loop = performance.eventLoopUtilization();
    if (performance.eventLoopUtilization(loop, this.#loop).utilization < BUSY) this.#ticks += 1;
    this.#loop = loop;
    const now = performance.now();
    for (let first = this.#places[0]; first !== undefined && first.until <= now; first = this.#places[0]) {
      this.#take(0);
      this.#options.onLate(first.waiter);
    }
    if (this.#places.length > 0) this.#options.onTick();
  }
}
