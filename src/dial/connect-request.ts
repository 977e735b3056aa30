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
const EMPTY = Buffer.alloc(0);

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
  let head: Buffer = EMPTY;
  /** Of interim answers that have been read. */
  let spent = 0;

  const garbage = (what: string): HandshakeStep => ({
    step: 'failed',
    code: 'hop-failed',
    about: 'parent',
    detail: `${what} instead of an HTTP answer to CONNECT ${target}`,
    remedy: 'Check that an HTTP proxy listens there: the scheme and the port of the parent.',
  });

  const receive = (chunk: Buffer): HandshakeStep => {
    head = head.length === 0 ? chunk : Buffer.concat([head, chunk]);
    for (;;) {
      if (head.subarray(0, START.length).compare(START, 0, Math.min(head.length, START.length)) !== 0) return garbage('sent something else');
      const end = head.indexOf(HEAD_END);
      if (spent + (end === -1 ? head.length : end + HEAD_END.length) > MAX_HEAD) return garbage(`sent more than ${MAX_HEAD} bytes of header`);
      if (end === -1) return { step: 'more', send: null };

      const [statusLine = '', ...fields] = head.toString('latin1', 0, end).split('\r\n');
      const status = Number(STATUS_LINE.exec(statusLine)?.[1]);
      const rest = head.subarray(end + HEAD_END.length);
      // RFC 9110 §15.2: interim answers are passed over; 101 would be the end of HTTP, and nobody asked for that.
      if (status >= 100 && status < 200 && status !== 101) {
        spent += end + HEAD_END.length;
        head = rest;
        if (head.length === 0) return { step: 'more', send: null };
        continue;
      }
      // Whatever a 2xx says of a length, what follows is the tunnel (RFC 9110 §9.3.6).
      if (status >= 200 && status < 300) return { step: 'done', rest };
      if (Number.isNaN(status)) return garbage('sent a broken status line');
      return { step: 'failed', ...judgeAnswer({ status, statusLine, fields, target, port: options.port, credentials }) };
    }
  };

  return { opening: Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1'), receive };
}

/** RFC 7617 §2.1: in UTF-8, as today's proxies read it. RFC 6750 §2.1. */
function authorize(credentials: HopCredentials): string {
  return credentials.kind === 'bearer' ? `Bearer ${credentials.token}` : `Basic ${Buffer.from(`${credentials.user}:${credentials.password}`).toString('base64')}`;
}
