/**
 * Places that several clients share. A client may hold no more of them than
 * are still free: one alone gets half, two get a third each, and there is
 * always something left for the next one. (Choudhury and Hahne, "Dynamic queue
 * length thresholds for shared-memory packet switches", 1998, with α = 1.)
 */
export class FairShare {
  readonly #held = new Map<string, number>();
  #size: number;
  #total = 0;

  constructor(size: number) {
    this.#size = size;
  }

  get total(): number {
    return this.#total;
  }

  /** Another number of places; who holds more than its share now gives none back. */
  resize(size: number): void {
    this.#size = size;
  }

  /** How many this client holds. */
  heldBy(client: string): number {
    return this.#held.get(client) ?? 0;
  }

  /** How many the one holds that holds the most. */
  get most(): number {
    return Math.max(0, ...this.#held.values());
  }

  /** Whether this client may take another. */
  admits(client: string): boolean {
    const free = this.#size - this.#total;
    return free > 0 && this.heldBy(client) < free;
  }

  take(client: string): void {
    this.#held.set(client, this.heldBy(client) + 1);
    this.#total += 1;
  }

  /** Answers one `take`. */
  giveBack(client: string): void {
    const rest = this.heldBy(client) - 1;
    this.#total -= 1;
    if (rest > 0) this.#held.set(client, rest);
    else this.#held.delete(client);
  }
}
