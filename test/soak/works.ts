/** What clients and operators do all the time, and what happens now and then, each with how often. */
import { once } from 'node:events';
import { Agent, type ClientRequest, get, type IncomingMessage, request, type RequestOptions } from 'node:http';
import { connect, type Socket } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { type ConnectionOptions, connect as connectTls } from 'node:tls';
import { WebSocket } from 'ws';
import { between } from '../support/random.ts';
import { ADDRESSES, ECO, OWN, type PartnerMode, type World } from './world.ts';

/** Something that is done again and again. It rejects when it did not end well, as it does while the partner fails. */
export interface Work {
  readonly name: string;
  readonly perSecond: number;
  readonly run: (world: World, random: () => number) => Promise<void>;
}

/** Something that changes, with how often in a second; it takes itself back. */
export type Event = Work;

const PATIENCE_MS = 5000;
const keptAlive = new Agent({ keepAlive: true, maxSockets: 10 });

/** Any address of the clients. */
const podAddress = (random: () => number): string => `127.${between(random, 0, 127)}.${between(random, 0, 255)}.${between(random, 1, 254)}`;
/** Any address at all: half of them are no client's. */
const anyAddress = (random: () => number): string => `127.${between(random, 0, 255)}.${between(random, 0, 255)}.${between(random, 1, 254)}`;
const anyName = (random: () => number): string => `${random().toString(36).slice(2)}.denied.example`;
const plain = ({ ports }: World): string => `${ECO}:${ports.http}`;

/** Sends it and reads the whole answer; rejects where that is not a 200. */
async function finish(asked: ClientRequest): Promise<void> {
  asked.setTimeout(PATIENCE_MS, () => asked.destroy(new Error('timeout')));
  const [response] = (await once(asked, 'response')) as [IncomingMessage];
  response.on('error', () => {}).resume();
  await once(response, 'close');
  if (!response.complete || response.statusCode !== 200) throw new Error(`status ${String(response.statusCode)}`);
}

function ask(world: World, options: RequestOptions, body?: string | Buffer): Promise<void> {
  const asked = request({ host: '127.0.0.1', port: world.proxy.port, ...options });
  asked.on('error', () => {});
  asked.end(body);
  return finish(asked);
}

async function openTunnel(world: World, port: number, options: RequestOptions = {}): Promise<Socket> {
  const asked = request({ host: '127.0.0.1', port: world.proxy.port, agent: false, method: 'CONNECT', path: `${ECO}:${port}`, ...options });
  asked.on('error', () => {}).setTimeout(PATIENCE_MS, () => asked.destroy(new Error('timeout')));
  asked.end();
  const [response, socket] = (await Promise.race([once(asked, 'connect'), once(asked, 'response')])) as [IncomingMessage, Socket];
  if (response.statusCode !== 200) {
    response.socket.destroy();
    throw new Error(`status ${String(response.statusCode)}`);
  }
  socket.on('error', () => {});
  return socket;
}

async function secure(world: World, options: ConnectionOptions): Promise<Socket> {
  const tls = connectTls({ ca: world.authority.certPem, ...options });
  tls.setTimeout(PATIENCE_MS, () => tls.destroy(new Error('timeout')));
  await once(tls, 'secureConnect');
  tls.on('error', () => {});
  return tls;
}

/** One request over a connection, and its end. */
async function askOver(socket: Socket, path: string, host: string): Promise<void> {
  const asked = request({ createConnection: () => socket, path, headers: { host, connection: 'close' } });
  asked.on('error', () => {});
  asked.end();
  try {
    await finish(asked);
  } finally {
    socket.destroy();
  }
}

