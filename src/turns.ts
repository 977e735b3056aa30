/** Long work is done in slices, one per turn of the event loop, so that other work continues in between. */
import { setImmediate as nextTurn } from 'node:timers/promises';

/** Hands out turns of the event loop, one to each caller, in the order of the calls. */
export class Turns {
  /** The turn that was given out last. */
  #last: Promise<void> = Promise.resolve();

  /** Resolves in a turn of the event loop that no other caller has: callers get turns in the order of their calls. */
  next(): Promise<void> {
    this.#last = this.#last.then(() => nextTurn());
    return this.#last;
  }
}
