/**
 * How a client learns that its request was refused or failed: the same words
 * in the status line, `Proxy-Status`, and the problem body, because clients
 * differ in which of these they show (docs/errors.md).
 */
import type { ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { serializeList, Token } from 'structured-headers';
import { type Blame, Fault, type FaultCode } from '../errors.ts';

/** First words of the reason phrase; Go and Python show nothing but the status line of a refused CONNECT. */
const REASON: Record<Blame, string> = {
  policy: 'Egress denied',
  client: 'Bad request',
  upstream: 'Upstream failed',
  proxy: 'Egress unavailable',
};

/** After this long, ms, a client that was refused and does not close is closed. */
const LINGER = 5_000;

interface Refusal {
  readonly reason: string;
  readonly headers: [string, string][];
  readonly body: string;
}

function compose(fault: Fault, requestId: string, name: string): Refusal {
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
  const headers: [string, string][] = [
    ['Content-Type', 'application/problem+json'],
    ['Content-Length', String(Buffer.byteLength(body))],
    ['Proxy-Status', proxyStatus(fault, name)],
    ['X-Request-Id', requestId],
    ['Cache-Control', 'no-store'],
  ];
  if (retryAfter !== null) headers.push(['Retry-After', String(retryAfter)]);
  // RFC 9110 §15.5.8: a 407 without it leaves a client no way to go on; each challenge is a field of its own.
  for (const challenge of challenges) headers.push(['Proxy-Authenticate', challenge]);
  return { reason: `${REASON[kind.blame]}: ${code}`, headers, body };
}

/** RFC 9209 §2; a structured field string holds visible ASCII only (RFC 9651 §3.3.3). */
function proxyStatus(fault: Fault, name: string): string {
  const details = fault.message.replace(/[^\x20-\x7e]/g, '?');
  const parameters = new Map<string, Token | string>([
    ['error', new Token(fault.kind.proxyError)],
    ['details', `${fault.code}: ${details}`],
  ]);
  return serializeList([[new Token(name), parameters]]);
}

/**
 * Answers on a response that has not begun. The connection stays usable; what
 * is left of the request body is read and thrown away, for a bounded time.
 */
export function refuseResponse(res: ServerResponse, fault: Fault, requestId: string, name: string): void {
  const refusal = compose(fault, requestId, name);
  if (isLast(res, fault)) res.shouldKeepAlive = false;
  res.once('finish', endRestOfBody);
  res.writeHead(fault.kind.status, refusal.reason, refusal.headers.flat());
  res.end(refusal.body);
}

/** Node reads what is left of the request body; this bounds for how long. */
function endRestOfBody(this: ServerResponse): void {
  const { req } = this;
  if (req.complete) return;
  const timer = setTimeout(() => {
    if (!req.complete) req.socket.destroy();
  }, LINGER);
  timer.unref();
  req.once('close', () => {
    clearTimeout(timer);
  });
}

/** What is wrong with the connection, or leaves it unclear where the next request begins. */
const LAST: ReadonlySet<FaultCode> = new Set(['framing-forbidden', 'request-timeout', 'client-certificate', 'revoked']);

/**
 * Whether the connection ends with this answer: a limit may be about it, and
 * where the next request begins must not be a matter of opinion. That it is
 * when framing was refused, and when a client that asked for leave to send its
 * body may now either send it or not (RFC 9110 §10.1.1).
 */
function isLast(res: ServerResponse, fault: Fault): boolean {
  return fault.kind.blame === 'proxy' || LAST.has(fault.code) || res.req.headers.expect !== undefined;
}

/** The whole answer as it stands on the wire, for sockets that no HTTP response belongs to. */
export function refusalText(fault: Fault, requestId: string, name: string): string {
  const refusal = compose(fault, requestId, name);
  const lines = refusal.headers.map(([field, value]) => `${field}: ${value}\r\n`).join('');
  return `HTTP/1.1 ${fault.kind.status} ${refusal.reason}\r\n${lines}Connection: close\r\n\r\n${refusal.body}`;
}

/** Answers on a bare socket and closes it. */
export function refuseSocket(socket: Duplex, fault: Fault, requestId: string, name: string): void {
  // The client may be gone by now; then there is nobody to tell.
  socket.on('error', () => {});
  socket.end(refusalText(fault, requestId, name));
  closeGently(socket);
}

/**
 * Closes a socket whose last words have been written. What the client still
 * sends is read and thrown away for a while: closing with unread bytes would
 * reset the connection, and the client would lose the answer.
 */
export function closeGently(socket: Duplex): void {
  socket.resume();
  const timer = setTimeout(() => socket.destroy(), LINGER);
  timer.unref();
  socket.once('end', () => socket.destroy());
  socket.once('close', () => {
    clearTimeout(timer);
  });
}
