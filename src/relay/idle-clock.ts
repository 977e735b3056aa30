/**
 * One timer for all tunnels. Each tick it looks which of them moved no byte
 * since too long, or live too long: nothing is armed or refreshed per chunk.
 */

/** What the clock watches. */
export interface Clocked {
  /** Grows with every byte, either way. */
  readonly moved: number;
  /** Silent for the idle time, or older than the age limit. */
  onIdle(): void;
  onTooOld(): void;
}

interface Watch {
  moved: number;
  movedAt: number;
  readonly since: number;
}

export interface IdleClockOptions {
  /** Longest silence and greatest age, ms. */
  readonly idle: number;
  readonly age: number;
  /** Monotonic milliseconds. */
  readonly now: () => number;
}

export class IdleClock {
  readonly #options: IdleClockOptions;
  readonly #watched = new Map<Clocked, Watch>();
  readonly #interval: NodeJS.Timeout;

  /** The tick is an eighth of the idle time, between 10 ms and 1 s: that is how late the clock may be. */
  constructor(options: IdleClockOptions) {
    this.#options = options;
    const tick = Math.min(1000, Math.max(10, Math.min(options.idle, options.age) / 8));
    this.#interval = setInterval(() => {
      this.tick();
    }, tick).unref();
  }

  add(item: Clocked): void {
    const now = this.#options.now();
    this.#watched.set(item, { moved: item.moved, movedAt: now, since: now });
  }

  delete(item: Clocked): void {
    this.#watched.delete(item);
  }

  tick(): void {
    const { idle, age } = this.#options;
    const now = this.#options.now();
    for (const [item, watch] of this.#watched) {
      if (item.moved !== watch.moved) {
        watch.moved = item.moved;
        watch.movedAt = now;
      }
      if (now - watch.since >= age) item.onTooOld();
      else if (now - watch.movedAt >= idle) item.onIdle();
    }
  }

  close(): void {
    clearInterval(this.#interval);
    this.#watched.clear();
  }
}
