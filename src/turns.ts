/** Work that may take long is done in slices, one in each turn of the event loop, so that everybody else gets on in between. */
import { setImmediate as nextTurn } from 'node:timers/promises';

/** Hands out turns of the event loop, one to each caller, in the order of asking. */
export class Turns {
  /** The turn that was given out last. */
  #last: Promise<void> = Promise.resolve();

  /** Resolves in a turn of the loop that nobody else has got: whoever waits takes it in the order of asking. */
  next(): Promise<void> {
    this.#last = this.#last.then(() => nextTurn());
    return this.#last;
  }
}
