/**
 * A whole proxy, in a process of its own, between clients, partners, parents
 * and a resolver that all say what a grammar makes and spoils. Looks for a dead
 * process, a connection that is neither answered nor closed, what is left in
 * the end, and log lines that say `internal`.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { connect as connectTls, createSecureContext, TLSSocket } from 'node:tls';
import { type ChildProxy, startChildProxy } from '../support/child-proxy.ts';
import { ECO, labCertificates } from '../support/lab.ts';
import { between, seeded } from '../support/random.ts';
import { OWN } from '../support/tls-lab.ts';
import { conversation, hello, parentAnswer, pick, pieces, proxyHeader, type Random, response } from './grammar.ts';

export interface ProxyFuzzOptions {
  readonly seed: number;
  readonly from: number;
  readonly connections: number;
  /** Ends early, ms. */
  readonly within: number;
  readonly atOnce: number;
  readonly say: (line: string) => void;
}

export interface ProxyFuzzReport {
  readonly done: number;
  /** How many cases of each kind. */
  readonly kinds: ReadonlyMap<string, number>;
  /** Each with the number of its case where that is known. */
  readonly findings: readonly string[];
}

/** The proxy's own clocks, ms: all of one connection together are far below the patience of a client here. */
const CLOCK = 300;
const PATIENCE = 30_000;
/** What may be open besides when all is quiet: what the process opened in the course of its life. */
const SLACK = 20;

/** Numbers for one case and one purpose, whatever else was tried before. */
const randomOf = (seed: number, number: number, purpose: number): Random => seeded((Math.imul(seed, 0x9e3779b1) ^ Math.imul(number, 0x85ebca6b) ^ purpose) >>> 0);

const KINDS = ['plain', 'plain', 'plain', 'plain', 'terminated', 'hello', 'proxied', 'http parent', 'socks5 parent', 'name', 'garbage'] as const;

export async function fuzzProxy({ seed, from, connections, within, atOnce, say }: ProxyFuzzOptions): Promise<ProxyFuzzReport> {
  const directory = mkdtempSync(join(tmpdir(), 'eco-egress-fuzz-'));
  const servers = new Servers();
  const findings: string[] = [];
  const kinds = new Map<string, number>();
  const { authority, certPem, keyPem } = await labCertificates();
  const secureContext = createSecureContext({ cert: certPem, key: keyPem });
  const partner = (socket: Socket): void => {
    partnerSide(socket, seed);
  };
  const http = await servers.listen(partner);
  const https = await servers.listen((raw) => {
    const socket = new TLSSocket(raw, { isServer: true, secureContext });
    socket.on('error', () => {});
    partner(socket);
  });
  const [httpParent, socksParent] = await Promise.all((['http', 'socks5'] as const).map((scheme) => servers.listen((socket) => { parentSide(socket, scheme, seed); })));
  const proxy = await startChildProxy({
    directory,
    ports: { https, http },
    onLine: (entry) => {
      if (entry.code === 'internal') findings.push(`logged internal: ${JSON.stringify(entry).slice(0, 1500)}`);
    },
    dns: ({ name }) => nameAnswer(name, seed),
    configure: (draft) => {
      draft.listeners['http'] = ['127.0.0.1:0', { address: '127.0.0.1:0', proxyProtocol: 'from-trusted', trustedPeers: ['127.0.0.0/8'] }];
      draft.listeners['tls'] = ['127.0.0.1:0'];
      draft.hops = Object.fromEntries(Object.entries({ 'by-http': `http://127.0.0.1:${httpParent}`, 'by-socks': `socks5://127.0.0.1:${socksParent}` }).map(([name, url]) => [name, { url, addresses: ['127.0.0.0/8'], connect: `${CLOCK}ms`, coolDown: '0s' }]));
      draft.destinations['by-http'] = { hosts: ['*.by-http.internal'], ports: [https, http], via: 'by-http', resolve: 'parent', tls: { caFile: 'ca.pem' } };
      draft.destinations['by-socks'] = { hosts: ['*.by-socks.internal'], ports: [https, http], via: 'by-socks', resolve: 'parent', tls: { caFile: 'ca.pem' } };
      draft.destinations['names'] = { hosts: ['*.names.internal'], ports: [https, http], addresses: ['127.0.0.0/8'], tls: { caFile: 'ca.pem' } };
      draft.rules.push({ clients: ['pods'], destinations: ['by-http', 'by-socks', 'names'] });
      for (const name of ['resolve', 'connect', 'tls', 'requestHeaders', 'responseHeaders', 'body', 'keepAlive', 'upstreamKeepAlive', 'tunnelIdle']) draft.timeouts[name] = `${CLOCK}ms`;
      draft.timeouts['tunnelAge'] = '5s';
      Object.assign(draft.dns, { ttl: '0s', staleFor: '0s' });
    },
  });
  const listening = proxy.log.find(({ msg }) => msg === 'eco-egress is listening');
  const proxiedPort = Number(/:(\d+)$/.exec((listening?.['http'] as string[])[1] ?? '')?.[1]);
  const before = proxy.descriptors();
  const began = performance.now();
  let next = from;
  let done = 0;
  const died = (): boolean => proxy.death !== null;
  const lane = async (): Promise<void> => {
    while (next < from + connections && performance.now() - began < within && !died()) {
      const number = next;
      next += 1;
      const random = randomOf(seed, number, 1);
      const kind = pick(random, KINDS);
      kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
      const place = { http, https, port: proxy.port, tlsPort: proxy.tlsPort, proxiedPort, ca: authority.certPem };
      const ended = await oneClient(random, kind, number, place);
      if (!ended && !died()) findings.push(`case ${number} (${kind}): neither answered to its end nor closed within ${PATIENCE / 1000} s`);
      done += 1;
      if (done % 10_000 === 0) say(`${done} connections, ${Math.round((performance.now() - began) / 1000)} s, ${findings.length} findings`);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, lane));
  if (proxy.death === null) findings.push(...(await leftBehind(proxy, before)));
  else findings.push(`the process died at or before case ${next - 1} (${atOnce} at once): ${proxy.death}`);
  await servers.close();
  await proxy.close();
  rmSync(directory, { recursive: true, force: true });
  return { done, kinds, findings };
}

