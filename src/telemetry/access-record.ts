/**
 * What is known of one exchange or tunnel, and how it ended. The data path
 * fills it in as it goes, plain fields, no objects per phase; when it ends,
 * the record is handed once to `Telemetry.ended`.
 */
import type { Form } from '../config/config.ts';
import { type Fault, type FaultCode, FAULTS } from '../errors.ts';
import type { RequestTrace } from './trace-context.ts';

/** Which side ended it: `-` until it has ended. */
export type ClosedBy = 'client' | 'upstream' | 'proxy' | '-';

/** Names of a certificate that are kept; one may have hundreds. */
const MOST_CERTIFICATE_NAMES = 3;

/** `-` stands for "not known" in every name field, as in the metrics. */
export class AccessRecord {
  readonly requestId: string;
  /** performance.now() at the start, ms. */
  readonly startedAt: number;
  readonly clientAddress: string;
  /** It belongs to the self-test: it is decided like any other, remembered nowhere and never admitted. */
  selfTest = false;
  /** `-` when the request failed before its form was known. */
  form: Form | '-' = '-';
  client = '-';
  /** What was verified of the client: the Basic user, the subject of the token, the first names of the certificate. Empty where it showed none. */
  user = '';
  subject = '';
  san = '';
  method = '-';
  /** The client's connection is TLS that ends here. */
  secure = false;
  /** Of what is asked of the upstream; empty for a tunnel, and where that is not known. */
  scheme: 'http' | 'https' | '' = '';
  host = '-';
  port = 0;
  /** Without query; empty where there is none. */
  path = '';
  destination = '-';
  rule = '-';
  verdict: 'allow' | 'deny' | 'report' | '-' = '-';
  /** What report mode let pass: the code it would have been denied with; empty otherwise. */
  wouldDeny: FaultCode | '' = '';
  /** `ok`, or the code of the fault. */
  code: FaultCode | 'ok' = 'ok';
  /** One sentence about the fault, or about what was reported; otherwise empty. */
  detail = '';
  /** Status sent to the client; 0 when none was. */
  status = 0;
  /** Where a dial failed, the last address that was tried. */
  upstreamAddress = '-';
  /** Our end of the connection towards it, or towards the first parent: what a NAT or firewall log has. Empty and 0 where there was none. */
  localAddress = '';
  localPort = 0;
  /** Status that the upstream answered with; 0 for none. */
  upstreamStatus = 0;
  /** The parents on the way; empty where there are none. */
  via = '';
  reusedConnection = false;
  /** Requests sent to the upstream for it: more than one where a connection had died of old age. */
  attempts = 0;
  /** Connections that were begun for it: more than one where an address did not answer, or the first TLS handshake was cut. 0: it was given one that was there. */
  dials = 0;
  /** It was given a connection to the upstream. */
  dialled = false;
  /** What the request became: a tunnel is a CONNECT that was answered, raw TLS that was dialled for, or an exchange that was upgraded. Null: nothing, it was refused or failed before. */
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
  /** From `traceparent`, lower-case hex; empty where absent. Of a request that is traced, the span is our own. */
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

  /** What the peer showed, and was verified. */
  noteShown({ user, token, sans }: { readonly user: string | null; readonly token: { readonly subject: string } | null; readonly sans: readonly string[] }): void {
    this.user = user ?? '';
    this.subject = token?.subject ?? '';
    this.san = sans.length > 1 ? sans.slice(0, MOST_CERTIFICATE_NAMES).join(' ') : (sans[0] ?? '');
  }

  /** Our own end of the connection to the upstream. */
  noteLocalEnd({ localAddress, localPort }: { readonly localAddress?: string | undefined; readonly localPort?: number | undefined }): void {
    this.localAddress = localAddress ?? '';
    this.localPort = localPort ?? 0;
  }

  /** Report mode let something pass. Of several, the first gives its code; each detail is told once. */
  noteReported(code: FaultCode, detail: string): void {
    this.verdict = 'report';
    if (this.wouldDeny === '') this.wouldDeny = code;
    this.noteDetail(detail);
  }

  /** What it ended with comes first in the log line; what was noted before stays. */
  noteFault({ code, advice }: Pick<Fault, 'code' | 'advice'>): void {
    const noted = this.detail;
    this.code = code;
    this.detail = advice;
    if (noted !== '') this.noteDetail(noted);
  }

  /** Something to be said in the log line. */
  noteDetail(detail: string): void {
    if (this.detail === '') this.detail = detail;
    else if (!this.detail.includes(detail)) this.detail += `; ${detail}`;
  }
}

// How a request ended, in one word: what the counters and the level of a log line go by.

/**
 * - `allowed`: let through, and ended as it should.
 * - `denied`: refused by us: the policy, a malformed request, a full limit, an open circuit, draining.
 * - `failed`: not refused, yet the upstream or this proxy could not serve it to the end.
 * - `aborted`: the client went away first, or stopped reading.
 */
export type Outcome = 'allowed' | 'denied' | 'failed' | 'aborted';

const ABORTS: ReadonlySet<FaultCode> = new Set(['client-closed', 'client-stalled']);
/** These also end what was let through long ago. */
const REFUSED_UNLESS_DIALLED: ReadonlySet<FaultCode> = new Set(['limit-reached', 'overloaded', 'draining', 'circuit-open']);

const CODES = Object.keys(FAULTS) as FaultCode[];
const isRefusal = (code: FaultCode): boolean => FAULTS[code].blame === 'client' || FAULTS[code].blame === 'policy';

/** Codes of `denied`, those aside that a verdict alone makes one. */
export const DENIAL_CODES: readonly FaultCode[] = CODES.filter((code) => !ABORTS.has(code) && (isRefusal(code) || REFUSED_UNLESS_DIALLED.has(code)));
/** Codes of a dial, or of an upstream that was dialled. */
export const UPSTREAM_CODES: readonly FaultCode[] = CODES.filter((code) => (!isRefusal(code) && code !== 'circuit-open') || code === 'address-not-allowed');

/** Never throws; the same record gives the same answer until it changes. */
export function outcomeOf(record: AccessRecord): Outcome {
  const { code } = record;
  if (code === 'ok') return 'allowed';
  if (ABORTS.has(code)) return 'aborted';
  if (record.verdict === 'deny') return 'denied';
  if (isRefusal(code)) return 'denied';
  return REFUSED_UNLESS_DIALLED.has(code) && !record.dialled ? 'denied' : 'failed';
}

/** Whether it could have become nothing else. */
export function asksForTunnel({ form }: AccessRecord): boolean {
  return form === 'connect' || form === 'sni';
}

/**
 * A tunnel that is over sooner than this, ms, has held its NAT port longer
 * closed than open: Cloud NAT keeps it for 30 s or more. How many requests
 * were in it cannot be seen; a client that opens a tunnel for each request
 * makes such tunnels.
 */
const SHORT_MS = 30_000;

/** Whether a tunnel carried something and was over soon, without being cut. */
export function isShortTunnel(record: AccessRecord): boolean {
  return record.code === 'ok' && asksForTunnel(record) && record.became === 'tunnel' && record.durationMs < SHORT_MS && record.bytesSent > 0 && record.bytesReceived > 0;
}
