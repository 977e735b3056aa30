/**
 * A set whose members come and go by the thousands a second. A `Set` does the
 * same, but whenever it is full of holes it moves to another table, which the
 * table it left points to: once one of those is in the old generation, each
 * that follows is taken there too, and with it whatever was a member then,
 * dead or not, until a full collection (docs/decisions/0120-buffers-and-sets.md).
 */
/** By the symbol of a set: the place among its members. */
type Placed = Record<symbol, number | undefined>;

/** A set of objects. Membership is noted in the member itself, under a symbol of this set, so all operations take constant time. */
export class Crowd<T extends object> {
  /** Where a member has its place among the members; -1: it has left. */
  readonly #place = Symbol('place in a crowd');
  readonly #members: T[] = [];
  /** Who waits until nobody is left. */
  readonly #waiting: (() => void)[] = [];

  get size(): number {
    return this.#members.length;
  }

  has(member: T): boolean {
    return ((member as Placed)[this.#place] ?? -1) >= 0;
  }

  /** Who is in it already stays. */
  add(member: T): void {
    const placed = member as Placed;
    if ((placed[this.#place] ?? -1) >= 0) return;
    placed[this.#place] = this.#members.length;
    this.#members.push(member);
  }

  /** @returns whether it was in it */
  delete(member: T): boolean {
    const placed = member as Placed;
    const place = placed[this.#place] ?? -1;
    if (place < 0) return false;
    const last = this.#members.pop();
    // The last one takes the place that is free now, unless it is the one that leaves.
    if (last !== undefined && last !== member) {
      this.#members[place] = last;
      (last as Placed)[this.#place] = place;
    }
    placed[this.#place] = -1;
    if (this.#members.length === 0) for (const done of this.#waiting.splice(0)) done();
    return true;
  }

  /** Resolves as soon as nobody is in it: at once where nobody is. */
  emptied(): Promise<void> {
    if (this.#members.length === 0) return Promise.resolve();
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** Those that are in it now, in any order. They may leave meanwhile, and others may come. */
  [Symbol.iterator](): ArrayIterator<T> {
    return [...this.#members].values();
  }
}
