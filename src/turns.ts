/** Long work is done in slices, one per turn of the event loop, so that other work continues in between; slow work a few pieces at a time. */
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

/** Runs work when it is its turn. */
export type TakeTurn = <T>(work: () => Promise<T>) => Promise<T>;

/** Limits how many tasks run at once; the others wait in order. */
export function takeTurns(most: number): TakeTurn {
  const waiting: (() => void)[] = [];
  let running = 0;
  return async (work) => {
    if (running >= most) await new Promise<void>((resolve) => waiting.push(resolve));
    else running += 1;
    try {
      return await work();
    } finally {
      const next = waiting.shift();
      // The next task takes this place.
      if (next === undefined) running -= 1;
      else next();
    }
  };
}
