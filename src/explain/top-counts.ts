/**
 * Counts what comes most often, in bounded memory: the Space-Saving algorithm
 * (Metwally, Agrawal and El Abbadi, "Efficient Computation of Frequent and
 * Top-k Elements in Data Streams", 2005).
 */

export interface Counted<T> {
  readonly key: string;
  /** How often it came, and at most `error` too many. */
  readonly count: number;
  /** What the one whose place it took had been counted. */
  readonly error: number;
  /** Of the latest time it came. */
  readonly latest: T;
}

interface Counter<T> {
  key: string;
  count: number;
  error: number;
  latest: T;
}

/**
 * With room for K keys and after N counts, the smallest count is at most N / K:
 * so every key that came more often is among them, and what was counted c times
 * is pushed out only after some K × c others.
 */
export class TopCounts<T> {
  readonly #counters = new Map<string, Counter<T>>();
  readonly #room: number;

  constructor(room: number) {
    this.#room = room;
  }

  get size(): number {
    return this.#counters.size;
  }

  count(key: string, latest: T): void {
    const known = this.#counters.get(key);
    if (known !== undefined) {
      known.count += 1;
      known.latest = latest;
      return;
    }
    const least = this.#counters.size < this.#room ? null : this.#least();
    if (least !== null) this.#counters.delete(least.key);
    const error = least?.count ?? 0;
    this.#counters.set(key, { key, count: error + 1, error, latest });
  }

  /** The most frequent first; those of the same count by what is certain of it. */
  top(most: number): Counted<T>[] {
    return [...this.#counters.values()]
      .sort((one, other) => other.count - one.count || one.error - other.error)
      .slice(0, most)
      .map((counter) => ({ ...counter }));
  }

  /** A walk over all of them: there are few, and only what is denied and new comes here. */
  #least(): Counter<T> | null {
    let least: Counter<T> | null = null;
    for (const counter of this.#counters.values()) if (least === null || counter.count < least.count) least = counter;
    return least;
  }
}