/** Broken requests, and some that are whole. */
const ABORTED: readonly ((world: World) => string)[] = [
  () => 'GET',
  () => '\x16\x03\x01',
  () => 'GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n',
  (world) => `GET http://${plain(world)}/ok HTTP/1.1\r\nHost: x`,
  (world) => `GET http://${plain(world)}/never HTTP/1.1\r\nHost: ${plain(world)}\r\n\r\n`,
  (world) => `GET http://${plain(world)}/big HTTP/1.1\r\nHost: ${plain(world)}\r\n\r\n`,
  (world) => `POST http://${plain(world)}/ok HTTP/1.1\r\nHost: ${plain(world)}\r\nContent-Length: 10\r\n\r\nhalf`,
  () => 'GET /eco/never HTTP/1.1\r\nHost: x\r\n\r\n',
  () => 'GET /eco/ok HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n',
  (world) => `CONNECT ${plain(world)} HTTP/1.1\r\nHost: x\r\n\r\n`,
  (world) => `CONNECT ${plain(world)} HTTP/1.1\r\nHost: x\r\n\r\nGET /never HTTP/1.1\r\nHost: x\r\n\r\n`,
];

async function abort(world: World, random: () => number): Promise<void> {
  const text = ABORTED[between(random, 0, ABORTED.length - 1)]?.(world) ?? '';
  const socket = connect({ host: '127.0.0.1', port: world.proxy.port });
  await once(socket, 'connect');
  socket.on('error', () => {}).resume();
  socket.write(text.slice(0, random() < 0.3 ? between(random, 1, text.length) : text.length), 'latin1');
  await pause(between(random, 0, 100));
  if (random() < 0.5) socket.resetAndDestroy();
  else socket.destroy();
}

/** Ends well when it is refused. */
async function beDenied(world: World, random: () => number): Promise<void> {
  const name = anyName(random);
  const asked = request({ host: '127.0.0.1', port: world.proxy.port, localAddress: anyAddress(random), agent: false, ...(random() < 0.5 ? { method: 'CONNECT', path: `${name}:443` } : { path: `http://${name}/${name}`, headers: { host: name } }) });
  asked.on('error', () => {});
  asked.end();
  const [response] = (await Promise.race([once(asked, 'response'), once(asked, 'connect')])) as [IncomingMessage];
  response.resume();
  response.socket.destroy();
  if (response.statusCode !== 403) throw new Error(`status ${String(response.statusCode)}`);
}

async function webSocket({ proxy }: World, random: () => number): Promise<void> {
  const socket = new WebSocket(`ws://127.0.0.1:${proxy.port}/eco/socket`, { handshakeTimeout: PATIENCE_MS });
  try {
    await once(socket, 'open');
    socket.on('error', () => {});
    const echoed = once(socket, 'message');
    socket.send('hello');
    await echoed;
    if (random() < 0.5) return;
    socket.close();
    await once(socket, 'close');
  } finally {
    socket.terminate();
  }
}

/** An answer that does not end, read for a while. */
async function watch({ proxy }: World, random: () => number): Promise<void> {
  const asked = get({ host: '127.0.0.1', port: proxy.adminPort, path: '/events', agent: false });
  const [response] = (await once(asked, 'response')) as [IncomingMessage];
  asked.on('error', () => {});
  response.on('error', () => {}).resume();
  await pause(between(random, 500, 5000));
  response.destroy();
}

const ADMIN_PATHS = ['/', '/status.json', '/denials', '/tunnels', '/destinations', '/drain', '/source-ip', '/config', `/explain?client=127.0.0.1&method=CONNECT&target=${ECO}:443`];