interface FuzzPlace {
  readonly http: number;
  readonly https: number;
  readonly port: number;
  readonly tlsPort: number;
  readonly proxiedPort: number;
  readonly ca: string;
}

/** @returns whether the proxy ended the connection, or the client could by itself since it had its answer */
async function oneClient(random: Random, kind: (typeof KINDS)[number], number: number, place: FuzzPlace): Promise<boolean> {
  const suffix = { 'http parent': 'by-http.internal', 'socks5 parent': 'by-socks.internal', name: 'names.internal' } as const;
  const name = kind in suffix ? `n${number}.${suffix[kind as keyof typeof suffix]}` : ECO;
  const targets = { host: `${name}:${random() < 0.8 ? place.http : place.https}`, others: [`${ECO}:${place.https}`, 'evil.example:80', '127.0.0.1:22', `[::1]:${place.http}`], prefix: '/eco', path: `/case/${number}` };
  const says = kind === 'hello' ? hello(random) : kind === 'garbage' ? String.fromCharCode(...Array.from({ length: between(random, 1, 300) }, () => between(random, 0, 255))) : conversation(random, targets);
  const text = kind === 'proxied' ? proxyHeader(random) + says : says;
  const port = kind === 'proxied' ? place.proxiedPort : kind === 'hello' || kind === 'terminated' || (kind === 'garbage' && random() < 0.5) ? place.tlsPort : place.port;
  const tcp = connect({ host: '127.0.0.1', port, noDelay: true, allowHalfOpen: random() < 0.3 });
  tcp.on('error', () => {});
  let socket: Socket = tcp;
  if (kind === 'terminated') {
    socket = connectTls({ socket: tcp, servername: OWN, ca: place.ca });
    socket.on('error', () => {});
  }
  const closed = new Promise<boolean>((resolve) => {
    const over = (): void => {
      resolve(true);
    };
    // With its own half open, a client that sees the end has been told.
    socket.once('end', over).once('close', over);
    tcp.once('close', over);
  });
  // A client that does not read sees no end: it looks later.
  if (random() < 0.95) socket.resume();
  else setTimeout(() => socket.resume(), 3000);
  for (const piece of pieces(random, text)) {
    if (socket.destroyed) break;
    socket.write(piece, 'latin1');
    if (random() < 0.3) await delay(between(random, 0, 5));
  }
  const end = pick(random, ['wait', 'wait', 'wait', 'fin', 'fin', 'reset', 'destroy']);
  if (end === 'fin') socket.end();
  if (end === 'reset' || end === 'destroy') {
    await delay(between(random, 0, 30));
    if (end === 'reset') tcp.resetAndDestroy();
    else tcp.destroy();
  }
  const clock = new AbortController();
  const ended = await Promise.race([closed, delay(PATIENCE, false, { signal: clock.signal }).catch(() => false)]);
  clock.abort();
  socket.destroy();
  tcp.destroy();
  return ended;
}

