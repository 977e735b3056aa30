/**
 * The last 15 minutes of each destination, and the increase of its counters in
 * the last minute and hour: for the status page. Taken every five seconds from
 * the counters that the metrics have, in typed arrays of fixed size, so
 * requests cost nothing extra, and memory depends only on the configuration: 13
 * kB for each destination, less than 1 kB for each client.
 */
import type { FaultCode } from '../errors.ts';
import { UPSTREAM_CODES } from './access-record.ts';
import { type Cells, type DestinationCells, EXCHANGE_BOUNDS } from './cells.ts';
import { countByClient } from './open-tunnels.ts';
import { CounterRing, ValueRing } from './rings.ts';

/** Between two steps, ms. */
export const HISTORY_STEP = 5_000;
/** Steps that are kept: 15 minutes. */
export const HISTORY_STEPS = 180;
const MINUTE_STEPS = 12;
const HOUR_MINUTES = 60;
/** Steps over which a rate is averaged. */
const RATE_STEPS = 2;

// A row of counters of one destination.
const REQUESTS = 0;
const ERRORS = 1;
const CODES_AT = 2;
const BUCKETS_AT = CODES_AT + UPSTREAM_CODES.length;
const ROW = BUCKETS_AT + EXCHANGE_BOUNDS.length + 1;

/** Failures in a period, by code; codes that did not occur are left out. */
export type FailureCounts = Readonly<Partial<Record<FaultCode, number>>>;

/** Recent activity of a destination. */
export interface DestinationNow {
  /** Exchanges that have ended and tunnels that were opened, per second, over the last ten seconds. */
  readonly requestsPerSecond: number;
  /** In the last minute. */
  readonly requests: number;
  readonly failures: { readonly minute: FailureCounts; readonly hour: FailureCounts };
  /** Answers with 5xx. */
  readonly errors: { readonly minute: number; readonly hour: number };
  /** Of exchanges of the last minute, ms; null: there was none. */
  readonly p50: number | null;
  readonly p99: number | null;
}

/** Recent activity of a client. */
export interface ClientNow {
  readonly client: string;
  readonly requestsPerSecond: number;
  /** In the last minute. */
  readonly requests: number;
  readonly denials: number;
  /** Open now. */
  readonly tunnels: number;
}

/** One number for each step, the oldest first; null: not known. */
export type HistorySeries = readonly (number | null)[];

/** The curves of one destination, or of all (`name` is empty). */
export interface HistoryCurves {
  readonly name: string;
  /** Per second. */
  readonly requests: HistorySeries;
  /** Per minute: failed dials and exchanges, and answers with 5xx. */
  readonly failures: HistorySeries;
  /** Per minute; only for all destinations together. */
  readonly denials: HistorySeries;
  /** Ms. */
  readonly p99: HistorySeries;
}

class Curves {
  readonly requests = new ValueRing(HISTORY_STEPS);
  readonly failures = new ValueRing(HISTORY_STEPS);
  readonly denials = new ValueRing(HISTORY_STEPS);
  readonly p99 = new ValueRing(HISTORY_STEPS);

  view(name: string, most: number): HistoryCurves {
    return {
      name,
      requests: this.requests.list(most),
      failures: this.failures.list(most),
      denials: this.denials.list(most),
      p99: this.p99.list(most),
    };
  }
}

class DestinationHistory {
  readonly minute = new CounterRing(MINUTE_STEPS + 1, ROW);
  /** Without the buckets. */
  readonly hour = new CounterRing(HOUR_MINUTES + 1, BUCKETS_AT);
  readonly curves = new Curves();

  /** Earlier counts are left out. */
  constructor(row: Uint32Array) {
    this.minute.push(row);
    this.hour.push(row.subarray(0, BUCKETS_AT));
  }
}

