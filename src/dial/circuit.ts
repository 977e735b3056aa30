/**
 * The circuit of one address: a state machine that counts failures in a row,
 * opens, lets one trial through after each pause, and closes with the first
 * success. Pure: each method gets the time. And what operators see of circuits.
 */
import type { CircuitBreakerConfig } from '../config/config.ts';
import { formatAuthority } from '../targets/host.ts';
import type { Carried } from './dial.ts';

/**
 * - `closed`: used like any other.
 * - `open`: not used before its pause is over.
 * - `due`: its pause is over, and the next request may be the trial.
 * - `half-open`: a trial is in progress.
 */
type CircuitState = 'closed' | 'open' | 'due' | 'half-open';

/** A failure that counts against an address. */
export interface CircuitFailure {
  /** One sentence, or the name of an error. */
  readonly reason: string;
  /** The client that may have caused it, since the failure came after its request was sent; null: it would have happened to any. */
  readonly client: string | null;
  /** The connection was ready, so another ready connection proves nothing. */
  readonly unanswered: boolean;
}

/** The right to try an address whose circuit is open. Compared by identity: an expired one counts for nothing. */
export interface CircuitTrial {
  /** When it began, ms. */
  readonly at: number;
}

/** How long an address is remembered without a failure or a trial, ms. */
const FORGET_MS = 600_000;
/** The largest share by which a pause differs from the configured one, at random, so that replicas do not all try at once. */
const PAUSE_JITTER = 1 / 10;

/** One address that has failed. Times are monotonic ms. */
export class Circuit {
  /** Failures in a row. */
  failures = 0;
  /** Reason of the latest failure. */
  reason = '';
  /** The client whose requests may have caused the failures, and that alone is refused; null: any. */
  client: string | null = null;
  /** When it opened; null: it is closed. */
  openSince: number | null = null;
  readonly #terms: CircuitBreakerConfig;
  /** Below 1, from 0. */
  readonly #random: () => number;
  /** Times of the first failure in the row, and of the latest event. */
  #firstAt = 0;
  #touchedAt = 0;
  /** Some failure came after the connection was ready. */
  #unanswered = false;
  /** Failures in the row, by their client, until enough of them are of others: then it concerns every client, and nothing more is counted. */
  readonly #failuresOf = new Map<string | null, number>();
  #concernsAll = false;
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
    // A trial without a result for this long, such as a large upload, does not block another.
    if (this.#trial !== null && now < this.#trial.at + this.#terms.longestPause) return 'half-open';
    return now < this.#until ? 'open' : 'due';
  }

  /** When another request may try it, unless the current trial succeeds before. */
  nextTrialAt(now: number): number {
    return this.state(now) === 'half-open' ? (this.#trial?.at ?? now) + this.#terms.longestPause : this.#until;
  }

  /** Whether requests of this client must not use it. @param client null: unknown */
  blocks(client: string | null): boolean {
    return this.openSince !== null && (this.client === null || this.client === client);
  }

  /**
   * It has failed. While it is open only its trial prolongs that: the others began before, or are of clients that it lets through.
   * @param trial the result of `claim`; null: it was no trial
   * @returns whether this opened it
   */
  failed({ reason, client, unanswered }: CircuitFailure, trial: CircuitTrial | null, now: number): boolean {
    if (this.openSince === null && now - this.#touchedAt > FORGET_MS) this.failures = 0;
    this.#touchedAt = now;
    if (this.failures === 0) {
      this.#firstAt = now;
      this.#unanswered = false;
      this.#failuresOf.clear();
      this.#concernsAll = false;
    }
    this.#unanswered ||= unanswered;
    this.#attribute(client);
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

  /** The one trial after a pause; null: too early, or another is in progress. */
  claim(now: number): CircuitTrial | null {
    if (this.state(now) !== 'due') return null;
    this.#touchedAt = now;
    this.#trial = { at: now };
    return this.#trial;
  }

  /** The trial has no result, for example because its client disconnected: the next request may try at once. */
  giveBack(trial: CircuitTrial): void {
    if (trial === this.#trial) this.#trial = null;
  }

  /** Whether a connection that is ready for use proves that the address works again. */
  get provedByConnection(): boolean {
    return !this.#unanswered;
  }

  /** Nothing has been tried for a long time. */
  isForgotten(now: number): boolean {
    return now - Math.max(this.#touchedAt, this.#until) > FORGET_MS;
  }

  /**
   * Finds out whom the failures concern: the client with most of them, unless
   * half as many as open a circuit are of others. A client that repeats a bad
   * request would else need only one failure of another to shut out everybody.
   */
  #attribute(client: string | null): void {
    if (this.#concernsAll) return;
    this.#failuresOf.set(client, (this.#failuresOf.get(client) ?? 0) + 1);
    let [all, most, suspect]: [number, number, string | null] = [0, 0, null];
    for (const [one, failures] of this.#failuresOf) {
      all += failures;
      if (one !== null && failures > most) [most, suspect] = [failures, one];
    }
    this.#concernsAll = all - most >= Math.max(1, Math.floor(this.#terms.failures / 2));
    this.client = this.#concernsAll ? null : suspect;
  }

  #wait(pause: number, now: number): void {
    this.#pause = pause;
    this.#until = now + pause * (1 + PAUSE_JITTER * (2 * this.#random() - 1));
  }
}

// For operators: plain data, counts for the metrics, and warnings.

/** One address whose circuit is open, or that has failed recently. Times are ISO 8601. */
interface AddressCircuitView {
  readonly address: string;
  readonly state: CircuitState;
  /** In a row. */
  readonly failures: number;
  /** When it opened; null: it is closed. */
  readonly since: string | null;
  /** Reason of the latest failure. */
  readonly reason: string;
  /** When a request may try it; null: it is closed. */
  readonly nextTrial: string | null;
  /** The client that most failures are of, and that alone is refused; null: any. */
  readonly client: string | null;
}

/** One host and port of a destination, with the addresses that have failed. */
export interface CircuitsView {
  readonly destination: string;
  readonly host: string;
  readonly port: number;
  readonly carries: Carried;
  /** No address is left: requests are refused with `circuit-open`. */
  readonly refuses: boolean;
  readonly addresses: readonly AddressCircuitView[];
}

/** Of one destination, for the metrics. */
export interface CircuitCounts {
  /** Addresses whose circuit is open. */
  readonly open: number;
  /** Hosts and ports without any other address. */
  readonly refusing: number;
}

/** For each host and port whose requests are refused. Without requests none is: only a request tries again. */
export function warnOfCircuits(views: readonly CircuitsView[]): string[] {
  return views
    .filter(({ refuses }) => refuses)
    .map(({ destination, host, port, carries, addresses }) => {
      const since = addresses.flatMap((one) => one.since ?? []).toSorted()[0] ?? '-';
      const reasons = addresses.map(({ address, reason }) => `${address}: ${reason}`).join('; ');
      const due = addresses.some(({ state }) => state === 'due');
      return `Requests to ${destination} (${carries}, ${formatAuthority(host, port)}) ${due ? 'have been' : 'are'} refused with circuit-open since ${since}: every address has failed (${reasons}).${due ? ' The next one tries again.' : ''}`;
    });
}
