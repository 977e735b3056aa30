/** The state of a destination, independent of the request rate: the result of the latest requests, and the addresses that were reached. */
import type { FaultCode } from '../errors.ts';
import { bound } from './safe-text.ts';

/** `ok`: answered below 500, or a tunnel in which the upstream sent something or which ended in order. `error`: answered with 5xx. `failed`: not answered. */
export const LAST_OUTCOMES = ['ok', 'error', 'failed'] as const;
/** The result of a request: `error` is an answer with 5xx. */
export type LastOutcome = (typeof LAST_OUTCOMES)[number];

/** Classes of status codes (RFC 9110 §15), in order. */
export const STATUS_CLASSES = ['1xx', '2xx', '3xx', '4xx', '5xx'] as const;
/** One of `STATUS_CLASSES`. */
export type StatusClass = (typeof STATUS_CLASSES)[number];

/** The latest failure without an answer. */
export interface LastFailure {
  readonly code: FaultCode;
  /** One sentence; may quote what the partner sent. */
  readonly detail: string;
}

/** State of one destination; times are ms since the epoch, 0: never. */
export class DestinationHealth {
  /** Null: no request since the start. */
  last: LastOutcome | null = null;
  /** When each was last seen, ms since the epoch; 0: never. */
  readonly at: Record<LastOutcome, number> = { ok: 0, error: 0, failed: 0 };
  /** Consecutive requests with the last outcome. */
  inRow = 0;
  lastFailure: LastFailure | null = null;
  /** Of the latest answer with 5xx. */
  lastStatus = 0;
  /** Final answers of the partner, and 101. */
  readonly answers: Record<StatusClass, number> = { '1xx': 0, '2xx': 0, '3xx': 0, '4xx': 0, '5xx': 0 };

  /** @param status of the partner's answer @param ago how long ago its head came, ms */
  noteAnswer(status: number, now: number, ago = 0): void {
    const answered = STATUS_CLASSES[Math.floor(status / 100) - 1];
    if (answered !== undefined) this.answers[answered] += 1;
    // A failure since its head came is later news.
    if (this.at.failed > now - ago && this.at.failed <= now) return;
    if (status >= 500) this.lastStatus = status;
    this.note(status >= 500 ? 'error' : 'ok', now);
  }

  /** A dial or an exchange has failed for a reason outside this proxy. */
  noteFailure(code: FaultCode, detail: string, now: number): void {
    this.lastFailure = { code, detail };
    this.note('failed', now);
  }

  /** `ok` of a tunnel: the upstream has sent its first bytes, or it has ended in order without any. One that is only open tells nothing: whatever listens there may be broken. */
  note(outcome: LastOutcome, now: number): void {
    // The clock was set back: a time in the future would remain the latest until then.
    if (this.last !== null && now < this.at[this.last]) for (const other of LAST_OUTCOMES) this.at[other] = Math.min(this.at[other], now);
    this.inRow = this.last === outcome ? this.inRow + 1 : 1;
    this.last = outcome;
    this.at[outcome] = now;
  }
}

/** Plain data for the admin port. Times are ISO 8601, null: never since the start. */
export interface HealthView {
  readonly destination: string;
  readonly last: LastOutcome | null;
  readonly inRow: number;
  readonly lastOk: string | null;
  readonly lastError: { readonly at: string; readonly status: number } | null;
  readonly lastFailure: { readonly at: string; readonly code: FaultCode; readonly detail: string } | null;
  readonly answers: Readonly<Record<StatusClass, number>>;
  /** By code; codes that never occurred are left out. */
  readonly failures: Readonly<Partial<Record<FaultCode, number>>>;
}

/** The state as the admin port shows it; times are ISO 8601, or null. */
export function viewHealth(
  destination: string,
  { last, at, inRow, lastFailure, lastStatus, answers }: DestinationHealth,
  errors: ReadonlyMap<FaultCode, number>,
): HealthView {
  return {
    destination,
    last,
    inRow,
    lastOk: isoOrNull(at.ok),
    lastError: at.error === 0 ? null : { at: isoOrNull(at.error) ?? '', status: lastStatus },
    lastFailure: lastFailure === null ? null : { at: isoOrNull(at.failed) ?? '', ...lastFailure },
    answers: { ...answers },
    failures: Object.fromEntries([...errors].filter(([, count]) => count > 0)),
  };
}

const isoOrNull = (at: number): string | null => (at === 0 ? null : new Date(at).toISOString());

/** Longest quote of a failure in a warning, characters. */
const LONGEST_FAILURE_QUOTE = 300;

/** Null while the latest request went well, or there was none. */
export function warnOfHealth({ destination, last, inRow, lastOk, lastError, lastFailure }: HealthView): string | null {
  if (last === null || last === 'ok') return null;
  const since = lastOk === null ? 'none has succeeded since the start' : `the last one that succeeded was at ${lastOk}`;
  const times = inRow === 1 ? 'The latest request' : `The latest ${inRow} requests`;
  if (last === 'error')
    return `${times} to ${destination} ${inRow === 1 ? 'was' : 'were'} answered with a status of 5xx (${lastError?.status ?? 500} at ${lastError?.at ?? '-'}); ${since}.`;
  const detail = lastFailure?.detail ?? '';
  return `${times} to ${destination} failed (${lastFailure?.code ?? '-'} at ${lastFailure?.at ?? '-'}: ${bound(detail, LONGEST_FAILURE_QUOTE)}); ${since}.`;
}

/** Consecutive failures after which a gating destination counts as unreachable. */
const GATING_FAILURES = 3;
/** For how long after the last failure, ms. Then requests have to try again: a replica that is never ready gets no requests. */
const GATING_MS = 60_000;

/** Why the proxy is not ready where this destination gates its readiness; null: it is. An answer with 5xx is an answer. */
export function gateByHealth({ destination, last, inRow, lastFailure }: HealthView, now: number): string | null {
  if (last !== 'failed' || lastFailure === null || inRow < GATING_FAILURES) return null;
  const since = now - Date.parse(lastFailure.at);
  // In the future: the clock was set back, and its age is unknown.
  if (since < 0 || since >= GATING_MS) return null;
  return `The latest ${inRow} requests to ${destination} failed (${lastFailure.code} at ${lastFailure.at}).`;
}

// The addresses that were reached recently, and when the certificate shown
// there expires. Noted at each dial, not at each request.

/** Addresses that are remembered for one destination. */
const MOST_REACHED = 8;

/** An address that a connection was opened to. */
export interface ReachedAddress {
  readonly address: string;
  /** The latest, ms since the epoch. */
  readonly at: number;
}

/** Results of the dials to one destination. */
export class Reached {
  /** The least recent first. */
  readonly #addresses = new Map<string, number>();
  /** When the last certificate seen expires, ms since the epoch; 0: none was seen. */
  certificateEnds = 0;

  /** @param certificateEnds 0: without TLS of our own */
  note(address: string, certificateEnds: number, now: number): void {
    if (certificateEnds > 0) this.certificateEnds = certificateEnds;
    this.#addresses.delete(address);
    this.#addresses.set(address, now);
    if (this.#addresses.size <= MOST_REACHED) return;
    const [oldest = ''] = this.#addresses.keys();
    this.#addresses.delete(oldest);
  }

  /** The latest first. */
  list(): ReachedAddress[] {
    return Array.from(this.#addresses, ([address, at]) => ({ address, at })).reverse();
  }
}