/** Answers each request it can tell from the others by what the case's number makes. */
function partnerSide(socket: Socket, seed: number): void {
  let held = '';
  let answers = 0;
  socket.on('error', () => {});
  socket.setTimeout(5000, () => socket.destroy());
  socket.on('data', (chunk: Buffer) => {
    held = (held + chunk.toString('latin1')).slice(-100_000);
    const end = held.indexOf('\r\n\r\n');
    if (end === -1) return;
    const number = Number(/\/case\/(\d+)/.exec(held)?.[1] ?? 0);
    held = '';
    answers += 1;
    const random = randomOf(seed, number, 1 + answers);
    for (const piece of pieces(random, response(random))) socket.write(piece, 'latin1');
    const then = random();
    if (then < 0.3) socket.end();
    else if (then < 0.4) setImmediate(() => { if (!socket.destroyed && !(socket instanceof TLSSocket)) socket.resetAndDestroy(); else socket.destroy(); });
  });
}

function parentSide(socket: Socket, scheme: 'http' | 'socks5', seed: number): void {
  let answers = 0;
  socket.on('error', () => {});
  socket.setTimeout(5000, () => socket.destroy());
  socket.on('data', (chunk: Buffer) => {
    const number = Number(/n(\d+)\.by-/.exec(chunk.toString('latin1'))?.[1] ?? 0);
    answers += 1;
    const random = randomOf(seed, number, 100 + answers);
    // Now and then a good one, so that what follows is reached too.
    const good = scheme === 'http' ? 'HTTP/1.1 200 OK\r\n\r\n' : answers === 1 ? '\x05\x00' : '\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00';
    const text = random() < 0.4 ? good : parentAnswer(random, scheme);
    for (const piece of pieces(random, text)) socket.write(piece, 'latin1');
    if (random() < 0.2) socket.end();
  });
}

function nameAnswer(name: string, seed: number): ReturnType<NonNullable<Parameters<typeof startChildProxy>[0]['dns']>> {
  const number = /^n(\d+)\.names\./i.exec(name)?.[1];
  if (number === undefined) return { addresses: ['127.0.0.1'], ttl: 60 };
  const random = randomOf(seed, Number(number), 200);
  return pick(random, [
    'NXDOMAIN', 'SERVFAIL', 'silent', null,
    { addresses: [], ttl: 0 },
    { addresses: ['127.0.0.1'], ttl: 0 },
    { addresses: ['127.0.0.1'], ttl: 0xffff_ffff },
    { addresses: ['10.0.0.1', '127.0.0.1'], ttl: 1 },
    { addresses: ['169.254.169.254'], ttl: 1 },
    { addresses: ['0.0.0.0'], ttl: 1 },
    { addresses: ['::1'], ttl: 1 },
    { addresses: ['127.0.0.250', '127.0.0.1'], ttl: 1 },
    { addresses: Array.from({ length: 25 }, (_, i) => `127.0.1.${i}`), ttl: 1 },
  ]);
}

/** What has not gone when everybody has. */
async function leftBehind(proxy: ChildProxy, before: number): Promise<string[]> {
  const deadline = performance.now() + 30_000;
  for (;;) {
    await delay(500);
    const { samples } = await proxy.scrape();
    const left = [...samples].filter(([name, value]) => value > 0 && /^eco_egress_(?:client_connections|tunnels_active|exchanges_active|upstream_connections)\b/.test(name)).map(([name, value]) => `${name} ${value}`);
    const timers = await proxy.timers();
    const more = proxy.descriptors() - before;
    if (left.length === 0 && more <= SLACK && timers <= SLACK) return [];
    if (performance.now() > deadline) return [`left after 30 s of quiet: ${[...left, `${more} descriptors`, `${timers} timers`].join(', ')}`];
  }
}

class Servers {
  readonly #all: { readonly server: Server; readonly sockets: Set<Socket> }[] = [];

  async listen(take: (socket: Socket) => void): Promise<number> {
    const sockets = new Set<Socket>();
    const server = createServer({ noDelay: true }, (socket) => {
      sockets.add(socket);
      socket.on('error', () => {});
      socket.once('close', () => sockets.delete(socket));
      take(socket);
    });
    this.#all.push({ server, sockets });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const address = server.address();
    if (address === null || typeof address === 'string') throw new Error('not a TCP server');
    return address.port;
  }

  async close(): Promise<void> {
    await Promise.all(
      this.#all.map(({ server, sockets }) => {
        for (const socket of sockets) socket.destroy();
        return new Promise<void>((resolve) => server.close(() => { resolve(); }));
      }),
    );
  }
}
