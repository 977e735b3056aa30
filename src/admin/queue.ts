/** Work that takes its time: so much of it at once, the rest in order, and of one caller only a little. */

export interface QueueLimits {
  readonly atOnce: number;
  /** Under way and waiting. */
  readonly most: number;
  /** The same, of one caller. */
  readonly mostOfOne: number;
}

export class Queue {
  readonly #limits: QueueLimits;
  readonly #byCaller = new Map<string, number>();
  readonly #waiting: (() => void)[] = [];
  #running = 0;

  constructor(limits: QueueLimits) {
    this.#limits = limits;
  }

  /** Resolves to what `work` does, when its time has come; rejects with what it rejects with. `busy`: it was not begun. */
  async run<T>(caller: string, work: () => Promise<T>): Promise<T | 'busy'> {
    const { atOnce, most, mostOfOne } = this.#limits;
    const mine = this.#byCaller.get(caller) ?? 0;
    if (mine >= mostOfOne || this.#running + this.#waiting.length >= most) return 'busy';
    this.#byCaller.set(caller, mine + 1);
    if (this.#running < atOnce) this.#running += 1;
    // Whoever ends hands its place over.
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    try {
      return await work();
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#running -= 1;
      else next();
      const rest = (this.#byCaller.get(caller) ?? 1) - 1;
      if (rest === 0) this.#byCaller.delete(caller);
      else this.#byCaller.set(caller, rest);
    }
  }
}
