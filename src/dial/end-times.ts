/** When connections ended, oldest first: a queue that costs one number each and forgets from its front. */

/** Below this many forgotten entries the array is left as it is. */
const COMPACT_AT = 1024;

export class EndTimes {
  #times: number[] = [];
  #head = 0;

  get length(): number {
    return this.#times.length - this.#head;
  }

  /** The one that `index` others precede; undefined past the end. */
  at(index: number): number | undefined {
    return this.#times[this.#head + index];
  }

  /** @param time no earlier than the last */
  push(time: number): void {
    this.#times.push(time);
  }

  /** Forgets what ended at `time` or before. */
  forgetUntil(time: number): void {
    for (let first = this.at(0); first !== undefined && first <= time; first = this.at(0)) this.#head += 1;
    if (this.#head === this.#times.length) {
      this.#times = [];
      this.#head = 0;
    } else if (this.#head > COMPACT_AT && this.#head * 2 > this.#times.length) {
      this.#times = this.#times.slice(this.#head);
      this.#head = 0;
    }
  }
}
