/** A dialler whose parents and upstreams are all of this process, with its clock and what it tells at hand. */
import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { createServer as createTlsServer } from 'node:tls';
import type { Test } from 'tap';
import type { HopConfig } from '../../src/config/config.ts';
import { createAuthority } from '../../src/demo/authority.ts';
import { CoolDowns } from '../../src/dial/cool-downs.ts';
import type { Dialled, Dialler, DialTarget } from '../../src/dial/dial.ts';
import { createDialler } from '../../src/dial/dialler.ts';
import { createResolver } from '../../src/dial/resolver.ts';
import { Fault } from '../../src/errors.ts';
import { listen } from './listen.ts';
import { stepsOf } from './way.ts';

export const SCHEMES = ['http', 'https', 'socks5'] as const;

export const authority = await createAuthority();
const issued = await authority.issue({ names: ['parent.test', 'eco.test'] });
/** Of parents and upstreams. */
export const serverTls = { cert: issued.certPem, key: issued.keyPem };
/** Towards them. */
export const clientTls = { ca: authority.certPem, cert: null, key: null, serverName: null };

export const never = (): AbortSignal => new AbortController().signal;

export interface Door {
  readonly dialler: Dialler;
  readonly clock: { now: number };
  readonly notices: string[];
}

/** Every name is 127.0.0.1, but for those that are given. */
export function openDoor(names: Readonly<Record<string, readonly string[]>> = {}): Door {
  const clock = { now: 0 };
  const notices: string[] = [];
  const coolDowns = new CoolDowns({
    now: () => clock.now,
    onFailed: (_, parent) => notices.push(`failed ${parent}`),
    onBack: (_, parent) => notices.push(`back ${parent}`),
  });
  const resolver = createResolver({ lookup: (host) => Promise.resolve({ addresses: names[host] ?? ['127.0.0.1'], ttl: null }), dns: { ttl: 30_000, staleFor: 0 }, timeout: 5_000 });
  return { dialler: createDialler({ resolver, timeouts: { connect: 5_000, tls: 5_000 }, coolDowns, via: '1.1 eco-egress' }), clock, notices };
}

export const { dialler } = openDoor();

export const dialBy = (hops: readonly HopConfig[], port: number, change: Partial<DialTarget> = {}, by = dialler): Promise<Dialled> =>
  by.dial({ host: 'eco.test', port, tls: null, via: stepsOf(...hops), ...change }, () => null, never());

export async function faultOf(dial: Promise<Dialled>): Promise<Fault> {
  try {
    (await dial).socket.destroy();
  } catch (error) {
    if (error instanceof Fault) return error;
    throw error;
  }
  throw new Error('the dial succeeded');
}

/** An upstream that sends `greeting` at once and everything back. */
export function startEcho(t: Test, greeting = ''): Promise<number> {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.write(greeting);
    socket.pipe(socket);
  });
  return listen(t, server);
}

/** A server that does this to each connection, over TLS or not, until the client ends. */
export function startOdd(t: Test, scheme: 'http' | 'https', onSocket: (socket: Socket) => void): Promise<number> {
  const serve = (socket: Socket): void => {
    socket.on('error', () => {}).on('end', () => socket.destroy());
    onSocket(socket);
  };
  const server: Server = scheme === 'https' ? createTlsServer(serverTls, serve) : createServer(serve);
  return listen(t, server);
}

/** Says something, ends, and returns all that came back. */
export async function converseWith(socket: Socket, text: string): Promise<string> {
  let heard = '';
  socket.setEncoding('latin1').on('data', (chunk: string) => {
    heard += chunk;
  });
  socket.end(text);
  await once(socket, 'end');
  socket.destroy();
  return heard;
}
