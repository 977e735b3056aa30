/** The identifiers of log lines: the trace of a request, and its own id. */
import { randomBytes } from 'node:crypto';

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

  constructor({ traceId, traceFlags }: { readonly traceId: string; readonly traceFlags: number }, parentSpanId: string, clientSpanId: string, admittedAt: number) {
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

// Names each request, cheaply: a prefix of this process and a count.

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
