/** What was asked of late, so that a new policy can be asked about real traffic before it takes over. */
import type { Ask } from '../policy/verdict.ts';
import { detach } from '../target/detach.ts';

/** A path longer than this is not remembered with its ask: a few clients with huge URLs must not cost megabytes. */
const LONGEST_PATH = 2048;

export class DecisionRing {
  readonly #entries: Ask[] = [];
  #size: number;
  #next = 0;
  /** When the last one was asked that was permitted, ms since the epoch. */
  #permittedAt = 0;

  /** @param size how many are kept; 0 for none */
  constructor(size: number) {
    this.#size = size;
  }

  /**
   * Of what is permitted within one millisecond the first is enough: of
   * thousands of requests a second, each would otherwise outlive its time in
   * the young generation, and cost the collector more than all the rest of it.
   */
  remember(ask: Ask, permitted: boolean): void {
    if (permitted && ask.now === this.#permittedAt) return;
    if (permitted) this.#permittedAt = ask.now;
    if (this.#size === 0 || (ask.path !== null && ask.path.length > LONGEST_PATH)) return;
    this.#entries[this.#next] = { ...ask, host: detach(ask.host), path: ask.path === null ? null : detach(ask.path) };
    this.#next = (this.#next + 1) % this.#size;
  }

  /** In no particular order. */
  entries(): readonly Ask[] {
    return this.#entries;
  }

  /** Another size; starts empty when it changes. */
  adopt(size: number): void {
    if (size === this.#size) return;
    this.#size = size;
    this.#entries.length = 0;
    this.#next = 0;
  }
}
