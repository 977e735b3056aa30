/**
 * One request to a partner by way of a proxy, in any form, written byte for
 * byte; and everything that came back. Knows nothing of which proxy it is.
 */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { connect as connectTls } from 'node:tls';
import type { Form } from '../../src/config/config.ts';
import { readToTheEnd } from './relay.ts';

/** How a request gets to the partner, and what the partner speaks. */
export interface Route {
  /** `terminated`: inside TLS that ends at the proxy, an absolute target or the gateway. */
  readonly form: Form | 'terminated';
  /** TLS with the partner: the client's own in a tunnel, else the proxy's. */
  readonly tls: boolean;
}

/** Those in which the proxy passes bytes on without reading them. */
export const isTunnel = ({ form }: Route): boolean => form === 'connect' || form === 'sni';

export const nameOf = ({ form, tls }: Route): string => `${form}, ${tls ? 'TLS' : 'plain'}`;

/** Every way through a proxy that has them all. */
export const ROUTES: readonly Route[] = [
  { form: 'connect', tls: false },
  { form: 'connect', tls: true },
  { form: 'forward', tls: false },
  { form: 'forward', tls: true },
  { form: 'gateway', tls: false },
  { form: 'gateway', tls: true },
  { form: 'host-routed', tls: false },
  { form: 'sni', tls: true },
  { form: 'terminated', tls: false },
  { form: 'terminated', tls: true },
];

/** Where a proxy and its partner are. */
export interface Place {
  /** Of the proxy: tunnels and forwarding. */
  readonly port: number;
  /** Where it has its gateway. */
  readonly gatewayPort: number;
  readonly tlsPort: number;
  /** Of the TLS that ends at the proxy. */
  readonly ownName: string;
  /** By which the proxy knows the partner, and where. */
  readonly host: string;
  readonly plainPort: number;
  readonly securePort: number;
  /** The gateway's prefixes. */
  readonly plainPrefix: string;
  readonly securePrefix: string;
  /** Whoever issued the partner's certificate and the proxy's. */
  readonly ca: string;
}

export interface Question {
  readonly method?: string;
  /** As the partner is to see it; `OPTIONS *` has no form of its own here. */
  readonly path?: string;
  readonly version?: string;
  /** Besides Host and those of the content; each with its line end. */
  readonly fields?: string;
  readonly content?: Content;
}

export interface Content {
  readonly bytes: number;
  readonly framing: 'length' | 'chunked';
  /** Between two chunks, ms; default 0: as fast as the proxy takes them. */
  readonly pace?: number;
  /** Not before 100, or a final answer, has come. */
  readonly afterContinue?: boolean;
  /** Held back until the partner has been heard of: the head alone leaves. */
  readonly heldBack?: boolean;
}

/** What came back. */
export interface Seen {
  /** Statuses of the interim responses, in order. */
  readonly informational: readonly number[];
  /** Null: no final answer began. */
  readonly status: number | null;
  readonly reason: string;
  readonly fields: ReadonlyMap<string, string>;
  readonly body: string;
  readonly trailers: string;
  /**
   * `complete`: to its end, as its framing tells. `broken`: it began, or not even that, and the
   * connection ended. `silent`: neither within the patience of the client.
   */
  readonly end: 'complete' | 'broken' | 'silent';
  readonly how: 'fin' | 'reset' | 'open';
  readonly heard: string;
  /** Bytes of the content that were handed to the kernel. */
  readonly sent: number;
}

const CHUNK = 16 * 1024;

/** @param patience ms, after which the client gives up: a proxy that hangs is reported, and holds nothing up */
export async function exchange(place: Place, route: Route, question: Question, patience = 60_000): Promise<Seen> {
  const { promise: gaveUp, resolve: giveUp } = Promise.withResolvers<null>();
  const clock = setTimeout(giveUp, patience, null);
  const sockets: Socket[] = [];
  try {
    const socket = await Promise.race([open(place, route, sockets), gaveUp]);
    return socket === null ? { ...NOTHING, end: 'silent', how: 'open' } : await talk(socket, place, route, question, gaveUp);
  } catch (error) {
    if (!(error instanceof NoWay)) throw error;
    return { ...NOTHING, ...readResponse(error.heard, 'CONNECT', true), end: 'broken', heard: error.heard };
  } finally {
    clearTimeout(clock);
    for (const socket of sockets) socket.destroy();
  }
}

const NOTHING: Seen = { informational: [], status: null, reason: '', fields: new Map(), body: '', trailers: '', end: 'broken', how: 'reset', heard: '', sent: 0 };

