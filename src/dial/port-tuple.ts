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
  #open = 0;
  readonly #closed = new EndTimes();
  readonly #unanswered = new EndTimes();

  constructor(place: string) {
    this.place = place;
  }

  /** Ports in use at `now`. */
  used(now: number, keeping: Keeping): number {
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

  /** When the next port comes free by time alone; Infinity: all are open. Ask `used` first. */
  nextExpiry(keeping: Keeping): number {
    return Math.min((this.#closed.at(0) ?? Infinity) + keeping.closed, (this.#unanswered.at(0) ?? Infinity) + keeping.unanswered);
  }

  /** When `excess` ports more than the next one have come free; an estimate from above where a few were never answered. */
  expiryAfter(excess: number, keeping: Keeping): number {
    return excess === 0 ? this.nextExpiry(keeping) : (this.#closed.at(excess) ?? Infinity) + keeping.closed;
  }
}
