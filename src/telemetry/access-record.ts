/**
 * The record of one exchange or tunnel, its identifiers, and how it ended. The
 * data path fills in plain fields, without objects per phase; at the end the
 * record is passed once to `Telemetry.ended`.
 */
import { randomBytes } from 'node:crypto';
import type { Form } from '../config/config.ts';
import { type Fault, type FaultCode, type FaultFacts, FAULTS } from '../errors.ts';

/** Which side ended it: `-` until it has ended. */
export type ClosedBy = 'client' | 'upstream' | 'proxy' | '-';

/** `-` means "not known" in every name field, as in the metrics. */
export class AccessRecord {
  readonly requestId: string;
  /** performance.now() at the start, ms. */
  readonly startedAt: number;
  readonly clientAddress: string;
  /** It belongs to the self-test: it is decided like any other, recorded nowhere and never admitted. */
  selfTest = false;
  /** `-` when the request failed before its form was known. */
  form: Form | '-' = '-';
  client = '-';
  /** What was verified of the client: the Basic user, the subject of the token, the first names of the certificate. Empty: nothing. */
  user = '';
  subject = '';
  san = '';
  method = '-';
  /** The client's TLS is terminated here. */
  secure = false;
  /** Of the request to the upstream; empty for a tunnel, and where that is not known. */
  scheme: 'http' | 'https' | '' = '';
  host = '-';
  port = 0;
  /** Without query; empty where there is none. */
  path = '';
  destination = '-';
  rule = '-';
  verdict: 'allow' | 'deny' | 'report' | '-' = '-';
  /** Passed by report mode: the code of the denial; empty otherwise. */
  wouldDeny: FaultCode | '' = '';
  /** `ok`, or the code of the fault. */
  code: FaultCode | 'ok' = 'ok';
  /** One sentence about the fault, or about what was reported; otherwise empty. */
  detail = '';
  /** Status sent to the client; 0 when none was. */
  status = 0;
  /** Where a dial failed, the last address that was tried. */
  upstreamAddress = '-';
  /** Our end of the connection to it, or to the first parent, as in the log of a NAT or firewall. Empty and 0 where there was none. */
  localAddress = '';
  localPort = 0;
  /** Status of the upstream's response; 0 for none. */
  upstreamStatus = 0;
  /** The parent proxies; empty where there are none. */
  via = '';
  reusedConnection = false;
  /** Requests sent to the upstream for it: more than one if a reused connection had been closed. */
  attempts = 0;
  /** Connections that were started for it: more than one if an address did not answer, or the first TLS handshake was cut. 0: it reused one. */
  dials = 0;
  /** It had a connection to the upstream. */
  dialled = false;
  /** What the request became: a tunnel is a CONNECT that was answered, raw TLS whose target was dialled, or an upgraded exchange. Null: nothing, it was refused or failed before. */
  became: 'exchange' | 'tunnel' | null = null;
  /** Milliseconds; -1: the phase did not happen. */
  dnsMs = -1;
  tcpMs = -1;
  tlsMs = -1;
  hopMs = -1;
  firstByteMs = -1;
  durationMs = 0;
  /** Body or tunnel bytes, client to upstream. */
  bytesSent = 0;
  /** Body or tunnel bytes, upstream to client. */
  bytesReceived = 0;
  closedBy: ClosedBy = '-';
  /** From `traceparent`, lower-case hex; empty where absent. For a traced request, the span is our own. */
  traceId = '';
  spanId = '';
  traceFlags = 0;
  /** Null: it is not traced. */
  trace: RequestTrace | null = null;
  /** Whether it is traced was decided when it was admitted; only where tracing is on. */
  admitted = false;

  constructor(requestId: string, startedAt: number, clientAddress: string) {
    this.requestId = requestId;
    this.startedAt = startedAt;
    this.clientAddress = clientAddress;
  }

