/**
 * Token buckets by name, in bounded memory. A name whose buckets are full has
 * no entry, or one that may be evicted; a name that has used tokens is never
 * evicted for others. Pure: the time is an argument.
 */

/** How a bucket is filled; null in a list of kinds: that kind is not limited. */
export interface Refill {
  /** Tokens added per millisecond. */
  readonly perMs: number;
  readonly burst: number;
}

/** One token, minus rounding errors of sums. */
const ONE = 1 - 1e-9;
/** A walk over all entries takes up to some milliseconds; it is not repeated sooner than this, ms. */
const FORGET_EVERY = 100;
const FIRST_ROOM = 16;
/** The position of the buckets shared by all names without an entry while there is no room. */
export const SHARED = 0;
/** The position of a name whose buckets are full. */
const NOT_KEPT = -1;

/** Buckets of several kinds for each name. */
export class RateBuckets {
  #refills: readonly (Refill | null)[];
  #capacity: number;
  /** Names to positions. Rebuilt when entries are dropped: see src/crowd.ts for why holes are bad. */
  #places = new Map<string, number>();
  /** For each position: when its levels were computed, then the level of each kind. */
  #numbers: Float64Array;
  #forgotAt = -Infinity;
  #shared = 0;

  /**
   * @param refills of each kind
   * @param capacity most names with an entry; at least one
   */
  constructor(refills: readonly (Refill | null)[], capacity: number) {
    this.#refills = refills;
    this.#capacity = capacity;
    this.#numbers = new Float64Array(FIRST_ROOM * this.#width);
    this.#fill(SHARED, 0);
  }

  /** Names that have an entry; some of their buckets may be full again. */
  get size(): number {
    return this.#places.size;
  }

  /** How often tokens were taken from the shared buckets. */
  get shared(): number {
    return this.#shared;
  }

  /** Kinds whose refill has changed begin full; the others are kept. */
  adopt(refills: readonly (Refill | null)[], capacity: number): void {
    const changed = refills.map((refill, kind) => !sameRefill(refill, this.#refills[kind] ?? null));
    this.#refills = refills;
    this.#capacity = capacity;
    for (let place = 0; place <= this.#places.size; place += 1) {
      for (const [kind, differs] of changed.entries())
        if (differs) this.#numbers[place * this.#width + 1 + kind] = refills[kind]?.burst ?? Infinity;
    }
  }

  /** The position of a name's buckets, for `wait` in the same turn. Its levels are updated to now. */
  find(name: string, now: number): number {
    const place = this.#places.get(name) ?? (this.#places.size < this.#capacity || this.#forgetFull(now) ? NOT_KEPT : SHARED);
    if (place !== NOT_KEPT) this.#refill(place, now);
    return place;
  }

  /** How long until there is a token, ms; 0: there is one. Takes nothing. */
  wait(place: number, kind: number): number {
    const refill = this.#refills[kind] ?? null;
    if (refill === null || place === NOT_KEPT) return 0;
    const level = this.#numbers[place * this.#width + 1 + kind] ?? 0;
    return level >= ONE ? 0 : (ONE - level) / refill.perMs;
  }

  /** Takes tokens, even if there are none: the debt is at most one whole bucket. */
  take(name: string, kind: number, tokens: number, now: number): void {
    const refill = this.#refills[kind] ?? null;
    if (refill === null) return;
    const found = this.find(name, now);
    const place = found === NOT_KEPT ? this.#enter(name, now) : found;
    if (place === SHARED) this.#shared += 1;
    const at = place * this.#width + 1 + kind;
    this.#numbers[at] = Math.max(-refill.burst, (this.#numbers[at] ?? 0) - tokens);
  }

  /** Returns a token that was taken; a name whose buckets are full again lacks none. */
  giveBack(name: string, kind: number, now: number): void {
    const refill = this.#refills[kind] ?? null;
    const place = this.find(name, now);
    if (refill === null || place === NOT_KEPT) return;
    const at = place * this.#width + 1 + kind;
    this.#numbers[at] = Math.min(refill.burst, (this.#numbers[at] ?? 0) + 1);
  }

  get #width(): number {
    return 1 + this.#refills.length;
  }

  #enter(name: string, now: number): number {
    const place = this.#places.size + 1;
    const needed = (place + 1) * this.#width;
    if (needed > this.#numbers.length) {
      const numbers = new Float64Array(needed * 2);
      numbers.set(this.#numbers);
      this.#numbers = numbers;
    }
    this.#places.set(name, place);
    this.#fill(place, now);
    return place;
  }

  #fill(place: number, now: number): void {
    const start = place * this.#width;
    this.#numbers[start] = now;
    for (const [kind, refill] of this.#refills.entries()) this.#numbers[start + 1 + kind] = refill?.burst ?? Infinity;
  }

  #refill(place: number, now: number): void {
    const numbers = this.#numbers;
    const start = place * this.#width;
    const passed = now - (numbers[start] ?? 0);
    if (passed <= 0) return;
    numbers[start] = now;
    for (let kind = 0; kind < this.#refills.length; kind += 1) {
      const refill = this.#refills[kind] ?? null;
      if (refill !== null) numbers[start + 1 + kind] = Math.min(refill.burst, (numbers[start + 1 + kind] ?? 0) + passed * refill.perMs);
    }
  }

  #isFull(place: number, now: number): boolean {
    this.#refill(place, now);
    for (let kind = 0; kind < this.#refills.length; kind += 1) {
      const refill = this.#refills[kind] ?? null;
      if (refill !== null && (this.#numbers[place * this.#width + 1 + kind] ?? 0) < refill.burst) return false;
    }
    return true;
  }

  /** Drops entries whose buckets are full again. @returns whether there is room now */
  #forgetFull(now: number): boolean {
    if (now - this.#forgotAt < FORGET_EVERY) return false;
    this.#forgotAt = now;
    let some = false;
    for (let place = 1; place <= this.#places.size && !some; place += 1) some = this.#isFull(place, now);
    if (!some) return false;
    const kept = new Map<string, number>();
    const width = this.#width;
    for (const [name, place] of this.#places) {
      if (this.#isFull(place, now)) continue;
      // Positions are in the order of the map, so no entry is overwritten before it is moved.
      const to = kept.size + 1;
      this.#numbers.copyWithin(to * width, place * width, (place + 1) * width);
      kept.set(name, to);
    }
    this.#places = kept;
    return kept.size < this.#capacity;
  }
}

function sameRefill(one: Refill | null, other: Refill | null): boolean {
  return one?.perMs === other?.perMs && one?.burst === other?.burst;
}
