/**
 * How a refusal or failure is reported to a client: the same words in the
 * status line, `Proxy-Status` and the problem body, because clients differ in
 * which of these they show (docs/errors.md).
 */
import { type List, parseList, serializeList, Token } from 'structured-headers';
import type { Blame, Fault, FaultCode } from '../errors.ts';
import type { RawFields } from '../http1/fields.ts';
import { headText } from '../http1/message-writer.ts';
import type { RequestHead } from '../http1/request-head.ts';

/** First words of the reason phrase; Go and Python show only the status line of a refused CONNECT. */
const REASON: Record<Blame, string> = {
  policy: 'Egress denied',
  client: 'Bad request',
  upstream: 'Upstream failed',
  proxy: 'Egress unavailable',
};

/** A refusal as it is written: reason phrase, header fields and problem body (RFC 9457). */
export interface RefusalAnswer {
  readonly reason: string;
  readonly fields: RawFields;
  readonly body: string;
}

/** The answer for a fault, without the fields about the connection. */
export function composeRefusal(fault: Fault, requestId: string, name: string): RefusalAnswer {
  const { kind, code, message, remedy, retryAfter, challenges } = fault;
  const problem = {
    type: `urn:eco-egress:error:${code}`,
    title: kind.title,
    status: kind.status,
    detail: message,
    code,
    requestId,
    ...(remedy === null ? {} : { remedy }),
  };
  const body = `${JSON.stringify(problem)}\n`;
  const fields = [
    'Content-Type',
    'application/problem+json',
    'Content-Length',
    String(Buffer.byteLength(body)),
    'Proxy-Status',
    proxyStatus(fault, name),
    'X-Request-Id',
    requestId,
    'Cache-Control',
    'no-store',
  ];
  if (retryAfter !== null) fields.push('Retry-After', String(retryAfter));
  // RFC 9110 §15.5.8: a client cannot continue after a 407 without it; each challenge is a field of its own.
  for (const challenge of challenges) fields.push('Proxy-Authenticate', challenge);
  return { reason: `${REASON[kind.blame]}: ${code}`, fields, body };
}

/**
 * Longest `details`, and longest field that parents sent before ours, characters: proxies in front of this one may
 * accept no more than 4 KiB of header section (nginx's proxy_buffer_size). The body has the whole detail.
 */
const LONGEST_PART = 1024;

/** RFC 9209 §2: the entries of parent proxies come first, ours last. A structured field string holds visible ASCII only (RFC 9651 §3.3.3). */
function proxyStatus({ code, kind, message, facts }: Fault, name: string): string {
  const { nextHop, receivedStatus, rcode, alert } = facts;
  // RFC 9209 §2.3.14: an alert has its own error type.
  const parameters = new Map<string, Token | string | number>([
    ['error', new Token(alert === undefined ? kind.proxyError : 'tls_alert_received')],
  ]);
  if (nextHop !== undefined) parameters.set('next-hop', visible(nextHop));
  if (receivedStatus !== undefined) parameters.set('received-status', receivedStatus);
  if (rcode !== undefined && kind.proxyError === 'dns_error') parameters.set('rcode', visible(rcode));
  if (alert !== undefined) parameters.set('alert-id', alert.id).set('alert-message', alert.message);
  const details = `${code}: ${visible(message)}`;
  parameters.set('details', details.length <= LONGEST_PART ? details : `${details.slice(0, LONGEST_PART)}...`);
  return serializeList([...toldBefore(facts.proxyStatus), [new Token(name), parameters]]);
}

function visible(text: string): string {
  return text.replace(/[^\x20-\x7e]/g, '?');
}

/** A value that is not a structured field is dropped: with it, the whole list would be invalid. So is one that is too long. */
function toldBefore(value: string | undefined): List {
  if (value === undefined || value.length > LONGEST_PART) return [];
  try {
    return parseList(value);
  } catch {
    return [];
  }
}

/** The connection is at fault, or the start of the next request is ambiguous. */
const LAST: ReadonlySet<FaultCode> = new Set(['framing-forbidden', 'request-timeout', 'client-certificate', 'revoked']);

/** Content up to this length is on its way before the client has an answer, bytes. */
const LONGEST_SENT_AT_ONCE = 16_384;

/**
 * Whether the connection ends with this answer: a limit may be about it (but
 * for an overloaded proxy another connection costs more than a request), and
 * the start of the next request must be unambiguous. It is ambiguous when
 * framing was refused, when a client that sent `Expect: 100-continue` may now
 * either send its body or not (RFC 9110 §10.1.1), when it may stop an upload
 * because it has been answered, and after a CONNECT, where old clients continue
 * as if it had been accepted.
 */
export function isLastAnswer(fault: Fault, { expect, method, framing }: RequestHead): boolean {
  // Where the content is chunked, a request in its place is seen to be none of it.
  const uploads = framing.kind === 'length' && framing.length > LONGEST_SENT_AT_ONCE;
  return (
    (fault.kind.blame === 'proxy' && fault.code !== 'overloaded') ||
    LAST.has(fault.code) ||
    expect !== '' ||
    uploads ||
    method === 'CONNECT'
  );
}

/** The whole answer as sent on the wire, where no request was read. */
export function refusalText(fault: Fault, requestId: string, name: string): string {
  const { reason, fields, body } = composeRefusal(fault, requestId, name);
  return headText(`HTTP/1.1 ${fault.kind.status} ${reason}`, fields, 'Connection: close\r\n') + body;
}

/** The parts of an answer, between which the id of its request stands. */
interface Pattern {
  readonly idLength: number;
  readonly head: readonly string[];
  readonly body: readonly string[];
}

/** Answers to faults that are the same each time, but for the id of the request: composed once, because these refusals have to be cheap. */
export class RepeatedRefusals {
  readonly #name: string;
  readonly #patterns = new Map<Fault, Pattern>();

  /** @param name ours, for `Proxy-Status` */
  constructor(name: string) {
    this.#name = name;
  }

  /** The header section, as far as it does not depend on the connection, and the body behind the empty line. Both are ASCII. */
  text(fault: Fault, requestId: string): { readonly head: string; readonly body: string } {
    let pattern = this.#patterns.get(fault);
    if (pattern?.idLength !== requestId.length) {
      const { reason, fields, body } = composeRefusal(fault, requestId, this.#name);
      const head = headText(`HTTP/1.1 ${fault.kind.status} ${reason}`, fields).slice(0, -'\r\n'.length);
      pattern = { idLength: requestId.length, head: head.split(requestId), body: body.split(requestId) };
      this.#patterns.set(fault, pattern);
    }
    return { head: pattern.head.join(requestId), body: pattern.body.join(requestId) };
  }
}