  /** The client has sent bytes and the upstream none: of a tunnel; one that an upgrade began has been answered. */
  get unanswered(): boolean {
    return this.bytesSent > 0 && this.bytesReceived === 0 && this.upstreamStatus === 0;
  }

  /** Our own end of the connection to the upstream. */
  noteLocalEnd({ localAddress, localPort }: { readonly localAddress?: string | undefined; readonly localPort?: number | undefined }): void {
    this.localAddress = localAddress ?? '';
    this.localPort = localPort ?? 0;
  }

  /** What a dial that failed had tried and opened. */
  noteTried({ address, dials = 0, dnsMs, opened }: FaultFacts): void {
    this.upstreamAddress = address ?? '-';
    this.dials = dials;
    if (dnsMs !== undefined) this.dnsMs = dnsMs;
    if (opened === undefined) return;
    this.noteLocalEnd(opened);
    this.via = opened.via;
    this.dnsMs = Math.max(this.dnsMs, opened.dnsMs);
    this.tcpMs = opened.tcpMs;
    this.hopMs = opened.hopMs;
  }

  /** Report mode let something pass. The first of several gives the code; each detail is recorded once. */
  noteReported(code: FaultCode, detail: string): void {
    this.verdict = 'report';
    if (this.wouldDeny === '') this.wouldDeny = code;
    this.noteDetail(detail);
  }

  /** In the log line, the reason for the end comes first, then earlier notes, and last what to do, which may be a sentence of its own. */
  noteFault({ code, message, remedy }: Pick<Fault, 'code' | 'message' | 'remedy'>): void {
    const noted = this.detail;
    this.code = code;
    this.detail = message;
    if (noted !== '') this.noteDetail(noted);
    if (remedy !== null) this.noteDetail(remedy);
  }

  /** A note for the log line. */
  noteDetail(detail: string): void {
    if (this.detail === '') this.detail = detail;
    else if (!this.detail.includes(detail)) this.detail += `; ${detail}`;
  }
}

// How a request ended, in one word: it determines the counters and the level of a log
// line.

/**
 * - `allowed`: let through, and ended normally.
 * - `denied`: refused by us: the policy, a malformed request, a full limit, an open circuit, draining.
 * - `failed`: not refused, but the upstream or this proxy could not complete it.
 * - `aborted`: the client went away first, or stopped reading.
 */
export type Outcome = 'allowed' | 'denied' | 'failed' | 'aborted';

const ABORTS: ReadonlySet<FaultCode> = new Set(['client-closed', 'client-stalled']);
/** These also end requests that were admitted earlier. */
const REFUSED_UNLESS_DIALLED: ReadonlySet<FaultCode> = new Set(['limit-reached', 'overloaded', 'draining', 'circuit-open']);

/** Ends of what was let through by a configured limit, or by a shutdown: no failures. */
export const PLANNED_ENDS: ReadonlySet<string> = new Set<FaultCode>(['idle-timeout', 'age-limit', 'draining']);

const CODES = Object.keys(FAULTS) as FaultCode[];
const isRefusal = (code: FaultCode): boolean => FAULTS[code].blame === 'client' || FAULTS[code].blame === 'policy';

/** Codes of `denied`, except those that depend on a verdict. */
export const DENIAL_CODES: readonly FaultCode[] = CODES.filter(
  (code) => !ABORTS.has(code) && (isRefusal(code) || REFUSED_UNLESS_DIALLED.has(code)),
);
/** Codes of a dial, or of an upstream that was dialled. */
export const UPSTREAM_CODES: readonly FaultCode[] = CODES.filter(
  (code) => (!isRefusal(code) && code !== 'circuit-open') || code === 'address-not-allowed',
);

/** Never throws; the same record gives the same answer until it changes. */
export function outcomeOf(record: AccessRecord): Outcome {
  const { code } = record;
  if (code === 'ok') return 'allowed';
  if (ABORTS.has(code)) return 'aborted';
  if (record.verdict === 'deny') return 'denied';
  if (isRefusal(code)) return 'denied';
  return REFUSED_UNLESS_DIALLED.has(code) && !record.dialled ? 'denied' : 'failed';
}