/** No connection on which a request could be written. */
class NoWay extends Error {
  readonly heard: string;

  constructor(heard = '') {
    super('no connection to write the request on');
    this.heard = heard;
  }
}

/** A connection on which the request itself is written. */
async function open(place: Place, { form, tls }: Route, sockets: Socket[]): Promise<Socket> {
  const secure = form === 'sni' || form === 'terminated';
  const port = secure ? place.tlsPort : form === 'gateway' ? place.gatewayPort : place.port;
  const tcp = connect({ host: '127.0.0.1', port, allowHalfOpen: true, noDelay: true });
  sockets.push(tcp);
  await opened(tcp, 'connect');
  if (secure) return encrypt(tcp, form === 'sni' ? place.host : place.ownName, place.ca);
  if (form !== 'connect') return readToTheEnd(tcp);
  const authority = `${place.host}:${tls ? place.securePort : place.plainPort}`;
  tcp.write(`CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n\r\n`);
  const answer = await headOf(tcp);
  if (!/^HTTP\/1\.[01] 200 /.test(answer)) throw new NoWay(answer);
  return tls ? encrypt(tcp, place.host, place.ca) : readToTheEnd(tcp);
}

/** Reads up to the empty line and no further. */
async function headOf(socket: Socket): Promise<string> {
  let heard = '';
  for (let end = -1; end === -1; end = heard.indexOf('\r\n\r\n')) {
    const chunk = socket.read() as Buffer | null;
    if (chunk !== null) heard += chunk.toString('latin1');
    else if (socket.readableEnded || socket.destroyed) throw new NoWay(heard);
    else await Promise.race([once(socket, 'readable'), once(socket, 'end'), once(socket, 'close')]);
  }
  const length = heard.indexOf('\r\n\r\n') + 4;
  if (heard.length > length) socket.unshift(Buffer.from(heard.slice(length), 'latin1'));
  return heard.slice(0, length);
}

async function encrypt(tcp: Socket, servername: string, ca: string): Promise<Socket> {
  const socket = connectTls({ socket: readToTheEnd(tcp), servername, ca, ALPNProtocols: ['http/1.1'] });
  socket.allowHalfOpen = true;
  await opened(socket, 'secureConnect');
  return readToTheEnd(socket);
}

/** Settles with the event; rejects when the connection closes without. */
function opened(socket: Socket, event: 'connect' | 'secureConnect'): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.on('error', () => {});
    socket.once(event, () => {
      resolve();
    });
    socket.once('close', () => {
      reject(new NoWay());
    });
  });
}

/** The request line's target and the Host field. */
function addressOf(place: Place, { form, tls }: Route, path: string): { target: string; host: string } {
  const authority = `${place.host}:${tls ? place.securePort : place.plainPort}`;
  const prefix = tls ? place.securePrefix : place.plainPrefix;
  if (form === 'forward' || (form === 'terminated' && !tls)) return { target: `${tls ? 'https' : 'http'}://${authority}${path}`, host: authority };
  // Inside TLS that ends at the proxy, the gateway is what most clients use.
  if (form === 'gateway' || form === 'terminated') return { target: `${prefix}${path}`, host: place.ownName };
  return { target: path, host: authority };
}

async function talk(socket: Socket, place: Place, route: Route, { method = 'GET', path = '/x', version = '1.1', fields = '', content }: Question, gaveUp: Promise<null>): Promise<Seen> {
  const { target, host } = addressOf(place, route, path);
  let heard = '';
  const state = { over: false, failed: false };
  let sent = 0;
  const done = Promise.withResolvers<undefined>();
  const spoken = Promise.withResolvers<undefined>();
  socket.on('data', (chunk: Buffer) => {
    heard += chunk.toString('latin1');
    spoken.resolve(undefined);
    if (readResponse(heard, method, false).end === 'complete') done.resolve(undefined);
  });
  socket.once('error', () => {
    state.failed = true;
  });
  const ended = (): void => {
    state.over = true;
    done.resolve(undefined);
    spoken.resolve(undefined);
  };
  socket.once('end', ended);
  socket.once('close', () => {
    state.failed ||= !socket.readableEnded;
    ended();
  });
  const framing = content === undefined ? '' : content.framing === 'chunked' ? 'Transfer-Encoding: chunked\r\n' : `Content-Length: ${content.bytes}\r\n`;
  const head = `${method} ${target} HTTP/${version}\r\nHost: ${host}\r\n${fields}${framing}${content?.afterContinue === true ? 'Expect: 100-continue\r\n' : ''}\r\n`;
  socket.write(head, 'latin1');

  const upload = async (): Promise<void> => {
    if (content === undefined) return;
    if (content.afterContinue === true || content.heldBack === true) {
      await Promise.race([spoken.promise, gaveUp]);
      // A final answer instead: the content is not wanted.
      if (content.afterContinue === true && !heard.startsWith('HTTP/1.1 100 ')) return;
    }
    while (sent < content.bytes) {
      const size = Math.min(CHUNK, content.bytes - sent);
      const data = 'x'.repeat(size);
      const taken = socket.write(content.framing === 'chunked' ? `${size.toString(16)}\r\n${data}\r\n` : data, 'latin1');
      sent += size;
      if (content.pace !== undefined) await Promise.race([delay(content.pace), done.promise]);
      else if (!taken) await Promise.race([drained(socket), done.promise, gaveUp]);
      if (state.over || socket.destroyed || readResponse(heard, method, false).end === 'complete') return;
    }
    if (content.framing === 'chunked' && sent === content.bytes && socket.writable) socket.write('0\r\n\r\n');
  };
  void upload();
  const silent = await Promise.race([done.promise.then(() => false), gaveUp.then(() => true)]);
  const result = readResponse(heard, method, state.over && !state.failed);
  const end = result.end === 'complete' ? 'complete' : silent ? 'silent' : 'broken';
  socket.destroy();
  return { ...result, end, how: state.failed ? 'reset' : state.over ? 'fin' : 'open', heard, sent };
}