/** What is done all the time. */
export const WORKS: readonly Work[] = [
  { name: 'gateway, connections kept', perSecond: 20, run: (world) => ask(world, { agent: keptAlive, path: '/eco/ok' }) },
  { name: 'gateway, a connection each, from changing addresses', perSecond: 5, run: (world, random) => ask(world, { agent: false, localAddress: podAddress(random), path: '/eco/ok' }) },
  { name: 'gateway, 10 kB up', perSecond: 3, run: (world) => ask(world, { agent: keptAlive, method: 'POST', path: '/eco/ok' }, Buffer.alloc(10_000, 'x')) },
  { name: 'gateway, 100 kB down', perSecond: 2, run: (world) => ask(world, { agent: keptAlive, path: '/eco/big' }) },
  { name: 'forward', perSecond: 15, run: (world) => ask(world, { agent: keptAlive, path: `http://${plain(world)}/ok`, headers: { host: plain(world) } }) },
  { name: 'host-routed', perSecond: 5, run: (world) => ask(world, { agent: keptAlive, path: '/ok', headers: { host: plain(world) } }) },
  { name: 'CONNECT with TLS inside', perSecond: 6, run: async (world) => { await askOver(await secure(world, { socket: await openTunnel(world, world.ports.https), servername: ECO }), '/ok', ECO); } },
  { name: 'TLS passed on (sni)', perSecond: 4, run: async (world) => { await askOver(await secure(world, { host: '127.0.0.1', port: world.proxy.tlsPort, servername: ECO }), '/ok', ECO); } },
  {
    name: 'TLS that ends here, every second with a client certificate',
    perSecond: 4,
    run: async (world, random) => {
      const { certPem: cert, keyPem: key } = world.clientCertificate;
      await askOver(await secure(world, { host: '127.0.0.1', port: world.proxy.tlsPort, servername: OWN, ...(random() < 0.5 ? { cert, key } : {}) }), '/eco/ok', OWN);
    },
  },
  { name: 'WebSocket', perSecond: 2, run: webSocket },
  {
    name: 'idle tunnels, 1 to 12 s',
    perSecond: 1,
    run: async (world, random) => {
      const socket = await openTunnel(world, random() < 0.5 ? world.ports.https : world.ports.http);
      socket.resume();
      // However it ends: idle ones do by a timeout, or a reload.
      const closed = new Promise((resolve) => socket.once('close', resolve));
      await Promise.race([closed, pause(between(random, 1000, 12_000))]);
      socket.destroy();
    },
  },
  { name: 'clients that abort', perSecond: 10, run: abort },
  { name: 'denied names, from changing addresses', perSecond: 20, run: beDenied },
  { name: 'pages of the admin port', perSecond: 2, run: ({ proxy }, random) => { const asked = get({ host: '127.0.0.1', port: proxy.adminPort, path: ADMIN_PATHS[between(random, 0, ADMIN_PATHS.length - 1)], agent: false }); asked.on('error', () => {}); return finish(asked); } },
  { name: 'status page, watched for 0.5 to 5 s', perSecond: 0.5, run: watch },
];

const FAILURES: readonly PartnerMode[] = ['refuses', 'resets', 'errors', 'is silent', 'breaks off'];
let turn = 0;

/** What changes now and then. */
export const EVENTS: readonly Event[] = [
  { name: 'certificates renewed', perSecond: 1 / 10, run: (world) => world.renewCertificates() },
  {
    name: 'reloads, valid',
    perSecond: 1 / 7,
    run: async (world, random) => {
      // Another hash each time; every third without the destination for a second, which ends its tunnels.
      world.configure((draft) => {
        Object.assign(draft.limits, { tunnels: between(random, 1000, 2000) });
        if (random() < 1 / 3) draft.rules.splice(0, 1, { clients: ['pods'], destinations: ['eco'], methods: ['GET', 'POST'] });
      });
      await pause(2000);
      world.configure(() => {});
    },
  },
  {
    name: 'reloads, faulty',
    perSecond: 1 / 13,
    run: async (world) => {
      world.spoil();
      await pause(1500);
      world.configure(() => {});
    },
  },
  {
    name: 'other addresses in the DNS, or none',
    perSecond: 1 / 5,
    run: async ({ resolver }, random) => {
      const replies = [{ addresses: ADDRESSES.toReversed(), ttl: 1 }, { addresses: ADDRESSES.slice(0, 1), ttl: 1 }, { addresses: ADDRESSES.slice(1), ttl: 1 }, 'SERVFAIL', 'silent', 'garbage'] as const;
      resolver.reply = replies[between(random, 0, replies.length - 1)] ?? null;
      await pause(2000);
      resolver.reply = { addresses: ADDRESSES, ttl: 1 };
    },
  },
  {
    name: 'failures of the partner, 1.5 s',
    perSecond: 1 / 15,
    run: async ({ partner }) => {
      partner.mode = FAILURES[turn++ % FAILURES.length] ?? 'errors';
      await pause(1500);
      partner.mode = 'answers';
    },
  },
];
