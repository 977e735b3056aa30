/** Rings of fixed size, in typed arrays: the latest entry replaces the oldest. */

/** Counters as they were at the latest steps. They may wrap: only differences are used. */
export class CounterRing {
  readonly #counters: Uint32Array;
  readonly #width: number;
  readonly #room: number;
  #count = 0;

  /** @param room steps that are kept; @param width counters of a step */
  constructor(room: number, width: number) {
    this.#counters = new Uint32Array(room * width);
    this.#width = width;
    this.#room = room;
  }

  /** The latest step: a copy is kept. */
  push(row: Uint32Array): void {
    this.#counters.set(row, (this.#count % this.#room) * this.#width);
    this.#count += 1;
  }

  /** The entry this many steps before the latest, or else the oldest. */
  ago(steps: number): Uint32Array {
    const from = (Math.max(0, this.#count - 1 - Math.min(steps, this.#room - 1)) % this.#room) * this.#width;
    return this.#counters.subarray(from, from + this.#width);
  }
}

/** Numbers of the latest steps; null: not known. */
export class ValueRing {
  readonly #values: Float32Array;
  #count = 0;

  /** @param room steps that are kept */
  constructor(room: number) {
    this.#values = new Float32Array(room).fill(Number.NaN);
  }

  /** Of the latest step. */
  push(value: number | null): void {
    this.#values[this.#count % this.#values.length] = value ?? Number.NaN;
    this.#count += 1;
  }

  /** The oldest first, rounded. @param most maximum number of the latest entries */
  list(most: number): (number | null)[] {
    const length = Math.min(most, this.#count, this.#values.length);
    return Array.from({ length }, (_, i) => {
      const value = this.#values[(this.#count - length + i) % this.#values.length] ?? Number.NaN;
      return Number.isNaN(value) ? null : Number(value.toPrecision(3));
    });
  }
}