/** Settles too when the connection closes. */
function drained(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    const settle = (): void => {
      socket.off('drain', settle).off('close', settle);
      resolve();
    };
    socket.once('drain', settle).once('close', settle);
  });
}

/** Reads a response as a careful client does. `finished`: the connection has ended in order, which completes what has no length. */
export function readResponse(heard: string, method: string, finished: boolean): Omit<Seen, 'how' | 'heard' | 'sent'> {
  const informational: number[] = [];
  const open = { informational, status: null, reason: '', fields: new Map<string, string>(), body: '', trailers: '', end: 'broken' as const };
  let rest = heard;
  for (;;) {
    const at = rest.indexOf('\r\n\r\n');
    if (at === -1) return open;
    const [line = '', ...lines] = rest.slice(0, at).split('\r\n');
    const status = Number(/^HTTP\/1\.[01] (\d{3})(?: |$)/.exec(line)?.[1] ?? NaN);
    if (Number.isNaN(status)) return open;
    rest = rest.slice(at + 4);
    if (status < 200 && status !== 101) {
      informational.push(status);
      continue;
    }
    const fields = new Map<string, string>();
    for (const field of lines) {
      const name = field.slice(0, field.indexOf(':')).toLowerCase();
      const value = field.slice(field.indexOf(':') + 1).trim();
      fields.set(name, fields.has(name) ? `${fields.get(name) ?? ''}, ${value}` : value);
    }
    return { informational, status, reason: line.slice(13), fields, ...readContent(rest, method, status, fields, finished) };
  }
}

function readContent(rest: string, method: string, status: number, fields: ReadonlyMap<string, string>, finished: boolean): Pick<Seen, 'body' | 'trailers' | 'end'> {
  // RFC 9112 §6.3.
  if (method === 'HEAD' || status === 204 || status === 304 || status === 101) return { body: '', trailers: '', end: 'complete' };
  if (/chunked$/i.test(fields.get('transfer-encoding') ?? '')) return readChunks(rest);
  const length = fields.get('content-length');
  if (length === undefined) return { body: rest, trailers: '', end: finished ? 'complete' : 'broken' };
  // Two equal ones are one.
  const bytes = Number(length.split(', ')[0]);
  return { body: rest.slice(0, bytes), trailers: '', end: rest.length >= bytes ? 'complete' : 'broken' };
}

function readChunks(rest: string): Pick<Seen, 'body' | 'trailers' | 'end'> {
  let body = '';
  for (let at = 0; ; ) {
    const line = rest.indexOf('\r\n', at);
    const size = line === -1 ? NaN : parseInt(rest.slice(at, line), 16);
    if (Number.isNaN(size)) return { body, trailers: '', end: 'broken' };
    if (size === 0) {
      const trailers = rest.slice(line + 2);
      const end = trailers.startsWith('\r\n') ? 0 : trailers.indexOf('\r\n\r\n');
      return { body, trailers: end === -1 ? '' : trailers.slice(0, end), end: end === -1 ? 'broken' : 'complete' };
    }
    const data = rest.slice(line + 2, line + 2 + size);
    body += data;
    at = line + 2 + size + 2;
    if (rest.length < at) return { body, trailers: '', end: 'broken' };
  }
}
