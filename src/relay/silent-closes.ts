/**
 * How often an upstream closes connections without `Connection: close`, and
 * so how carefully they are used again (docs/http.md#reuse-and-retries).
 *
 * Each connection that could be used again is evidence once it has been used
 * again, has stayed open, or has closed. The mean of the latest decides.
 */

/** Weight of the latest connection in the mean. */
const WEIGHT = 1 / 16;
const DOUBTFUL = 0.02;
const SILENT = 0.05;
/** Nothing is known: doubtful, and one close is enough for silent. */
const UNKNOWN = 0.04;

export class SilentCloses {
  #mean = UNKNOWN;

  /** A connection was used again, or stayed open while idle. */
  noteKept(): void {
    this.#mean -= this.#mean * WEIGHT;
  }

  /** A connection closed where it could have been used again. */
  noteClosed(): void {
    this.#mean += (1 - this.#mean) * WEIGHT;
  }

  /** One close in fifty or more: a connection rests before it carries what must not be repeated. */
  get areDoubtful(): boolean {
    return this.#mean >= DOUBTFUL;
  }

  /** One close in twenty or more: what must not be repeated takes only a connection that was never used. */
  get areFrequent(): boolean {
    return this.#mean >= SILENT;
  }
}
