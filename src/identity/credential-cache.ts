/**
 * Remembers which credentials were accepted or refused, without keeping them:
 * entries are found by a keyed hash. Refused ones live apart and shortly, so
 * that a flood of them cannot push accepted ones out.
 */
import { hash, randomBytes } from 'node:crypto';
import { LRUCache } from 'lru-cache';

interface Entry<V> {
  readonly value: V;
  readonly until: number;
  /** Asked at each use, null: only time ends it. */
  readonly stillHolds: (() => boolean) | null;
}

export interface CredentialCacheOptions {
  readonly now: () => number;
  readonly mostAccepted: number;
  readonly mostRefused: number;
}

export class CredentialCache<V> {
  readonly #now: () => number;
  readonly #accepted: LRUCache<string, Entry<V>>;
  readonly #refused: LRUCache<string, Entry<V>>;
  /** Of this process alone: the entries say nothing to anybody else. */
  readonly #secret = randomBytes(32).toString('base64');

  constructor({ now, mostAccepted, mostRefused }: CredentialCacheOptions) {
    this.#now = now;
    this.#accepted = new LRUCache({ max: mostAccepted });
    this.#refused = new LRUCache({ max: mostRefused });
  }

  get size(): number {
    return this.#accepted.size + this.#refused.size;
  }

  keyOf(text: string): string {
    return hash('sha256', this.#secret + text, 'base64');
  }

  find(key: string): V | undefined {
    return this.#findIn(this.#accepted, key) ?? this.#findIn(this.#refused, key);
  }

  /** @param until in ms, on the clock of `now` */
  accept(key: string, value: V, until: number, stillHolds: () => boolean): void {
    this.#refused.delete(key);
    this.#accepted.set(key, { value, until, stillHolds });
  }

  refuse(key: string, value: V, until: number): void {
    this.#refused.set(key, { value, until, stillHolds: null });
  }

  /** What was refused may be accepted from now on. */
  forgetRefused(): void {
    this.#refused.clear();
  }

  #findIn(entries: LRUCache<string, Entry<V>>, key: string): V | undefined {
    const entry = entries.get(key);
    if (entry === undefined) return undefined;
    if (this.#now() < entry.until && (entry.stillHolds === null || entry.stillHolds())) return entry.value;
    entries.delete(key);
    return undefined;
  }
}
