/**
 * One clock for all client connections: nothing is armed or refreshed per
 * request. Each tick it looks which of them have not moved for as long as they
 * may stay in the state that they are in.
 */
import { Crowd } from '../crowd.ts';

/** What the clock watches. */
export interface Watched {
  /** Another number whenever something has happened. */
  readonly stamp: number;
  /** Longest time without another stamp, ms. */
  readonly patience: number;
  /** That time is over. Called again after as long, if the stamp stays the same. Must not throw. */
  onStalled(): void;
}

interface WatchEntry {
  readonly item: Watched;
  stamp: number;
  since: number;
}

/** Tells each watched connection when it has been without a new stamp for longer than its patience, at most a tick late. */
export class ConnectionClock {
  readonly #entries = new Crowd<WatchEntry>();
  readonly #now: () => number;
  #interval: NodeJS.Timeout;

  /** @param tick how late the clock may be, ms; @param now monotonic ms */
  constructor(tick: number, now: () => number) {
    this.#now = now;
    this.#interval = this.#start(tick);
  }

  /** Another tick from now on, ms. */
  adopt(tick: number): void {
    clearInterval(this.#interval);
    this.#interval = this.#start(tick);
  }

  /** @returns stops watching it */
  watch(item: Watched): () => void {
    const entry: WatchEntry = { item, stamp: item.stamp, since: this.#now() };
    this.#entries.add(entry);
    return () => {
      this.#entries.delete(entry);
    };
  }

  /** Looks at all of them now; the interval calls it. */
  tick(): void {
    const now = this.#now();
    for (const entry of this.#entries) {
      const { item } = entry;
      const { stamp } = item;
      if (stamp !== entry.stamp) {
        entry.stamp = stamp;
        entry.since = now;
      } else if (now - entry.since >= item.patience) {
        entry.since = now;
        item.onStalled();
      }
    }
  }

  /** Ends the interval; nothing is watched any more. */
  close(): void {
    clearInterval(this.#interval);
  }

  #start(tick: number): NodeJS.Timeout {
    return setInterval(() => {
      this.tick();
    }, tick).unref();
  }
}

/** For these clocks, ms: an eighth of the shortest, between 10 ms and 1 s. */
export function tickFor(...times: readonly number[]): number {
  return Math.min(1000, Math.max(10, Math.min(...times) / 8));
}
