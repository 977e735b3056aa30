/**
 * One clock for all client connections, and for the requests served on them:
 * nothing is armed or refreshed per request or chunk. Each tick finds the
 * connections that have been without progress for as long as their state
 * allows, and those whose deadline has come.
 */
import { Crowd } from '../crowd.ts';
import { lookEvery, PauseMeter } from '../time-limit.ts';

/** What the clock watches. */
export interface Watched {
  /** Changes whenever something has happened. */
  readonly stamp: number;
  /** How long the stamp may stay the same, ms. */
  readonly patience: number;
  /** When it is to be called in any case, by the clock's own time, ms; Infinity: never. */
  readonly due: number;
  /** Kept by the clock: the stamp that it saw last, and when. Set to NaN, it is a change. */
  seen: number;
  seenAt: number;
  /** The stamp has not changed for `patience`. Called again after the same time if it still has not. Must not throw. */
  onStalled(): void;
  /** `due` has come. Called at each tick until `due` is later. Must not throw. */
  onDue(now: number): void;
}

/** For `ConnectionClock`. */
export interface ConnectionClockOptions {
  /** How late a call may be, ms. */
  readonly tick: number;
  /** Monotonic ms. */
  readonly now: () => number;
  /** Called with each tick, before the connections are checked: for other time limits. */
  readonly onTick?: () => void;
}

/** Calls each watched connection when its time is over, at most a tick late. It looks when everything that has arrived has been read, and a pause of the process does not count as silence. */
export class ConnectionClock {
  readonly #watched = new Crowd<Watched>();
  readonly #now: () => number;
  readonly #onTick: () => void;
  #stop: () => void;
  #tick = 0;
  readonly #pauses = new PauseMeter();

  constructor({ tick, now, onTick = () => {} }: ConnectionClockOptions) {
    this.#now = now;
    this.#onTick = onTick;
    this.#stop = this.#start(tick);
  }

  /** Changes the tick, ms. */
  adopt(tick: number): void {
    this.#stop();
    this.#stop = this.#start(tick);
  }

  /** Until `forget`. */
  watch(item: Watched): void {
    item.seen = item.stamp;
    item.seenAt = this.#now();
    this.#watched.add(item);
  }

  /** Stops watching it. */
  forget(item: Watched): void {
    this.#watched.delete(item);
  }

  /** Checks all of them now; called by the interval. */
  tick(): void {
    this.#onTick();
    const now = this.#now();
    const pause = this.#pauses.measure(now, this.#tick);
    for (const item of this.#watched) {
      const { stamp } = item;
      if (now >= item.due) item.onDue(now);
      if (pause > 0) item.seenAt = Math.min(now, item.seenAt + pause);
      if (stamp !== item.seen) {
        item.seen = stamp;
        item.seenAt = now;
      } else if (now - item.seenAt >= item.patience) {
        item.seenAt = now;
        item.onStalled();
      }
    }
  }

  /** Nothing is watched any more. */
  close(): void {
    this.#stop();
  }

  #start(tick: number): () => void {
    this.#tick = tick;
    this.#pauses.restart();
    return lookEvery(tick, () => {
      this.tick();
    });
  }
}

/** The tick for these clocks, ms: an eighth of the shortest, between 10 ms and 1 s. */
export function tickFor(...times: readonly number[]): number {
  return Math.min(1000, Math.max(10, Math.min(...times) / 8));
}
