/**
 * A set, and counts by name, whose members come and go by the thousands a
 * second. `Set` and `Map` do the same, but when one is full of holes it moves
 * to another table, to which the previous table points: once one of those is in
 * the old generation, each later one is promoted too, with all members of that
 * time, dead or not, until a full collection
 * (docs/decisions/0120-buffers-and-sets.md).
 */

/** By the symbol of a set: the position among its members. */
type Placed = Record<symbol, number | undefined>;

/** A set of objects. Membership is stored in the member itself, under a symbol of this set, so all operations take constant time. */
export class Crowd<T extends object> {
  /** The key under which a member has its position among the members; -1: it has left. */
  readonly #place = Symbol('place in a crowd');
  readonly #members: T[] = [];
  /** Callers that wait until it is empty. */
  readonly #waiting: (() => void)[] = [];

  get size(): number {
    return this.#members.length;
  }

  has(member: T): boolean {
    return ((member as Placed)[this.#place] ?? -1) >= 0;
  }

  /** A member stays one. */
  add(member: T): void {
    const placed = member as Placed;
    if ((placed[this.#place] ?? -1) >= 0) return;
    placed[this.#place] = this.#members.length;
    this.#members.push(member);
  }

  /** @returns whether it was a member */
  delete(member: T): boolean {
    const placed = member as Placed;
    const place = placed[this.#place] ?? -1;
    if (place < 0) return false;
    const last = this.#members.pop();
    // The last member takes the free position, unless it is the one that leaves.
    if (last !== undefined && last !== member) {
      this.#members[place] = last;
      (last as Placed)[this.#place] = place;
    }
    placed[this.#place] = -1;
    if (this.#members.length === 0) for (const done of this.#waiting.splice(0)) done();
    return true;
  }

  /** Resolves as soon as it is empty: at once if it is already. */
  emptied(): Promise<void> {
    if (this.#members.length === 0) return Promise.resolve();
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** The current members, in any order. Members may leave meanwhile, and others may come. */
  [Symbol.iterator](): ArrayIterator<T> {
    return [...this.#members].values();
  }
}

/** Names with count zero are kept up to this many, or as many as there are others. */
const KEPT_ZEROS = 64;

/**
 * Counts by name. A name whose count is zero again stays for a while: it
 * usually comes back, and leaving would create a hole. All operations take
 * constant time, some of them on average.
 */
export class Tally {
  readonly #counts = new Map<string, number>();
  /** Names whose count is zero. */
  #zeros = 0;

  /** Zero for a name that was never counted. */
  of(name: string): number {
    return this.#counts.get(name) ?? 0;
  }

  /** The largest count of all. */
  get most(): number {
    let most = 0;
    for (const count of this.#counts.values()) most = Math.max(most, count);
    return most;
  }

  /** Names that are kept, with or without a count: at most twice as many as have one, and 64. */
  get size(): number {
    return this.#counts.size;
  }

  /** One more. */
  add(name: string): void {
    const before = this.#counts.get(name);
    this.#counts.set(name, (before ?? 0) + 1);
    if (before === 0) this.#zeros -= 1;
  }

  /** One less; each reverts one `add`. */
  remove(name: string): void {
    const rest = this.of(name) - 1;
    if (rest < 0) throw new Error(`the count of ${name} would be negative`);
    this.#counts.set(name, rest);
    if (rest > 0) return;
    this.#zeros += 1;
    if (this.#zeros > KEPT_ZEROS && this.#zeros * 2 > this.#counts.size) this.#forgetZeros();
  }

  #forgetZeros(): void {
    for (const [name, count] of this.#counts) if (count === 0) this.#counts.delete(name);
    this.#zeros = 0;
  }
}