/** Whether it could only have become a tunnel. */
export function asksForTunnel({ form }: AccessRecord): boolean {
  return form === 'connect' || form === 'sni';
}

/**
 * A tunnel that is over sooner than this, ms, has held its NAT port longer
 * closed than open: Cloud NAT keeps it for 30 s or more. How many requests were
 * in it cannot be seen; a client that opens a tunnel for each request creates
 * such tunnels.
 */
const SHORT_MS = 30_000;

/** Whether a tunnel carried bytes and ended soon, without being cut. */
export function isShortTunnel(record: AccessRecord): boolean {
  return (
    record.code === 'ok' &&
    asksForTunnel(record) &&
    record.became === 'tunnel' &&
    record.durationMs < SHORT_MS &&
    record.bytesSent > 0 &&
    record.bytesReceived > 0
  );
}

// The identifiers of a record: first the trace of its request.

interface TraceContext {
  /** 32 lower-case hex digits. */
  readonly traceId: string;
  /** 16 lower-case hex digits: the span of the caller. */
  readonly spanId: string;
  /** One byte. */
  readonly flags: number;
}

/** The flag `sampled` (§3.2.2.5.1). */
export const SAMPLED = 1;
/** The flags that are forwarded; the others have no meaning yet (Level 2 §2.2.5.3: the trace id is random). */
const KNOWN_FLAGS = 3;

/** The span ids of a traced request, besides its record. They are sent upstream before the spans exist. The proxy's server span is `spanId` of the record. */
export class RequestTrace {
  /** The span of the caller; empty: the trace begins here. */
  readonly parentSpanId: string;
  /** The proxy's client span, a child of its server span. */
  readonly clientSpanId: string;
  /** For the upstream. */
  readonly traceparent: string;
  /** By the clock of `performance`. */
  readonly admittedAt: number;
  /** Its spans have been reported. */
  told = false;

  constructor(
    { traceId, traceFlags }: { readonly traceId: string; readonly traceFlags: number },
    parentSpanId: string,
    clientSpanId: string,
    admittedAt: number,
  ) {
    this.parentSpanId = parentSpanId;
    this.clientSpanId = clientSpanId;
    this.admittedAt = admittedAt;
    this.traceparent = `00-${traceId}-${clientSpanId}-0${traceFlags & KNOWN_FLAGS}`;
  }
}

// Lower case only: https://www.w3.org/TR/trace-context/#traceparent-header-field-values
const TRACEPARENT = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/;

/**
 * Null unless `value` is one valid `traceparent` field value. Repeated header
 * fields arrive joined by a comma, and are invalid.
 */
export function readTraceparent(value: string | undefined): TraceContext | null {
  if (value === undefined || value.length < 55) return null;
  const match = TRACEPARENT.exec(value);
  if (match === null) return null;
  const [, version, traceId = '', spanId = '', flags = '', more] = match;
  // Version ff is forbidden (§3.2.2.1); only versions after 00 may carry more fields (§4.3).
  if (version === 'ff' || (version === '00' && more !== undefined)) return null;
  if (/^0+$/.test(traceId) || /^0+$/.test(spanId)) return null;
  return { traceId, spanId, flags: Number.parseInt(flags, 16) };
}

// Then its own id: a prefix of this process and a count, which is cheap.

/**
 * Returns a function that gives a new id at every call: 22 characters of
 * `0-9a-z-`, safe in headers, paths and logs. Unique within the process, and
 * across processes by a 48-bit random prefix; not a secret.
 */
export function createRequestIds(): () => string {
  const prefix = `${randomBytes(6).toString('hex')}-`;
  let count = 0;
  return () => {
    count += 1;
    // 36^9 ids: enough for three years at a million a second; after that they grow by a digit.
    return prefix + count.toString(36).padStart(9, '0');
  };
}

/** Of this process. */
export const nextRequestId = createRequestIds();
