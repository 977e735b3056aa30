/**
 * Asks a parent proxy for a tunnel by CONNECT (RFC 9110 §9.3.6), and reads its
 * answer byte by byte. Pure.
 */
import type { HopCredentials } from '../config/config.ts';
import { judgeAnswer } from './connect-answer.ts';
import type { Handshake, HandshakeStep } from './handshake.ts';
import { place } from './place.ts';

export interface ConnectRequestOptions {
  /** What to ask for: name or IP literal without brackets. */
  readonly host: string;
  readonly port: number;
  readonly credentials: HopCredentials | null;
  /** Our `Via` value, by which we would know a request of our own that comes back; null: none. */
  readonly via: string | null;
}

/** Bytes of head, those of interim answers included. */
const MAX_HEAD = 16 * 1024;
const HEAD_END = Buffer.from('\r\n\r\n');
const START = Buffer.from('HTTP/1.');
const STATUS_LINE = /^HTTP\/1\.[01] ([1-9]\d\d)(?: .*)?$/;

export function createConnectRequest(options: ConnectRequestOptions): Handshake {
  const { credentials, via } = options;
  const target = place(options.host, options.port);
  const authorization = credentials === null ? null : authorize(credentials);
  const lines = [
    `CONNECT ${target} HTTP/1.1`,
    // RFC 9112 §3.2: the same as the target, whatever proxies may do with the tunnel's own Host later.
    `Host: ${target}`,
    ...(via === null ? [] : [`Via: ${via}`]),
    ...(authorization === null ? [] : [`Proxy-Authorization: ${authorization}`]),
  ];
  /** Of the head under way: its pieces, their length, and how much of HEAD_END they end in. */
  let pieces: Buffer[] = [];
  let length = 0;
  let ending = 0;
  /** Bytes of all heads, those of interim answers included. */
  let spent = 0;

  const garbage = (what: string): HandshakeStep => ({
    step: 'failed',
    code: 'hop-failed',
    about: 'parent',
    detail: `${what} instead of an HTTP answer to CONNECT ${target}`,
    remedy: 'Check that an HTTP proxy listens there: the scheme and the port of the parent.',
  });

  /** @returns null for an interim answer, which is passed over (RFC 9110 §15.2) */
  const readHead = (head: string, rest: Buffer): HandshakeStep | null => {
    const [statusLine = '', ...fields] = head.split('\r\n');
    const status = Number(STATUS_LINE.exec(statusLine)?.[1]);
    // 101 would be the end of HTTP, and nobody asked for that.
    if (status >= 100 && status < 200 && status !== 101) return null;
    // Whatever a 2xx says of a length, what follows is the tunnel (RFC 9110 §9.3.6).
    if (status >= 200 && status < 300) return { step: 'done', rest };
    if (Number.isNaN(status)) return garbage('sent a broken status line');
    return { step: 'failed', ...judgeAnswer({ status, statusLine, fields, target, port: options.port, credentials }) };
  };

  /** Looks at each byte once, however they are cut. */
  const receive = (chunk: Buffer): HandshakeStep => {
    let from = 0;
    for (const [at, byte] of chunk.entries()) {
      if (length < START.length && byte !== START[length]) return garbage('sent something else');
      length += 1;
      spent += 1;
      if (spent > MAX_HEAD) return garbage(`sent more than ${MAX_HEAD} bytes of header`);
      ending = byte === HEAD_END[ending] ? ending + 1 : byte === HEAD_END[0] ? 1 : 0;
      if (ending < HEAD_END.length) continue;
      const head = Buffer.concat([...pieces, chunk.subarray(from, at + 1)]).toString('latin1', 0, length - HEAD_END.length);
      const step = readHead(head, chunk.subarray(at + 1));
      if (step !== null) return step;
      pieces = [];
      length = 0;
      ending = 0;
      from = at + 1;
    }
    pieces.push(chunk.subarray(from));
    return { step: 'more', send: null };
  };

  return { opening: Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1'), receive };
}

/** RFC 7617 §2.1: in UTF-8, as today's proxies read it. RFC 6750 §2.1. */
function authorize(credentials: HopCredentials): string {
  return credentials.kind === 'bearer' ? `Bearer ${credentials.token}` : `Basic ${Buffer.from(`${credentials.user}:${credentials.password}`).toString('base64')}`;
}
