/**
 * The circuit of one address: a state machine that counts failures in a row,
 * opens, lets one trial through after each pause, and closes with the first
 * success. Pure: each method is told the time.
 */
import type { CircuitBreakerConfig } from '../config/config.ts';

/**
 * - `closed`: used like any other.
 * - `open`: not used before its pause is over.
 * - `due`: its pause is over, and the next request may be the trial.
 * - `half-open`: a trial is under way.
 */
export type CircuitState = 'closed' | 'open' | 'due' | 'half-open';

/** What counts against an address. */
export interface CircuitFailure {
  /** One sentence, or the name of an error. */
  readonly reason: string;
  /** The client to which it may be due, since the failure came after its request was sent; null: it would have happened to any. */
  readonly client: string | null;
  /** The connection was ready, so that another one that is ready proves nothing. */
  readonly unanswered: boolean;
}

/** The right to try an address whose circuit is open. Known by its identity: one that has lapsed counts for nothing. */
export interface CircuitTrial {
  /** When it began, ms. */
  readonly at: number;
}

/** Without a failure or a trial for so long, ms, an address is forgotten. */
const FORGET_MS = 600_000;
/** A pause differs from the configured one by at most this part of it, so that replicas do not try all at once. */
const PAUSE_JITTER = 1 / 10;

/** One address that has failed. Times are monotonic ms. */
export class Circuit {
  /** Failures in a row. */
  failures = 0;
  /** Of the latest failure. */
  reason = '';
  /** To whose requests alone the failures may be due; null: to nobody's. */
  client: string | null = null;
  /** When it opened; null: it is closed. */
  openSince: number | null = null;
  readonly #terms: CircuitBreakerConfig;
  /** Below 1, from 0. */
  readonly #random: () => number;
  /** Of the first failure in the row, and of what happened last. */
  #firstAt = 0;
  #touchedAt = 0;
  /** Some failure came after the connection was ready. */
  #unanswered = false;
  #pause = 0;
  #until = 0;
  #trial: CircuitTrial | null = null;

  constructor(terms: CircuitBreakerConfig, random: () => number) {
    this.#terms = terms;
    this.#random = random;
  }

  /** What may be done with the address now. */
  state(now: number): CircuitState {
    if (this.openSince === null) return 'closed';
    // A trial that has no result for so long, such as a large upload, does not stand in the way of another.
    if (this.#trial !== null && now < this.#trial.at + this.#terms.longestPause) return 'half-open';
    return now < this.#until ? 'open' : 'due';
  }

  /** When another request may try it, unless the trial under way succeeds before. */
  nextTrialAt(now: number): number {
    return this.state(now) === 'half-open' ? (this.#trial?.at ?? now) + this.#terms.longestPause : this.#until;
  }

  /** Whether requests of this client must not use it. @param client null: of whom is not known */
  blocks(client: string | null): boolean {
    return this.openSince !== null && (this.client === null || this.client === client);
  }

  /**
   * It has failed. While it is open only its trial counts: the others began before.
   * @param trial what `claim` gave; null: it was no trial
   * @returns whether this opened it
   */
  failed({ reason, client, unanswered }: CircuitFailure, trial: CircuitTrial | null, now: number): boolean {
    if (this.openSince === null && now - this.#touchedAt > FORGET_MS) this.failures = 0;
    this.#touchedAt = now;
    if (this.failures === 0) {
      this.#firstAt = now;
      this.client = client;
      this.#unanswered = unanswered;
    } else {
      if (this.client !== client) this.client = null;
      this.#unanswered ||= unanswered;
    }
    this.reason = reason;
    if (this.openSince !== null) {
      if (trial === null || trial !== this.#trial) return false;
      this.failures += 1;
      this.#trial = null;
      this.#wait(Math.min(this.#pause * 2, this.#terms.longestPause), now);
      return false;
    }
    this.failures += 1;
    const { failures, over, pause } = this.#terms;
    if (this.failures < failures || now - this.#firstAt < over) return false;
    this.openSince = now;
    this.#wait(pause, now);
    return true;
  }

  /** The one trial after a pause; null: it is not its time, or another is under way. */
  claim(now: number): CircuitTrial | null {
    if (this.state(now) !== 'due') return null;
    this.#touchedAt = now;
    this.#trial = { at: now };
    return this.#trial;
  }

  /** The trial has no result, because its client left for example: the next request may try at once. */
  giveBack(trial: CircuitTrial): void {
    if (trial === this.#trial) this.#trial = null;
  }

  /** Whether a connection that is ready for use proves that it works again. */
  get provedByConnection(): boolean {
    return !this.#unanswered;
  }

  /** Nothing has been tried for long. */
  isForgotten(now: number): boolean {
    return now - Math.max(this.#touchedAt, this.#until) > FORGET_MS;
  }

  #wait(pause: number, now: number): void {
    this.#pause = pause;
    this.#until = now + pause * (1 + PAUSE_JITTER * (2 * this.#random() - 1));
  }
}
