/**
 * Exchanges that wait for a pooled connection, and each client's share of the
 * connections. The client that holds the fewest goes first; the exchanges of
 * one client keep their order. Time in which the proxy itself had no free CPU
 * does not count as waiting: another connection would not have been served
 * sooner.
 */
import { Tally } from '../crowd.ts';
import type { Fault } from '../errors.ts';
import { lookEvery, PauseMeter } from '../time-limit.ts';
import type { UpstreamConnection } from './upstream-connection.ts';

/** An exchange that waits for a connection. Exactly one of the two is called, once. */
export interface ConnectionWaiter {
  /** The client whose share of the connections it counts as. */
  readonly client: string;
  /** The request must not reach a connection that the upstream has closed already: it could not be sent again. */
  readonly careful: boolean;
  onConnection(connection: UpstreamConnection): void;
  onNoConnection(fault: Fault): void;
}

interface QueuedWaiter {
  readonly waiter: ConnectionWaiter;
  /** Accepts only a connection that has never been used. */
  readonly fresh: boolean;
  /** When its wait ends, ms, not counting pauses. */
  readonly until: number;
  /** Value of the idle clock when it came. */
  readonly ticks: number;
}

/** For `WaitingLine`. */
export interface WaitingLineOptions {
  /** How many may wait in all; a client may hold no more places than are still free. */
  readonly size: number;
  /** How long one may wait, ms. */
  readonly longest: number;
  /** It has waited for `longest`, and has left the line. */
  readonly onLate: (waiter: ConnectionWaiter) => void;
  /** Some may have waited for as long as their patience. */
  readonly onTick: () => void;
}

/** Which waiters a free connection is suitable for. */
export type Offer = 'fresh' | 'settled' | 'used';

const TICK_MS = 10;
/** Above this share of busy time, the event loop has no free time. */
const BUSY = 0.8;

/** Holds waiters, and picks the next. It calls `onLate` for those that have waited too long, and no other waiter. */
export class WaitingLine {
  readonly #options: WaitingLineOptions;
  readonly #byClient = new Map<string, QueuedWaiter[]>();
  /** Of its places: who may wait, and how many wait. */
  readonly share: FairShare;
  /** Counts the ticks in which the loop had free time. */
  #ticks = 0;
  /** Value of `#ticks` when the line was empty last. */
  #since = 0;
  /** Ends the ticks; null: no exchange waits. */
  #stop: (() => void) | null = null;
  readonly #pauses = new PauseMeter();
  /** All pauses so far, ms. */
  #paused = 0;
  #loop = performance.eventLoopUtilization();

  constructor(options: WaitingLineOptions) {
    this.#options = options;
    this.share = new FairShare(options.size);
  }

  /** How many wait. */
  get length(): number {
    return this.share.total;
  }

