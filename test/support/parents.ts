/** Parent proxies that work, small enough to be read: CONNECT over TCP or TLS, and SOCKS5. Names are all 127.0.0.1 to them. */
import { connect, createServer, isIP, type Server, type Socket } from 'node:net';
import { createServer as createTlsServer, type TlsOptions, TLSSocket } from 'node:tls';
import type { Test } from 'tap';
import { listen } from './listen.ts';

export interface Parent {
  readonly port: number;
  readonly server: Server;
  /** What it was asked for, `host:port`, in order. */
  readonly asked: readonly string[];
  /** All that it was told before each tunnel, one character a byte. */
  readonly heads: readonly string[];
  /** Connections that it took. */
  readonly taken: number;
}

export interface ParentOptions {
  readonly scheme?: 'http' | 'https' | 'socks5';
  readonly tls?: TlsOptions;
  readonly host?: string;
  /** SOCKS5: takes nobody but this `user:password`. */
  readonly login?: string;
  /** Instead of a tunnel: what is answered, in the bytes of its protocol, before the connection ends; null: a tunnel after all. */
  readonly refuse?: (asked: string) => string | null;
  /** Stands behind the answer in the same segment, before anything of the upstream. */
  readonly early?: string;
}

/** Half-open as it is, a server does not see that a client went away in the middle of the handshake. */
const HALF_OPEN_MS = 500;

/** Ends with the test. */
export async function startParent(t: Test, { scheme = 'http', tls, host, login, refuse = () => null, early = '' }: ParentOptions = {}): Promise<Parent> {
  const asked: string[] = [];
  const heads: string[] = [];
  let taken = 0;
  const serve = (socket: Socket): void => {
    taken += 1;
    socket.on('error', () => {});
    const talk = scheme === 'socks5' ? socksTalk(login ?? null) : httpTalk();
    const onData = (chunk: Buffer): void => {
      const step = talk(chunk);
      if (step.send !== '') socket.write(step.send, 'latin1');
      if (step.target === null) return;
      socket.off('data', onData);
      socket.pause();
      asked.push(step.target);
      heads.push(step.head);
      const refusal = refuse(step.target);
      if (refusal !== null) {
        socket.end(refusal, 'latin1');
        return;
      }
      join(socket, step.target, step.accept + early, step.rest);
    };
    socket.on('data', onData);
  };
  const server = scheme === 'https' ? createTlsServer({ ...tls, allowHalfOpen: true, handshakeTimeout: HALF_OPEN_MS } as TlsOptions, serve) : createServer({ allowHalfOpen: true, noDelay: true }, serve);
  if (scheme === 'https') server.on('tlsClientError', (_, socket: Socket) => socket.destroy());
  const port = await listen(t, server, host);
  return {
    port,
    server,
    asked,
    heads,
    get taken() {
      return taken;
    },
  };
}

/** Both ways, each with an end of its own; a side that breaks breaks the other. */
function join(client: Socket, target: string, accept: string, rest: Buffer): void {
  const colon = target.lastIndexOf(':');
  const name = target.slice(0, colon).replace(/^\[|\]$/g, '');
  const upstream = connect({ host: isIP(name) === 0 ? '127.0.0.1' : name, port: Number(target.slice(colon + 1)), allowHalfOpen: true, noDelay: true });
  upstream.once('connect', () => {
    client.write(accept, 'latin1');
    upstream.write(rest);
    client.pipe(upstream);
    upstream.pipe(client);
  });
  // TLS has no reset.
  upstream.on('error', () => (client instanceof TLSSocket ? client.destroy() : client.resetAndDestroy()));
  client.on('close', () => upstream.destroy());
  upstream.on('close', () => {
    if (!client.writableEnded) client.destroy();
  });
}

interface Step {
  readonly send: string;
  /** Null: more has to come. */
  readonly target: string | null;
  readonly head: string;
  readonly accept: string;
  readonly rest: Buffer;
}

type Talk = (chunk: Buffer) => Step;

const more = (send = ''): Step => ({ send, target: null, head: '', accept: '', rest: Buffer.alloc(0) });

function httpTalk(): Talk {
  let held = Buffer.alloc(0);
  return (chunk) => {
    held = Buffer.concat([held, chunk]);
    const end = held.indexOf('\r\n\r\n');
    if (end === -1) return more();
    const head = held.toString('latin1', 0, end);
    return { send: '', target: /^CONNECT (\S+) /.exec(head)?.[1] ?? '', head, accept: 'HTTP/1.1 200 Connection established\r\n\r\n', rest: held.subarray(end + 4) };
  };
}

/** Takes each message in one piece, as small messages come. */
function socksTalk(login: string | null): Talk {
  let stage: 'greeting' | 'login' | 'request' = 'greeting';
  let head = '';
  return (message) => {
    head += message.toString('latin1');
    if (stage === 'greeting') {
      stage = login === null ? 'request' : 'login';
      const method = login === null ? 0 : 2;
      return more(message.subarray(2).includes(method) ? `\x05${String.fromCharCode(method)}` : '\x05\xff');
    }
    if (stage === 'login') {
      stage = 'request';
      const user = message.toString('utf8', 2, 2 + (message[1] ?? 0));
      return more(`${user}:${message.toString('utf8', 3 + Buffer.byteLength(user))}` === login ? '\x01\x00' : '\x01\x01');
    }
    const length = message[3] === 1 ? 4 : message[3] === 4 ? 16 : 1 + (message[4] ?? 0);
    const address = message.subarray(4, 4 + length);
    const host = message[3] === 1 ? address.join('.') : message[3] === 4 ? `[${(address.toString('hex').match(/.{4}/g) ?? []).join(':')}]` : address.toString('latin1', 1);
    const port = message.readUInt16BE(4 + length);
    return { send: '', target: `${host}:${port}`, head, accept: '\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00', rest: message.subarray(6 + length) };
  };
}
