/**
 * Cancels a dial. AbortController does the same, but costs 4 % of a tunnel's
 * set-up, because its signal is an event target that the garbage collector has
 * to watch (docs/performance.md). An AbortSignal can be passed where a
 * CancelSignal is expected.
 */

/** Called once, when it is cancelled; an object, called by its method. */
export type CancelListener = (() => void) | { handleEvent(): void };

/** The part of AbortSignal that a wait needs. */
export interface CancelSignal {
  /** It has been cancelled. */
  readonly aborted: boolean;
  /** The reason: the argument of `abort`. */
  readonly reason: unknown;
  /** A listener added after cancellation is not called: check `aborted` first. */
  addEventListener(type: 'abort', listener: CancelListener): void;
  /** Unknown listeners are ignored. */
  removeEventListener(type: 'abort', listener: CancelListener): void;
}

/** Its owner calls `abort`; those that get it as a CancelSignal can only listen. */
export class Cancellation implements CancelSignal {
  aborted = false;
  reason: unknown = undefined;
  readonly #listeners: CancelListener[] = [];

  addEventListener(_type: 'abort', listener: CancelListener): void {
    if (!this.aborted) this.#listeners.push(listener);
  }

  removeEventListener(_type: 'abort', listener: CancelListener): void {
    const at = this.#listeners.indexOf(listener);
    if (at !== -1) this.#listeners.splice(at, 1);
  }

  /** Calls every listener, even if others throw; only the first call counts. @throws the first error of a listener, once all have been called */
  abort(reason?: unknown): void {
    if (this.aborted) return;
    this.aborted = true;
    this.reason = reason;
    const failures: unknown[] = [];
    // One after the other: a listener may remove others.
    for (let listener = this.#listeners.shift(); listener !== undefined; listener = this.#listeners.shift()) {
      try {
        if (typeof listener === 'function') listener();
        else listener.handleEvent();
      } catch (error) {
        failures.push(error);
      }
    }
    if (failures.length > 0) throw failures[0];
  }
}
