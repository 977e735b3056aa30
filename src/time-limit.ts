/**
 * A time limit for what comes by a socket. After a pause of the process (a
 * stopped machine, a frozen container) timers run before what came meanwhile
 * is read, so the sockets are looked at once more before the time is over.
 */

/** A limit that is later than this, ms, had a pause in it: what is asked after the pause has the whole time again, once. */
const UNUSUAL_DELAY = 1_000;

// One function each for all limits.
function onDue(limit: TimeLimit): void {
  limit.due();
}
function onLooked(limit: TimeLimit): void {
  limit.looked();
}

/** Calls once when the time is over, unless it is cleared before. */
export class TimeLimit {
  readonly #ms: number;
  readonly #onOver: () => void;
  readonly #startedAt = performance.now();
  #timer: NodeJS.Timeout;
  #look: NodeJS.Immediate | undefined;
  #renewed = false;

  constructor(ms: number, onOver: () => void) {
    this.#ms = ms;
    this.#onOver = onOver;
    this.#timer = setTimeout(onDue, ms, this);
  }

  /** Of its timer: what has come is read before the end of this turn. */
  due(): void {
    this.#look = setImmediate(onLooked, this);
  }

  /** What had come by then has not been enough. */
  looked(): void {
    if (this.#renewed || performance.now() - this.#startedAt - this.#ms <= UNUSUAL_DELAY) {
      this.#onOver();
      return;
    }
    this.#renewed = true;
    this.#timer = setTimeout(onDue, this.#ms, this);
  }

  /** Nothing is limited any more. */
  clear(): void {
    clearTimeout(this.#timer);
    clearImmediate(this.#look);
  }
}
