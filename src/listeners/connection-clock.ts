/**
 * One clock for all client connections, and for what is served on them:
 * nothing is armed or refreshed per request or chunk. Each tick it looks which
 * of them have not moved for as long as they may stay in the state that they
 * are in, and which have reached a time that they wait for.
 */
import { Crowd } from '../crowd.ts';

/** What the clock watches. */
export interface Watched {
  /** Another number whenever something has happened. */
  readonly stamp: number;
  /** Longest time without another stamp, ms. */
  readonly patience: number;
  /** When it is to be called whatever happens, by the clock's own time, ms; Infinity: never. */
  readonly due: number;
  /** The clock's own: the stamp that it saw last, and when. */
  seen: number;
  seenAt: number;
  /** Its patience is over. Called again after as long, if the stamp stays the same. Must not throw. */
  onStalled(): void;
  /** The time that it waited for has come. Called at each tick until `due` is later. Must not throw. */
  onDue(now: number): void;
}

/** For `ConnectionClock`. */
export interface ConnectionClockOptions {
  /** How late it may be, ms. */
  readonly tick: number;
  /** Monotonic ms. */
  readonly now: () => number;
  /** Called with each tick, before the connections are looked at: for what else ends by the clock. */
  readonly onTick?: () => void;
}

/** Tells each watched connection when its time is over, at most a tick late. */
export class ConnectionClock {
  readonly #watched = new Crowd<Watched>();
  readonly #now: () => number;
  readonly #onTick: () => void;
  #interval: NodeJS.Timeout;

  constructor({ tick, now, onTick = () => {} }: ConnectionClockOptions) {
    this.#now = now;
    this.#onTick = onTick;
    this.#interval = this.#start(tick);
  }

  /** Another tick from now on, ms. */
  adopt(tick: number): void {
    clearInterval(this.#interval);
    this.#interval = this.#start(tick);
  }

  /** Until `forget`. */
  watch(item: Watched): void {
    item.seen = item.stamp;
    item.seenAt = this.#now();
    this.#watched.add(item);
  }

  /** Watches it no more. */
  forget(item: Watched): void {
    this.#watched.delete(item);
  }

  /** Looks at all of them now; the interval calls it. */
  tick(): void {
    this.#onTick();
    const now = this.#now();
    for (const item of this.#watched) {
      const { stamp } = item;
      if (now >= item.due) item.onDue(now);
      if (stamp !== item.seen) {
        item.seen = stamp;
        item.seenAt = now;
      } else if (now - item.seenAt >= item.patience) {
        item.seenAt = now;
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
