/** The time of a drain in the hands of a test: it runs by itself until it is stopped, and then only when it is moved. */
import type { DrainClock } from '../../src/drain/drain.ts';

export class ManualDrainClock implements DrainClock {
  #stoppedAt: number | null = null;
  #timer: { readonly every: number; readonly step: () => void; next: number } | null = null;
  readonly #armed = Promise.withResolvers<undefined>();

  /** The drain has armed its one timer. */
  get armed(): Promise<undefined> {
    return this.#armed.promise;
  }

  now(): number {
    return this.#stoppedAt ?? performance.now();
  }

  /** From now on it is so many ms later, and time stands still. */
  stop(later: number): void {
    this.#stoppedAt = performance.now() + later;
  }

  every(ms: number, step: () => void): () => void {
    if (this.#timer !== null) throw new Error('a drain has one timer');
    this.#timer = { every: ms, step, next: this.now() + ms };
    this.#armed.resolve(undefined);
    return () => {
      this.#timer = null;
    };
  }

  /** Lets time pass, with each step of the timer at its moment. */
  pass(ms: number): void {
    const until = this.now() + ms;
    while (this.#timer !== null && this.#timer.next <= until) {
      this.#stoppedAt = this.#timer.next;
      this.#timer.next += this.#timer.every;
      this.#timer.step();
    }
    this.#stoppedAt = until;
  }
}
