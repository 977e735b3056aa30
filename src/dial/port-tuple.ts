/** The ports in use towards one address and port: connections that are open, and those that the NAT still remembers. */
import { EndTimes } from './end-times.ts';

/**
 * How the use of a port ended, which is what the NAT goes by:
 * `unsent`: no packet left, there is nothing it could remember;
 * `unanswered`: a SYN left and no connection came of it;
 * `closed`: there was a connection, whoever ended it and however.
 */
export type Ending = 'unsent' | 'unanswered' | 'closed';

/** How long the NAT keeps what has ended, ms. */
export interface Keeping {
  readonly closed: number;
  readonly unanswered: number;
}

export type Level = 'ample' | 'scarce' | 'exhausted';

/** Ports of one holder, or of all. */
class PortUse {
  #open = 0;
  readonly #closed = new EndTimes();
  readonly #unanswered = new EndTimes();

  at(now: number, keeping: Keeping): number {
    this.#closed.forgetUntil(now - keeping.closed);
    this.#unanswered.forgetUntil(now - keeping.unanswered);
    return this.#open + this.#closed.length + this.#unanswered.length;
  }

  take(): void {
    this.#open += 1;
  }

  end(ending: Ending, now: number): void {
    this.#open -= 1;
    if (ending === 'closed') this.#closed.push(now);
    else if (ending === 'unanswered') this.#unanswered.push(now);
  }

  /** When the next port comes free by time alone; Infinity: all are open. Ask `at` first. */
  nextExpiry(keeping: Keeping): number {
    return Math.min((this.#closed.at(0) ?? Infinity) + keeping.closed, (this.#unanswered.at(0) ?? Infinity) + keeping.unanswered);
  }

  /** When `excess` ports more than the next one have come free; an estimate from above where a few were never answered. */
  expiryAfter(excess: number, keeping: Keeping): number {
    return excess === 0 ? this.nextExpiry(keeping) : (this.#closed.at(excess) ?? Infinity) + keeping.closed;
  }
}

export class PortTuple<Waiter> {
  /** As messages name it. */
  readonly place: string;
  /** Names of the destinations that went there. */
  readonly destinations = new Set<string>();
  /** Who waits for a port, longest first. */
  readonly waiters = new Set<Waiter>();
  /** What was last told about it. */
  level: Level = 'ample';
  /** Wakes who waits; null while nobody does. */
  stopAlarm: (() => void) | null = null;
  readonly #all = new PortUse();
  readonly #byClient = new Map<string, PortUse>();

  constructor(place: string) {
    this.place = place;
  }

  /** Ports in use at `now`. */
  used(now: number, keeping: Keeping): number {
    return this.#all.at(now, keeping);
  }

  /** Of those, the ones that this client holds. */
  usedBy(client: string, now: number, keeping: Keeping): number {
    const use = this.#byClient.get(client);
    if (use === undefined) return 0;
    const used = use.at(now, keeping);
    if (used === 0) this.#byClient.delete(client);
    return used;
  }

  /** @param client null: it is shared by all */
  take(client: string | null): void {
    this.#all.take();
    if (client === null) return;
    let use = this.#byClient.get(client);
    if (use === undefined) {
      use = new PortUse();
      this.#byClient.set(client, use);
    }
    use.take();
  }

  /** @param client as it was taken */
  end(client: string | null, ending: Ending, now: number): void {
    this.#all.end(ending, now);
    if (client !== null) this.#byClient.get(client)?.end(ending, now);
  }

  /** When the next port comes free by time alone; Infinity: all are open. Ask `used` first. */
  nextExpiry(keeping: Keeping): number {
    return this.#all.nextExpiry(keeping);
  }

  /** When `excess` ports more than the next one have come free; an estimate from above where a few were never answered. */
  expiryAfter(excess: number, keeping: Keeping): number {
    return this.#all.expiryAfter(excess, keeping);
  }
}
