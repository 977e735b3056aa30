/** Work that is counted, so that it can be bounded, and done in slices. */

/** More work than is allowed. */
export class TooMuchWork extends Error {}

/** Counts steps; each is about as much as one decision. */
export interface Meter {
  /** @throws {TooMuchWork} beyond the bound */
  spend(steps: number): void;
}

/** However much it is. */
export const NO_BOUND: Meter = { spend: () => {} };

/** Up to a bound. */
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

/** All slices at once. */
export function runSteps<T>(steps: Generator<undefined, T>): T {
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
  }
}
