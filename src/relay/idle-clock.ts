/**
 * One timer for all tunnels. Each tick it looks which of them moved no byte
 * since too long, or live too long: nothing is armed or refreshed per chunk.
 */
import { Crowd } from '../crowd.ts';
import { guard } from './tunnel-events.ts';

/** What the clock watches. */
export interface Clocked {
  /** Grows with every byte, either way. */
  readonly moved: number;
  /** It has lasted for a while, and goes on: told once. */
  onLasting(): void;
  /** Silent for the idle time, or older than the age limit. */
  onIdle(): void;
  onTooOld(): void;
  /** One of these threw. */
  crashed(error: unknown): void;
}

/** What lasts this long, ms, is not over at once like most. */
const LASTING = 5_000;

const kWatch = Symbol('watch');
type ClockedObject = Clocked & { [kWatch]?: Watch };

interface Watch {
  moved: number;
  movedAt: number;
  lasting: boolean;
  readonly since: number;
}

/** Longest silence and greatest age, ms. */
export interface IdleTimes {
  readonly idle: number;
  readonly age: number;
}

/** For `IdleClock`; idle and age are in ms. */
export interface IdleClockOptions extends IdleTimes {
  /** Monotonic milliseconds. */
  readonly now: () => number;
  /** Called with each tick, before the tunnels are looked at: for what else ends by the clock. */
  readonly onTick?: () => void;
}

/** Tells each tunnel when it is idle, long-lived or too old, at most a tick late. */
export class IdleClock {
  readonly #now: () => number;
  readonly #onTick: () => void;
  #times: IdleTimes;
  readonly #watched = new Crowd<ClockedObject>();
  #interval: NodeJS.Timeout;

  constructor({ idle, age, now, onTick = () => {} }: IdleClockOptions) {
    this.#now = now;
    this.#onTick = onTick;
    this.#times = { idle, age };
    this.#interval = this.#start();
  }

  /** Other times from now on, also for what is watched already. */
  adopt(times: IdleTimes): void {
    clearInterval(this.#interval);
    this.#times = times;
    this.#interval = this.#start();
  }

  /** Watches a tunnel from now on. */
  add(item: ClockedObject): void {
    const now = this.#now();
    item[kWatch] = { moved: item.moved, movedAt: now, lasting: false, since: now };
    this.#watched.add(item);
  }

  /** Watches it no more. */
  delete(item: Clocked): void {
    this.#watched.delete(item);
  }

  /** Looks at all of them now; the interval calls it. */
  tick(): void {
    this.#onTick();
    const now = this.#now();
    for (const item of this.#watched) {
      const watch = item[kWatch];
      if (watch === undefined || !this.#watched.has(item)) continue;
      if (item.moved !== watch.moved) {
        watch.moved = item.moved;
        watch.movedAt = now;
      }
      guard(item, () => {
        this.#tell(item, watch, now);
      });
    }
  }

  #tell(item: ClockedObject, watch: Watch, now: number): void {
    const { idle, age } = this.#times;
    if (!watch.lasting && now - watch.since >= LASTING) {
      watch.lasting = true;
      item.onLasting();
    }
    if (now - watch.since >= age) item.onTooOld();
    else if (now - watch.movedAt >= idle) item.onIdle();
  }

  /** The tick is an eighth of the shorter time, between 10 ms and 1 s: that is how late the clock may be. */
  #start(): NodeJS.Timeout {
    const tick = Math.min(1000, Math.max(10, Math.min(this.#times.idle, this.#times.age) / 8));
    return setInterval(() => {
      this.tick();
    }, tick).unref();
  }

  /** Ends the interval; nothing is watched any more. */
  close(): void {
    clearInterval(this.#interval);
    for (const item of this.#watched) this.#watched.delete(item);
  }
}