  /** @param fresh it accepts only a connection that has never been used */
  add(waiter: ConnectionWaiter, fresh: boolean): void {
    if (this.#stop === null) this.#pauses.restart();
    const place: QueuedWaiter = { waiter, fresh, until: this.#now() + this.#options.longest, ticks: this.#ticks };
    const mine = this.#byClient.get(waiter.client);
    if (mine === undefined) this.#byClient.set(waiter.client, [place]);
    else mine.push(place);
    this.share.take(waiter.client);
    if (this.#stop !== null) return;
    this.#since = this.#ticks;
    this.#loop = performance.eventLoopUtilization();
    this.#stop = lookEvery(TICK_MS, () => {
      this.#tick();
    });
  }

  /** @returns whether it was in the line */
  remove(waiter: ConnectionWaiter): boolean {
    const at = this.#byClient.get(waiter.client)?.findIndex((place) => place.waiter === waiter) ?? -1;
    return this.#take(waiter.client, at) !== null;
  }

  /**
   * Takes the next waiter out of the line: one of the client that holds the fewest
   * connections.
   * @param held how many connections a client holds; null: it may have none now
   * @param freshComes whether those of a client that accept only a new one are left to wait for it
   */
  next(
    offer: Offer,
    held: (client: string) => number | null,
    freshComes: (client: string) => boolean = () => true,
  ): ConnectionWaiter | null {
    let best: { readonly client: string; readonly at: number; readonly held: number } | null = null;
    for (const [client, places] of this.#byClient) {
      const count = held(client);
      if (count === null || (best !== null && count >= best.held)) continue;
      const at = places.findIndex(
        ({ waiter, fresh }) => offer === 'fresh' || (!(fresh && freshComes(client)) && (offer === 'settled' || !waiter.careful)),
      );
      if (at !== -1) best = { client, at, held: count };
    }
    return best === null ? null : this.#take(best.client, best.at);
  }

  /** Takes the one that came first, of this client, or by default of the first; null: none waits. */
  first(client = this.#byClient.keys().next().value): ConnectionWaiter | null {
    return client === undefined ? null : this.#take(client, 0);
  }

  /** The client that holds the fewest connections; null: none may have one. @param held as for `next` */
  neediest(held: (client: string) => number | null): string | null {
    let best: { readonly client: string; readonly held: number } | null = null;
    for (const client of this.#byClient.keys()) {
      const count = held(client);
      if (count !== null && (best === null || count < best.held)) best = { client, held: count };
    }
    return best?.client ?? null;
  }

  /**
   * Counts the waiters that may have a connection, those of them that accept only a new one or have waited for
   * `patience` ms or half of their time, and the clients that hold none.
   * @param standing once the line has not been empty for `patience` ms, every waiter has waited long enough: each of
   * them may wait for less than that, and yet all of them always wait
   * @param held how many connections a client holds; null: it may have none now
   */
  survey(
    patience: number,
    standing: boolean,
    held: (client: string) => number | null,
  ): { readonly eligible: number; readonly pressing: number; readonly without: number } {
    const half = this.#now() + this.#options.longest / 2;
    const stands = standing && (this.#ticks - this.#since) * TICK_MS >= patience;
    let eligible = 0;
    let pressing = 0;
    let without = 0;
    for (const [client, places] of this.#byClient) {
      const count = held(client);
      if (count === null) continue;
      if (count === 0) without += 1;
      eligible += places.length;
      for (const { fresh, ticks, until } of places)
        if (fresh || stands || until <= half || (this.#ticks - ticks) * TICK_MS >= patience) pressing += 1;
    }
    return { eligible, pressing, without };
  }

  #take(client: string, at: number): ConnectionWaiter | null {
    const places = this.#byClient.get(client);
    const [place] = places === undefined || at < 0 ? [] : places.splice(at, 1);
    if (place === undefined) return null;
    if (places?.length === 0) this.#byClient.delete(client);
    this.share.giveBack(client);
    if (this.length === 0) {
      this.#stop?.();
      this.#stop = null;
    }
    return place.waiter;
  }

  /** Ms, without pauses, also one that no tick has seen yet. */
  #now(): number {
    const now = performance.now();
    this.#paused += this.#pauses.measure(now, TICK_MS);
    return now - this.#paused;
  }

  #tick(): void {
    const loop = performance.eventLoopUtilization();
    if (performance.eventLoopUtilization(loop, this.#loop).utilization < BUSY) this.#ticks += 1;
    this.#loop = loop;
    const now = this.#now();
    for (const [client, places] of [...this.#byClient]) {
      while (places[0] !== undefined && places[0].until <= now) {
        const waiter = this.#take(client, 0);
        if (waiter !== null) this.#options.onLate(waiter);
      }
    }
    if (this.length > 0) this.#options.onTick();
  }
}

/**
 * Places shared by several clients. A client may hold no more of them than are
 * still free: one alone gets half, two get a third each, and some are always
 * left for the next one. (Choudhury and Hahne, "Dynamic queue length thresholds
 * for shared-memory packet switches", 1998, with α = 1.)
 */
export class FairShare {
  readonly #held = new Tally();
  readonly #size: number;
  #total = 0;

  constructor(size: number) {
    this.#size = size;
  }

  get total(): number {
    return this.#total;
  }

  /** How many this client holds. */
  heldBy(client: string): number {
    return this.#held.of(client);
  }

  /** How many the client with the most places holds. */
  get most(): number {
    return this.#held.most;
  }

  /** Whether this client may take another. */
  admits(client: string): boolean {
    const free = this.#size - this.#total;
    return free > 0 && this.heldBy(client) < free;
  }

  /** Takes a place, even beyond what `admits` allows. */
  take(client: string): void {
    this.#held.add(client);
    this.#total += 1;
  }

  /** Reverts one `take`. */
  giveBack(client: string): void {
    this.#held.remove(client);
    this.#total -= 1;
  }
}
