/** One request on a connection of its own, which is closed afterwards: for answers that must not depend on a pooled connection opened earlier. */
import type { Dialled } from '../dial/dial.ts';
import { Fault } from '../errors.ts';
import { NO_CONTENT } from '../http1/body-reader.ts';
import { NO_FIELDS, type RawFields } from '../http1/fields.ts';
import type { ResponseHead } from '../http1/response-head.ts';
import { UpstreamConnection } from './upstream-connection.ts';

/** A request without content. */
export interface OneQuestion {
  /** `GET` by default. */
  readonly method?: 'GET' | 'HEAD' | 'OPTIONS';
  /** `https://host:port`, for the Host field and messages. */
  readonly origin: string;
  /** With its query; a whole URL if the request goes to a proxy. */
  readonly path: string;
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  /** Longest accepted body, bytes; null: the body does not matter, and is not read. */
  readonly longest: number | null;
  readonly signal: AbortSignal;
}

/** The response to it; redirects are not followed. */
export interface OneAnswer {
  readonly status: number;
  /** Target of a redirect; null: the answer is none. */
  readonly location: string | null;
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: string;
}

const HEADER_BYTES = 16_384;
const HEADER_FIELDS = 200;

/**
 * Read as the answers of partners are, whatever those are used to. The
 * connection is closed by then, with any result.
 * @throws {Fault} of the exchange, or the reason of `signal`
 */
export async function askOnce({ socket, tlsFault }: Pick<Dialled, 'socket' | 'tlsFault'>, { method = 'GET', origin, path, headers, longest, signal }: OneQuestion): Promise<OneAnswer> {
  if (socket.destroyed) throw new Fault('upstream-cut', 'the connection was closed before the question');
  const peer = { address: socket.remoteAddress ?? '', port: socket.remotePort ?? 0 };
  const dialled: Dialled = { socket, address: null, peer, via: '', dnsMs: -1, tcpMs: -1, tlsMs: -1, hopMs: -1, attempts: 1, ...(tlsFault === undefined ? {} : { tlsFault }) };
  // The caller's signal is the only time limit.
  const connection = new UpstreamConnection(dialled, { keepAlive: 0, age: Infinity, headerBytes: HEADER_BYTES, headerFields: HEADER_FIELDS });
  const { promise, resolve, reject } = Promise.withResolvers<OneAnswer>();
  const abort = (): void => {
    reject(Fault.from(signal.reason));
  };
  signal.addEventListener('abort', abort);
  let answer: Omit<OneAnswer, 'body'> | null = null;
  const chunks: Buffer[] = [];
  let length = 0;
  const end = (): void => {
    if (answer !== null) resolve({ ...answer, body: Buffer.concat(chunks).toString('utf8') });
  };
  try {
    if (signal.aborted) abort();
    const fields = { host: new URL(origin).host, ...headers, connection: 'close' };
    const lines = Object.entries(fields).map(([name, value]) => `${name}: ${value}\r\n`);
    connection.begin(
      {
        onInformational: () => {},
        onHead: ({ status, fields: received }: ResponseHead) => {
          const named = byName(received);
          const { location } = named;
          answer = { status, location: typeof location === 'string' ? location : null, headers: named };
          if (longest === null) end();
        },
        onContent: (content) => {
          if (longest === null) return;
          length += content.length;
          if (length > longest) reject(new Fault('upstream-malformed', `the answer is longer than ${longest} bytes`));
          else chunks.push(Buffer.from(content));
        },
        onEnd: end,
        onSwitch: () => {
          reject(new Fault('upstream-malformed', 'the upstream switched protocols without being asked to'));
        },
        onDrain: () => {},
        onBroken: reject,
        onCrash: reject,
      },
      method,
      `${method} ${path} HTTP/1.1\r\n${lines.join('')}\r\n`,
      NO_CONTENT,
    );
    connection.finish(NO_FIELDS);
    return await promise;
  } finally {
    signal.removeEventListener('abort', abort);
    connection.abandon();
  }
}

/** Names in lower case; the values of a repeated one as a list. */
function byName(fields: RawFields): Record<string, string | string[]> {
  const named: Record<string, string | string[]> = Object.create(null) as Record<string, string | string[]>;
  for (let at = 0; at + 1 < fields.length; at += 2) {
    const name = (fields[at] ?? '').toLowerCase();
    const value = fields[at + 1] ?? '';
    const earlier = named[name];
    named[name] = earlier === undefined ? value : [...(typeof earlier === 'string' ? [earlier] : earlier), value];
  }
  return named;
}
