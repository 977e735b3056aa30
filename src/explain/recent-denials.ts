/**
 * The record of recent denials: each one by its request id, and the number of
 * requests for each client and host; and of recent failures. Bounded, whatever the number of requests,
 * hosts or clients, and the length of their texts.
 */
import type { Permit } from '../egress.ts';
import type { Fault } from '../errors.ts';
import { Denial } from '../policy/deny.ts';
import type { Deny } from '../policy/verdict.ts';
import { type AccessRecord, outcomeOf, PLANNED_ENDS } from '../telemetry/access-record.ts';
import { type DenialRecord, type Found, keep, type KeptRequest, recordOf } from './kept-request.ts';

/** Requests of one client for one host, ordered by number. */
interface FrequentDenials {
  /** `-` for peers that are no client; these are distinguished by their address. */
  readonly client: string;
  readonly host: string;
  /** Since the start, and at most `overcount` too many. */
  readonly count: number;
  readonly overcount: number;
  readonly latest: DenialRecord;
}

/** What `/denials` shows. */
export interface DenialsView {
  /** Requests denied, or passed in report mode only, since the start. */
  readonly total: number;
  /** Most single denials that are kept. */
  readonly kept: number;
  readonly frequent: readonly FrequentDenials[];
  /** The latest first. */
  readonly latest: readonly DenialRecord[];
}

interface RecentDenialsOptions {
  /** Single denials that are kept. */
  readonly single?: number;
  /** Pairs of client and host that are counted. */
  readonly frequent?: number;
  /** Ms since the epoch. */
  readonly now?: () => number;
}

const SINGLE = 1_000;
const FREQUENT = 200;

/** The latest requests, each by its request id. */
class LatestRequests {
  /** Most requests that are kept. */
  readonly room: number;
  /** Requests kept since the start. */
  total = 0;
  readonly #ring: KeptRequest[] = [];
  readonly #byId = new Map<string, KeptRequest>();

  constructor(room: number) {
    this.room = room;
  }

  /** The oldest makes room. */
  protected keep(request: KeptRequest): void {
    const place = this.total % this.room;
    const oldest = this.#ring[place];
    if (oldest !== undefined) this.#byId.delete(oldest.shown.requestId);
    this.#ring[place] = request;
    this.#byId.set(request.shown.requestId, request);
    this.total += 1;
  }

  /** Null: it was never kept, or is too old. */
  find(requestId: string): KeptRequest | null {
    return this.#byId.get(requestId) ?? null;
  }

  /** The latest first. */
  latest(most: number): DenialRecord[] {
    const length = Math.min(this.#ring.length, most);
    return Array.from({ length }, (_, back) => this.#ring[(this.total - 1 - back) % this.room] ?? [])
      .flat()
      .map(recordOf);
  }
}

/** Keeps the latest denials, and approximate counts of the most frequent ones, in bounded memory. */
export class RecentDenials extends LatestRequests {
  readonly #frequent: TopCounts<KeptRequest>;
  readonly #now: () => number;

  constructor({ single = SINGLE, frequent = FREQUENT, now = Date.now }: RecentDenialsOptions = {}) {
    super(single);
    this.#now = now;
    this.#frequent = new TopCounts(frequent);
  }

  /**
   * A request has ended. Keeps it if it was denied, or passed in report mode
   * only; the record itself is not kept.
   * @param fault why it ended; null: without an error
   * @param permit by which it was permitted, at least at first; null: never
   */
  note(record: AccessRecord, fault: Fault | null, permit: Permit | null): void {
    const denied = outcomeOf(record) === 'denied';
    if (!denied && record.wouldDeny === '') return;
    const ask = fault instanceof Denial ? fault.ask : (permit?.ask ?? null);
    const found = denied ? enforced(record, fault) : reported(record, permit);
    const denial = keep(record, denied ? 'deny' : 'report', found, ask, this.#now());
    this.keep(denial);
    const { client, clientAddress, host } = denial.shown;
    this.#frequent.count(`${client === '-' ? clientAddress : client} ${host}`, denial);
  }

  /** @param mostFrequent most entries of that list; @param mostLatest likewise */
  view(mostFrequent: number, mostLatest: number): DenialsView {
    const frequent = this.#frequent.top(mostFrequent).map(({ count, error, latest }) => ({
      client: latest.shown.client,
      host: latest.shown.host,
      count,
      overcount: error,
      latest: recordOf(latest),
    }));
    return { total: this.total, kept: this.room, frequent, latest: this.latest(mostLatest) };
  }
}

function enforced({ code, detail }: AccessRecord, fault: Fault | null): Found {
  if (fault !== null) return { code: fault.code, detail: fault.message, remedy: fault.remedy };
  return { code: code === 'ok' ? 'internal' : code, detail, remedy: null };
}

/** A permitted request may have failed later; that is only in the log. */
function reported({ wouldDeny, detail }: AccessRecord, permit: Permit | null): Found {
  const code = wouldDeny === '' ? 'internal' : wouldDeny;
  const would: Deny | null = permit?.verdict.verdict === 'report' ? permit.verdict.would : null;
  // Otherwise it was found after the policy's verdict: by the address, or by the TLS inside a tunnel.
  return would?.code === code ? { code, detail: would.detail, remedy: would.remedy } : { code, detail, remedy: null };
}

// Counts the most frequent keys, in bounded memory: the Space-Saving algorithm
// (Metwally, Agrawal and El Abbadi, "Efficient Computation of Frequent and
// Top-k Elements in Data Streams", 2005).

interface Counter<T> {
  readonly key: string;
  /** How often it was counted, at most `error` too many. */
  count: number;
  /** The count of the key that it replaced. */
  readonly error: number;
  /** Value of its latest occurrence. */
  latest: T;
}

/**
 * With room for K keys and after N counts, the smallest count is at most N / K:
 * so every key that occurred more often is among them, and a key with count c
 * is evicted only after some K × c others.
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

  /** Counts one more. If there is no room, the least frequent key is evicted, and its count is the error of the new one. */
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

  /** The most frequent first; equal counts by their certain part. */
  top(most: number): Readonly<Counter<T>>[] {
    return [...this.#counters.values()]
      .sort((one, other) => other.count - one.count || one.error - other.error)
      .slice(0, most)
      .map((counter) => ({ ...counter }));
  }

  /** A walk over all of them: there are few, and only new denials lead here. */
  #least(): Counter<T> | null {
    let least: Counter<T> | null = null;
    for (const counter of this.#counters.values()) if (least === null || counter.count < least.count) least = counter;
    return least;
  }
}

// Requests that were permitted and have failed: the latest, each by its request
// id.

const MOST_FAILURES = 200;

/** Keeps the latest failures in bounded memory. */
export class RecentFailures extends LatestRequests {
  constructor() {
    super(MOST_FAILURES);
  }

  /**
   * A request has ended. Keeps it if it was permitted and has failed, other than as planned.
   * @param permit by which it was permitted; null: never
   */
  note(record: AccessRecord, fault: Fault | null, permit: Permit | null): void {
    if (fault === null || outcomeOf(record) !== 'failed' || PLANNED_ENDS.has(fault.code)) return;
    const { code, message: detail, remedy } = fault;
    this.keep(keep(record, 'allow', { code, detail, remedy }, permit?.ask ?? null, Date.now()));
  }
}