/** Its owner calls `step` every `HISTORY_STEP`, with the same monotonic clock, ms, as in every other call. */
export class History {
  readonly #cells: Cells;
  readonly #destinations = new Map<string, DestinationHistory>();
  readonly #clients = new Map<string, CounterRing>();
  readonly #total = new Curves();
  /** Of the latest steps, ms. */
  readonly #times: number[] = [];
  readonly #row = new Uint32Array(ROW);
  readonly #denied = new CounterRing(MINUTE_STEPS + 1, 1);
  #steps = 0;

  constructor(cells: Cells, now: number) {
    this.#cells = cells;
    this.#times.push(now);
    this.#denied.push(Uint32Array.of(countDenied(cells)));
    this.#begin();
  }

  /** Steps so far: the number of the latest. */
  get steps(): number {
    return this.#steps;
  }

  /** Samples the counters now. */
  step(now: number): void {
    this.#begin();
    const spent = Math.max(1, now - (this.#times.at(-1) ?? now)) / 1000;
    let requests = 0;
    let failures = 0;
    for (const [name, history] of this.#destinations) {
      const row = readRow(this.#cells.destination(name), this.#row);
      const before = history.minute.ago(0);
      const made = difference(row, before, REQUESTS);
      const failed = sumOf(row, before, ERRORS, BUCKETS_AT);
      history.curves.requests.push(made / spent);
      history.curves.failures.push((failed / spent) * 60);
      history.curves.p99.push(quantile(0.99, row, history.minute.ago(MINUTE_STEPS - 1)));
      history.minute.push(row);
      if (this.#steps % MINUTE_STEPS === MINUTE_STEPS - 1) history.hour.push(row.subarray(0, BUCKETS_AT));
      requests += made;
      failures += failed;
    }
    const denied = Uint32Array.of(countDenied(this.#cells));
    this.#total.requests.push(requests / spent);
    this.#total.failures.push((failures / spent) * 60);
    this.#total.denials.push((difference(denied, this.#denied.ago(0), 0) / spent) * 60);
    this.#denied.push(denied);
    this.#stepClients();
    this.#times.push(now);
    if (this.#times.length > MINUTE_STEPS + 1) this.#times.shift();
    this.#steps += 1;
  }

  /** For one destination up to now; null where the configuration has no such name. */
  destination(name: string, now: number): DestinationNow | null {
    const history = this.#destinations.get(name);
    if (history === undefined) return null;
    const { minute, hour } = history;
    const row = readRow(this.#cells.destination(name), this.#row);
    const aMinuteAgo = minute.ago(MINUTE_STEPS);
    const anHourAgo = hour.ago(HOUR_MINUTES);
    return {
      requestsPerSecond: difference(row, minute.ago(RATE_STEPS), REQUESTS) / this.#since(RATE_STEPS, now),
      requests: difference(row, aMinuteAgo, REQUESTS),
      failures: { minute: countFailures(row, aMinuteAgo), hour: countFailures(row, anHourAgo) },
      errors: { minute: difference(row, aMinuteAgo, ERRORS), hour: difference(row, anHourAgo, ERRORS) },
      p50: quantile(0.5, row, aMinuteAgo),
      p99: quantile(0.99, row, aMinuteAgo),
    };
  }

  /** Of all clients in the last minute. */
  denials(): number {
    return difference(Uint32Array.of(countDenied(this.#cells)), this.#denied.ago(MINUTE_STEPS), 0);
  }

  /** Clients that were active in the last minute or hold tunnels, the busiest first; up to the latest step. */
  clients(): ClientNow[] {
    const tunnels = countByClient(this.#cells);
    const seconds = Math.max(1, (this.#times.at(-1) ?? 0) - (this.#times.at(-1 - RATE_STEPS) ?? this.#times[0] ?? 0)) / 1000;
    return [...this.#clients]
      .map(([client, ring]) => {
        const row = ring.ago(0);
        return {
          client,
          requestsPerSecond: difference(row, ring.ago(RATE_STEPS), 0) / seconds,
          requests: difference(row, ring.ago(MINUTE_STEPS), 0),
          denials: difference(row, ring.ago(MINUTE_STEPS), 1),
          tunnels: tunnels.get(client) ?? 0,
        };
      })
      .filter(({ requests, denials, tunnels: open }) => requests + denials + open > 0)
      .toSorted((one, other) => other.requests + other.tunnels - (one.requests + one.tunnels));
  }

  /** The curves of all together, then of these destinations. @param most maximum number of the latest steps */
  curves(names: readonly string[], most = HISTORY_STEPS): HistoryCurves[] {
    return [this.#total.view('', most), ...names.flatMap((name) => this.#destinations.get(name)?.curves.view(name, most) ?? [])];
  }

  /** Adds the names that are new in the configuration, and `-` for hosts of no destination, and removes destinations that are no longer in it. */
  #begin(): void {
    const counted = new Set([...this.#cells.configured, '-']);
    for (const name of this.#destinations.keys()) if (!counted.has(name)) this.#destinations.delete(name);
    for (const name of counted)
      if (!this.#destinations.has(name))
        this.#destinations.set(name, new DestinationHistory(readRow(this.#cells.destination(name), this.#row)));
    for (const name of this.#cells.clients.keys()) {
      if (this.#clients.has(name)) continue;
      const ring = new CounterRing(MINUTE_STEPS + 1, 2);
      ring.push(new Uint32Array(2));
      this.#clients.set(name, ring);
    }
  }

  #stepClients(): void {
    for (const [client, { admitted, denied }] of this.#cells.clients) this.#clients.get(client)?.push(Uint32Array.of(admitted, denied));
  }

  /** Seconds since the given number of steps before the latest. */
  #since(steps: number, now: number): number {
    return Math.max(1000, now - (this.#times.at(-1 - steps) ?? this.#times[0] ?? now)) / 1000;
  }
}

function readRow({ admitted, errors, health, forms }: DestinationCells, row: Uint32Array): Uint32Array {
  row.fill(0);
  row[REQUESTS] = admitted;
  row[ERRORS] = health.answers['5xx'];
  for (const [i, code] of UPSTREAM_CODES.entries()) row[CODES_AT + i] = errors.get(code) ?? 0;
  for (const { exchanges } of forms.values())
    for (const [i, count] of exchanges.counts.entries()) row[BUCKETS_AT + i] = (row[BUCKETS_AT + i] ?? 0) + count;
  return row;
}

function difference(row: Uint32Array, before: Uint32Array, at: number): number {
  return ((row[at] ?? 0) - (before[at] ?? 0)) >>> 0;
}

function sumOf(row: Uint32Array, before: Uint32Array, from: number, to: number): number {
  let sum = 0;
  for (let at = from; at < to; at += 1) sum += difference(row, before, at);
  return sum;
}

function countFailures(row: Uint32Array, before: Uint32Array): FailureCounts {
  const counts: Partial<Record<FaultCode, number>> = {};
  for (const [i, code] of UPSTREAM_CODES.entries()) {
    const count = difference(row, before, CODES_AT + i);
    if (count > 0) counts[code] = count;
  }
  return counts;
}

/** Ms, interpolated within its bucket, as PromQL's histogram_quantile does; null: nothing was observed. */
function quantile(share: number, row: Uint32Array, before: Uint32Array): number | null {
  const total = sumOf(row, before, BUCKETS_AT, ROW);
  if (total === 0) return null;
  let rest = share * total;
  for (const [i, bound] of EXCHANGE_BOUNDS.entries()) {
    const count = difference(row, before, BUCKETS_AT + i);
    const lower = EXCHANGE_BOUNDS[i - 1] ?? 0;
    if (rest <= count) return (lower + (bound - lower) * (rest / count)) * 1000;
    rest -= count;
  }
  return (EXCHANGE_BOUNDS.at(-1) ?? 0) * 1000;
}

function countDenied(cells: Cells): number {
  let denied = 0;
  for (const { outcomes } of cells.destinations.values()) denied += outcomes.denied;
  return denied;
}
