/**
 * Time limits for what comes by a socket. After a pause of the process (a
 * stopped machine, a frozen container) timers run before what came meanwhile
 * is read: a single limit looks at the sockets once more before its time is
 * over. Code that watches many sockets looks with `lookEvery`, and leaves out the pauses that it measures.
 */

/** What is later than this, ms, comes after a pause. */
const UNUSUAL_DELAY = 1_000;

/** Measures pauses for one that is called at intervals. */
export class PauseMeter {
  #calledAt = Infinity;

  /**
   * @param now monotonic ms
   * @param interval it is called at least as often as this, ms
   * @returns how long the process has paused since the last call, ms
   */
  measure(now: number, interval: number): number {
    const late = now - this.#calledAt - interval;
    this.#calledAt = now;
    return late > UNUSUAL_DELAY ? late : 0;
  }

  /** The next call is the first again. */
  restart(): void {
    this.#calledAt = Infinity;
  }
}

/**
 * Calls `look` at intervals, each time when everything that has come by then has been read.
 * @param ms between two calls
 * @param keepsAlive whether the process waits for the next one
 * @returns ends it: there is no further call, not even one that is due in this turn
 */
export function lookEvery(ms: number, look: () => void, keepsAlive = false): () => void {
  let due: NodeJS.Immediate | undefined;
  const interval = setInterval(() => {
    due = setImmediate(look);
  }, ms);
  if (!keepsAlive) interval.unref();
  return () => {
    clearInterval(interval);
    clearImmediate(due);
  };
}

/** Calls once when the time is over, unless it is cleared before. After a pause, what is asked has the whole time again, once. */
export class TimeLimit {
  /** Of the timers of all limits: what has come is read before the end of this turn. */
  static readonly #onDue = (limit: TimeLimit): void => {
    limit.#look = setImmediate(TimeLimit.#onLooked, limit);
  };
  /** What had come by then has not been enough. */
  static readonly #onLooked = (limit: TimeLimit): void => {
    if (limit.#renewed || performance.now() - limit.#startedAt - limit.#ms <= UNUSUAL_DELAY) {
      limit.#onOver();
      return;
    }
    limit.#renewed = true;
    limit.#timer = setTimeout(TimeLimit.#onDue, limit.#ms, limit);
  };
  readonly #ms: number;
  readonly #onOver: () => void;
  readonly #startedAt = performance.now();
  #timer: NodeJS.Timeout;
  #look: NodeJS.Immediate | undefined;
  #renewed = false;

  constructor(ms: number, onOver: () => void) {
    this.#ms = ms;
    this.#onOver = onOver;
    this.#timer = setTimeout(TimeLimit.#onDue, ms, this);
  }

  /** Nothing is limited any more. */
  clear(): void {
    clearTimeout(this.#timer);
    clearImmediate(this.#look);
  }
}
