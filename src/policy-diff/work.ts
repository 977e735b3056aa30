/** Counts work, so that it can be limited, and done in slices. */
import type { Turns } from '../turns.ts';

/** More work than is allowed. */
export class TooMuchWork extends Error {}

/** Counts steps; each is about as much as one decision. */
export interface Meter {
  /** @throws {TooMuchWork} beyond the bound */
  spend(steps: number): void;
}

/** Without a limit. */
export const NO_BOUND: Meter = { spend: () => {} };

/** With a limit. */
export class BoundedMeter implements Meter {
  readonly #most: number;
  spent = 0;

  constructor(most: number) {
    this.#most = most;
  }

  spend(steps: number): void {
    this.spent += steps;
    if (this.spent > this.#most) throw new TooMuchWork(`more than ${this.#most} steps`);
  }
}

/** About a millisecond. */
const STEPS_A_TURN = 500;

/** In slices, between which other tasks run. Null: it was cancelled. @throws the errors of the steps */
export async function runInTurns<T>(
  steps: Generator<undefined, T>,
  meter: BoundedMeter,
  turns: Turns,
  isWanted: () => boolean = () => true,
): Promise<T | null> {
  for (let enough = 0; isWanted(); enough = meter.spent + STEPS_A_TURN) {
    await turns.next();
    let step: IteratorResult<undefined, T>;
    do {
      step = steps.next();
      if (step.done === true) return step.value;
    } while (meter.spent < enough);
  }
  return null;
}

/** All slices at once. */
export function runSteps<T>(steps: Generator<undefined, T>): T {
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
  }
}
