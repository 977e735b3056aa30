/**
 * Exchanges that wait for a pooled connection, and each client's share of the
 * connections. The client that holds the fewest goes first, each client's in
 * their order. How long each has waited is counted without the time in which
 * the proxy itself had no CPU to spare: another connection would not have been
 * served sooner.
 */
import { Tally } from '../crowd.ts';
import type { Fault } from '../errors.ts';
import type { UpstreamConnection } from './upstream-connection.ts';

/** Who waits for a connection. Exactly one of the two is called, once. */
export interface ConnectionWaiter {
  /** Whose share of the connections it is. */
  readonly client: string;
  /** The request must not reach a connection that the upstream has closed already: it could not be sent again. */
  readonly careful: boolean;
  onConnection(connection: UpstreamConnection): void;
  onNoConnection(fault: Fault): void;
}

interface QueuedWaiter {
  readonly waiter: ConnectionWaiter;
  /** Takes none that has been used. */
  readonly fresh: boolean;
  /** Ends its wait, ms. */
  readonly until: number;
  /** Reading of the idle clock when it came. */
  readonly ticks: number;
}

/** For `WaitingLine`. */
export interface WaitingLineOptions {
  /** How many may wait in all; a client may hold no more places than are still free. */
  readonly size: number;
  /** How long one may wait, ms. */
  readonly longest: number;
  /** It has waited so long, and is not in the line any more. */
  readonly onLate: (waiter: ConnectionWaiter) => void;
  /** Somebody may have lost patience. */
  readonly onTick: () => void;
}

/** What a connection that is free is good for. */
export type Offer = 'fresh' | 'settled' | 'used';

const TICK_MS = 10;
/** Above this share of its time at work, the event loop has none to spare. */
const BUSY = 0.8;

/** Holds waiters, and says who is next. It tells `onLate` of who has waited too long, and nobody of anything else. */
export class WaitingLine {
  readonly #options: WaitingLineOptions;
  readonly #byClient = new Map<string, QueuedWaiter[]>();
  readonly #share: FairShare;
  /** Counts the ticks in which the loop had time to spare. */
  #ticks = 0;
  #timer: NodeJS.Timeout | null = null;
  #loop = performance.eventLoopUtilization();

  constructor(options: WaitingLineOptions) {
    this.#options = options;
    this.#share = new FairShare(options.size);
  }

  /** How many wait. */
  get length(): number {
    return this.#share.total;
  }

  /** Whether this client may wait. */
  admits(client: string): boolean {
    return this.#share.admits(client);
  }

  /** @param fresh it takes no connection that has been used */
  add(waiter: ConnectionWaiter, fresh: boolean): void {
    const place: QueuedWaiter = { waiter, fresh, until: performance.now() + this.#options.longest, ticks: this.#ticks };
    const mine = this.#byClient.get(waiter.client);
    if (mine === undefined) this.#byClient.set(waiter.client, [place]);
    else mine.push(place);
    this.#share.take(waiter.client);
    if (this.#timer !== null) return;
    this.#loop = performance.eventLoopUtilization();
    this.#timer = setInterval(() => {
      this.#tick();
    }, TICK_MS).unref();
  }

  /** @returns whether it was in the line */
  remove(waiter: ConnectionWaiter): boolean {
    const at = this.#byClient.get(waiter.client)?.findIndex((place) => place.waiter === waiter) ?? -1;
    return this.#take(waiter.client, at) !== null;
  }

  /**
   * Who comes next, taken out of the line: of the client that holds the fewest connections.
   * @param held how many connections a client holds; null: it may have none now
   */
  next(offer: Offer, held: (client: string) => number | null): ConnectionWaiter | null {
    let best: { readonly client: string; readonly at: number; readonly held: number } | null = null;
    for (const [client, places] of this.#byClient) {
      const count = held(client);
      if (count === null || (best !== null && count >= best.held)) continue;
      const at = places.findIndex(({ waiter, fresh }) => offer === 'fresh' || (!fresh && (offer === 'settled' || !waiter.careful)));
      if (at !== -1) best = { client, at, held: count };
    }
    return best === null ? null : this.#take(best.client, best.at);
  }

  /** The one that came first, whoever it is. */
  first(): ConnectionWaiter | null {
    const [client] = this.#byClient.keys();
    return client === undefined ? null : this.#take(client, 0);
  }

  /**
   * Of those who may have a connection: how many wait, how many of them take a new one only or have waited for
   * `patience` ms, and how many clients hold none.
   * @param held how many connections a client holds; null: it may have none now
   */
  survey(patience: number, held: (client: string) => number | null): { readonly eligible: number; readonly pressing: number; readonly without: number } {
    let eligible = 0;
    let pressing = 0;
    let without = 0;
    for (const [client, places] of this.#byClient) {
      const count = held(client);
      if (count === null) continue;
      if (count === 0) without += 1;
      eligible += places.length;
      for (const { fresh, ticks } of places) if (fresh || (this.#ticks - ticks) * TICK_MS >= patience) pressing += 1;
    }
    return { eligible, pressing, without };
  }

  #take(client: string, at: number): ConnectionWaiter | null {
    const places = this.#byClient.get(client);
    const [place] = places === undefined || at < 0 ? [] : places.splice(at, 1);
    if (place === undefined) return null;
    if (places?.length === 0) this.#byClient.delete(client);
    this.#share.giveBack(client);
    if (this.length === 0 && this.#timer !== null) {
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
 * Places that several clients share. A client may hold no more of them than
 * are still free: one alone gets half, two get a third each, and there is
 * always something left for the next one. (Choudhury and Hahne, "Dynamic queue
 * length thresholds for shared-memory packet switches", 1998, with α = 1.)
 */
export class FairShare {
  readonly #held = new Tally();
  #size: number;
  #total = 0;

  constructor(size: number) {
    this.#size = size;
  }

  get total(): number {
    return this.#total;
  }

  /** Another number of places; who holds more than its share now gives none back. */
  resize(size: number): void {
    this.#size = size;
  }

  /** How many this client holds. */
  heldBy(client: string): number {
    return this.#held.of(client);
  }

  /** How many the one holds that holds the most. */
  get most(): number {
    return this.#held.most;
  }

  /** Whether this client may take another. */
  admits(client: string): boolean {
    const free = this.#size - this.#total;
    return free > 0 && this.heldBy(client) < free;
  }

  /** Takes a place, whether or not `admits` would have it. */
  take(client: string): void {
    this.#held.add(client);
    this.#total += 1;
  }

  /** Answers one `take`. */
  giveBack(client: string): void {
    this.#held.remove(client);
    this.#total -= 1;
  }
}
