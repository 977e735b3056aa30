/** The way through parents: chains, what each step may do to it, and nothing left behind. */
import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { createServer as createTlsServer } from 'node:tls';
import t, { type Test } from 'tap';
import type { HopConfig } from '../../src/config/config.ts';
import { createAuthority } from '../../src/demo/authority.ts';
import { CoolDowns } from '../../src/dial/cool-downs.ts';
import type { Dialled, Dialler, DialTarget } from '../../src/dial/dial.ts';
import { createDialler } from '../../src/dial/dialler.ts';
import { createResolver } from '../../src/dial/resolver.ts';
import { Fault } from '../../src/errors.ts';
import { createHopGuard } from '../../src/policy/hop-guard.ts';
import { startFullListener } from '../support/full-listener.ts';
import { listen } from '../support/listen.ts';
import { untilSockets } from '../support/open-sockets.ts';
import { type ParentOptions, startParent } from '../support/parents.ts';
import { makeHop, parentAt, stepsOf } from '../support/way.ts';

const authority = await createAuthority();
const issued = await authority.issue({ names: ['parent.test', 'eco.test'] });
const tls = { ca: authority.certPem, cert: null, key: null, serverName: null };
const serverTls = { cert: issued.certPem, key: issued.keyPem };
const never = (): AbortSignal => new AbortController().signal;

interface Door {
  readonly dialler: Dialler;
  readonly clock: { now: number };
  readonly notices: string[];
}

/** Every name is 127.0.0.1, but for those that are given. */
function openDoor(names: Readonly<Record<string, readonly string[]>> = {}): Door {
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

const { dialler } = openDoor();

/** An upstream that sends `greeting` at once and everything back. */
function startEcho(t: Test, greeting = ''): Promise<number> {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.write(greeting);
    socket.pipe(socket);
  });
  return listen(t, server);
}

async function faultOf(dial: Promise<Dialled>): Promise<Fault> {
  try {
    (await dial).socket.destroy();
  } catch (error) {
    if (error instanceof Fault) return error;
    throw error;
  }
  throw new Error('the dial succeeded');
}

const dialBy = (hops: readonly HopConfig[], port: number, change: Partial<DialTarget> = {}, door = dialler): Promise<Dialled> =>
  door.dial({ host: 'eco.test', port, tls: null, via: stepsOf(...hops), ...change }, () => null, never());

/** Says something, ends, and returns all that came back. */
async function converseWith(socket: Socket, text: string): Promise<string> {
  let heard = '';
  socket.setEncoding('latin1').on('data', (chunk: string) => {
    heard += chunk;
  });
  socket.end(text);
  await once(socket, 'end');
  socket.destroy();
  return heard;
}

const SCHEMES = ['http', 'https', 'socks5'] as const;

t.test('one parent of each kind: the upstream’s first bytes and the client’s end arrive', async (t) => {
  const port = await startEcho(t, 'hello ');
  for (const scheme of SCHEMES) {
    const parent = await startParent(t, { scheme, tls: serverTls, early: 'early ' });
    const dialled = await dialBy([makeHop('edge', [parentAt(parent.port, scheme)], { tls })], port);
    t.match(dialled, { address: '127.0.0.1', peer: { address: '127.0.0.1', port: parent.port }, via: `edge (parent.test:${parent.port})` });
    t.ok(dialled.tcpMs >= 0 && dialled.hopMs >= 0 && dialled.tlsMs === -1);
    t.equal(await converseWith(dialled.socket, 'bye'), 'early hello bye', scheme);
    t.strictSame(parent.asked, [`127.0.0.1:${port}`], 'asked for the address that was judged');
    if (scheme !== 'socks5') t.equal(parent.heads[0], `CONNECT 127.0.0.1:${port} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nVia: 1.1 eco-egress`);
  }
  await untilSockets(0);
});

t.test('chains of three, in every order of kinds; TLS to the upstream inside', async (t) => {
  const upstream = createTlsServer({ ...serverTls, allowHalfOpen: true } as typeof serverTls, (socket) => socket.pipe(socket));
  const port = await listen(t, upstream);
  const login = 'eco:secret';
  const parents = new Map(await Promise.all(SCHEMES.map(async (scheme) => [scheme, await startParent(t, { scheme, tls: serverTls, ...(scheme === 'socks5' ? { login } : {}) })] as const)));
  for (const first of SCHEMES) {
    for (const second of SCHEMES) {
      for (const third of SCHEMES) {
        const order = [first, second, third];
        const hops = order.map((scheme, index) =>
          makeHop(`hop${index}`, [parentAt(parents.get(scheme)?.port ?? 0, scheme)], { tls, credentials: scheme === 'socks5' ? { kind: 'basic', user: 'eco', password: 'secret' } : null }),
        );
        const { socket, via } = await dialBy(hops, port, { tls });
        t.equal(await converseWith(socket, order.join()), order.join());
        t.equal(via, hops.map(({ name, parents: [parent] }) => `${name} (parent.test:${parent?.port ?? 0})`).join(', '));
      }
    }
  }
  const asked = new Set([...parents.values()].flatMap((parent) => parent.asked));
  t.strictSame([...asked].toSorted(), [`127.0.0.1:${port}`, ...[...parents.values()].map((parent) => `parent.test:${parent.port}`)].toSorted(), 'later parents are asked for by name');
  await untilSockets(0);
});

t.test('each hop sees its own credentials, and no other', async (t) => {
  const port = await startEcho(t);
  const [near, far] = [await startParent(t), await startParent(t)];
  const hops = [
    makeHop('near', [parentAt(near.port)], { credentials: { kind: 'basic', user: 'near', password: 'näh' } }),
    makeHop('far', [parentAt(far.port)], { credentials: { kind: 'bearer', token: 'far.token' } }),
  ];
  const { socket } = await dialBy(hops, port);
  t.equal(await converseWith(socket, 'x'), 'x', 'and the upstream none');
  t.match(near.heads[0], `Proxy-Authorization: Basic ${Buffer.from('near:näh').toString('base64')}`);
  t.notMatch(near.heads[0], 'far.token');
  t.match(far.heads[0], 'Proxy-Authorization: Bearer far.token');
  t.notMatch(far.heads[0], 'Basic');
  await untilSockets(0);
});

t.test('who resolves the name', async (t) => {
  const port = await startEcho(t);
  const parent = await startParent(t);
  const hop = makeHop('edge', [parentAt(parent.port)]);
  const byParent = await dialBy([hop], port, { resolve: 'parent' });
  t.equal(byParent.address, null);
  byParent.socket.destroy();
  t.equal(parent.asked[0], `eco.test:${port}`);

  const judged: string[] = [];
  const guard = (address: string): Fault | null => {
    judged.push(address);
    return address === '10.0.0.2' ? new Fault('address-not-allowed', 'not that one') : null;
  };
  const refusing = await startParent(t, { refuse: (asked) => (asked.startsWith('127.') ? null : 'HTTP/1.1 502 Bad Gateway\r\n\r\n') });
  const door = openDoor({ 'eco.test': ['10.0.0.2', '10.0.0.1', '127.0.0.1'] });
  const { socket, address } = await door.dialler.dial({ host: 'eco.test', port, tls: null, via: stepsOf(makeHop('edge', [parentAt(refusing.port)])) }, guard, never());
  socket.destroy();
  t.equal(address, '127.0.0.1');
  t.strictSame(refusing.asked, [`10.0.0.1:${port}`, `127.0.0.1:${port}`], 'each judged address in turn, and no other');
  t.strictSame(judged, ['10.0.0.2', '10.0.0.1', '127.0.0.1']);
  t.strictSame(door.notices, [], 'the parent is well');
  await untilSockets(0);
});

t.test('the parent’s own address is judged', async (t) => {
  const parent = await startParent(t);
  const table: [addresses: string[], hop: Partial<HopConfig>, code: string, told: RegExp][] = [
    [['169.254.169.254'], {}, 'hop-failed', /^hop edge \(parent\.test:\d+\): 169\.254\.169\.254 \(metadata, .*\) is where no parent/],
    [['127.0.0.1'], {}, 'hop-failed', /loopback/],
    [['127.0.0.1'], { addresses: ['10.0.0.0/8'] }, 'hop-failed', /outside the ranges listed in hops\.edge\.addresses/],
    [['10.9.9.9', '127.0.0.9'], { addresses: ['10.0.0.0/16'] }, 'hop-failed', /10\.9\.9\.9 .*; hop edge: 127\.0\.0\.9/],
  ];
  for (const [addresses, change, code, told] of table) {
    const hop = makeHop('edge', [parentAt(parent.port)], change);
    const { dialler: door } = openDoor({ 'parent.test': addresses });
    const fault = await faultOf(door.dial({ host: '127.0.0.1', port: 1, tls: null, via: [{ hop, guard: createHopGuard(hop, () => false) }] }, () => null, never()));
    t.equal(fault.code, code);
    t.match(fault.message, told);
  }
  const hop = makeHop('edge', [parentAt(parent.port)], { addresses: ['127.0.0.0/8'] });
  const self = await faultOf(dialler.dial({ host: '127.0.0.1', port: 1, tls: null, via: [{ hop, guard: createHopGuard(hop, (_, port) => port === parent.port) }] }, () => null, never()));
  t.equal(self.code, 'loop');
  t.equal(parent.taken, 0);
});

/** A server that does this to each connection, over TLS or not, until the client ends. */
function startOdd(t: Test, scheme: 'http' | 'https', onSocket: (socket: Socket) => void): Promise<number> {
  const serve = (socket: Socket): void => {
    socket.on('error', () => {}).on('end', () => socket.destroy());
    onSocket(socket);
  };
  const server: Server = scheme === 'https' ? createTlsServer(serverTls, serve) : createServer(serve);
  return listen(t, server);
}

t.test('a parent that hangs, at each step, has this hop’s clock', async (t) => {
  const silent = await startOdd(t, 'http', (socket) => socket.resume());
  const full = await startFullListener(t);
  const half = await startOdd(t, 'http', (socket) => socket.write('HTTP/1.1 200 OK\r\nX: '));
  const silentTls = await startOdd(t, 'https', (socket) => socket.resume());
  const halfSocks = await startOdd(t, 'http', (socket) => socket.write('\x05'));
  const table: [scheme: (typeof SCHEMES)[number], port: number, told: RegExp][] = [
    ['http', full, /127\.0\.0\.1: no answer in 150 ms/],
    ['https', silent, /no end of the TLS handshake in 150 ms/],
    ['http', silent, /no answer to CONNECT 127\.0\.0\.1:1 in 150 ms/],
    ['https', silentTls, /no answer to CONNECT 127\.0\.0\.1:1 in 150 ms/],
    ['http', half, /no complete answer to CONNECT 127\.0\.0\.1:1 in 150 ms/],
    ['socks5', silent, /no answer to SOCKS CONNECT 127\.0\.0\.1:1 in 150 ms/],
    ['socks5', halfSocks, /no complete answer to SOCKS CONNECT/],
  ];
  await Promise.all(
    table.map(async ([scheme, port, told]) => {
      const fault = await faultOf(dialBy([makeHop('edge', [parentAt(port, scheme)], { tls, connect: 150 })], 1));
      t.equal(fault.code, 'hop-timeout', String(told));
      t.match(fault.message, told);
      t.match(fault.message, `hop edge (parent.test:${port}): `);
      t.ok(fault.remedy);
    }),
  );
});

t.test('a parent that refuses or cuts, at each step, is named', async (t) => {
  const closed = await startOdd(t, 'http', () => {});
  const gone = createServer();
  const nobody = await listen(t, gone);
  gone.close();
  const cutting = await startOdd(t, 'http', (socket) => socket.once('data', () => socket.end()));
  const cuttingHead = await startOdd(t, 'http', (socket) => socket.once('data', () => socket.end('HTTP/1.1 200 OK\r\n')));
  const resetting = await startOdd(t, 'http', (socket) => socket.once('data', () => socket.resetAndDestroy()));
  const cuttingTls = await startOdd(t, 'https', (socket) => socket.once('data', () => socket.end()));
  const table: [scheme: (typeof SCHEMES)[number], port: number, told: RegExp][] = [
    ['http', nobody, /127\.0\.0\.1: ECONNREFUSED/],
    ['https', cutting, /closed the connection during the handshake/],
    ['http', cutting, /closed the connection without an answer to CONNECT/],
    ['http', cuttingHead, /closed the connection in the middle of its answer/],
    ['http', resetting, /broke the connection \(ECONNRESET\) without an answer/],
    ['https', cuttingTls, /closed the connection without an answer/],
    ['socks5', cutting, /closed the connection without an answer to SOCKS CONNECT/],
    ['https', await startOdd(t, 'http', (socket) => socket.write('HTTP/1.1 400 Bad Request\r\n\r\n')), /is not TLS/],
    ['http', await startOdd(t, 'http', (socket) => socket.write('SSH-2.0-x\r\n')), /sent something else instead of an HTTP answer/],
    ['socks5', await startOdd(t, 'http', (socket) => socket.write('HTTP/1.1 400 Bad Request\r\n\r\n')), /sent something else instead of a SOCKS5 answer/],
    ['http', await startOdd(t, 'http', (socket) => socket.write(`HTTP/1.1 200 OK\r\n${'X: y\r\n'.repeat(4_000)}`)), /more than 16384 bytes of header/],
  ];
  for (const [scheme, port, told] of table) {
    const fault = await faultOf(dialBy([makeHop('edge', [parentAt(port, scheme)], { tls })], 1));
    t.equal(fault.code, 'hop-failed', String(told));
    t.match(fault.message, told);
    t.ok(fault.message.startsWith(`hop edge (parent.test:${port}): `), fault.message);
    t.ok(fault.remedy);
  }
  t.ok(closed);
});

t.test('TLS of a parent is verified, by its own settings', async (t) => {
  const port = await startEcho(t);
  const parent = await startParent(t, { scheme: 'https', tls: serverTls });
  const table: [change: Partial<HopConfig>, host: string, told: RegExp, remedy: RegExp][] = [
    [{}, 'parent.test', /signed by an authority that is not trusted here/, /hops\.edge\.tls\.caFile/],
    [{ tls }, 'other.test', /the certificate is not for other\.test/, /hops\.edge\.tls\.serverName/],
  ];
  for (const [change, host, told, remedy] of table) {
    const fault = await faultOf(dialBy([makeHop('edge', [parentAt(parent.port, 'https', host)], change)], port));
    t.equal(fault.code, 'hop-failed');
    t.match(fault.message, told);
    t.match(fault.remedy, remedy);
  }
  const { socket } = await dialBy([makeHop('edge', [parentAt(parent.port, 'https', 'other.test')], { tls: { ...tls, serverName: 'parent.test' } })], port);
  socket.destroy();

  const asking = await startParent(t, { scheme: 'https', tls: { ...serverTls, ca: authority.certPem, requestCert: true, minVersion: 'TLSv1.3' } });
  const fault = await faultOf(dialBy([makeHop('edge', [parentAt(asking.port, 'https')], { tls })], port));
  t.equal(fault.code, 'hop-failed');
  t.match(fault.message, /CERTIFICATE_REQUIRED/, 'refused after the handshake, in TLS 1.3');
  const client = await authority.issue({ names: ['eco-egress.test'], clientAuth: true });
  (await dialBy([makeHop('edge', [parentAt(asking.port, 'https')], { tls: { ...tls, cert: client.certPem, key: client.keyPem } })], port)).socket.destroy();
  await untilSockets(0);
});

const refusing = (answer: string, options: ParentOptions = {}): ParentOptions => ({ ...options, refuse: () => answer });

t.test('failover: in order, past those that failed, until their time is over', async (t) => {
  const port = await startEcho(t);
  const gone = createServer();
  const nobody = await listen(t, gone);
  gone.close();
  const good = await startParent(t);
  const { dialler: door, clock, notices } = openDoor();
  const hop = makeHop('edge', [parentAt(nobody), parentAt(good.port)]);
  const open = async (): Promise<string> => {
    const { socket, via } = await dialBy([hop], port, {}, door);
    socket.destroy();
    return via;
  };
  t.equal(await open(), `edge (parent.test:${good.port})`);
  t.strictSame(notices, [`failed hop edge (parent.test:${nobody})`]);

  const back = createServer((socket) => socket.resume().end('HTTP/1.1 200 OK\r\n\r\n'));
  back.listen(nobody, '127.0.0.1');
  await once(back, 'listening');
  t.teardown(() => back.close());
  clock.now = 29_999;
  t.equal(await open(), `edge (parent.test:${good.port})`, 'passed over, though it is back');
  clock.now = 30_000;
  t.equal(await open(), `edge (parent.test:${nobody})`, 'the first again');
  t.strictSame(notices, [`failed hop edge (parent.test:${nobody})`, `back hop edge (parent.test:${nobody})`]);
});

t.test('failover: which answers are the parent’s own failure', async (t) => {
  const port = await startEcho(t);
  const table: [answer: string, over: boolean][] = [
    ['HTTP/1.1 407 no\r\n\r\n', true],
    ['HTTP/1.1 500 no\r\n\r\n', true],
    ['HTTP/1.1 503 no\r\n\r\n', true],
    ['HTTP/1.1 400 no\r\n\r\n', true],
    ['garbage\r\n\r\n', true],
    ['HTTP/1.1 403 no\r\n\r\n', false],
    ['HTTP/1.1 502 no\r\n\r\n', false],
    ['HTTP/1.1 504 no\r\n\r\n', false],
    ['HTTP/1.1 503 no\r\nProxy-Status: edge;error=connection_refused\r\n\r\n', false],
  ];
  const good = await startParent(t);
  for (const [answer, over] of table) {
    const bad = await startParent(t, refusing(answer));
    const { dialler: door, notices } = openDoor();
    const dialled = dialBy([makeHop('edge', [parentAt(bad.port), parentAt(good.port)])], port, {}, door);
    if (over) (await dialled).socket.destroy();
    else t.ok(await faultOf(dialled));
    t.equal(notices.length, over ? 1 : 0, answer);
  }
});

t.test('failover: when all have failed, each is told, and all are tried again', async (t) => {
  const [one, other] = [await startParent(t, refusing('HTTP/1.1 503 one\r\n\r\n')), await startParent(t, refusing('HTTP/1.1 407 other\r\n\r\n'))];
  const { dialler: door, notices } = openDoor();
  const hop = makeHop('edge', [parentAt(one.port), parentAt(other.port)]);
  for (const round of [1, 2]) {
    const fault = await faultOf(dialBy([hop], 1, {}, door));
    t.equal(fault.code, 'hop-failed');
    t.match(fault.message, /503 one.*; hop edge .*407 other/);
    t.strictSame([one.taken, other.taken], [round, round]);
  }
  t.equal(notices.length, 2, 'told once');
});

t.test('failover in a chain: what the hop before says of a parent counts as that parent’s', async (t) => {
  const port = await startEcho(t);
  const far = await startParent(t);
  const near = await startParent(t, { refuse: (asked) => (asked === 'dead.test:1' ? 'HTTP/1.1 502 Bad Gateway\r\n\r\n' : null) });
  const { dialler: door, notices } = openDoor();
  const hops = [makeHop('near', [parentAt(near.port)]), makeHop('far', [parentAt(1, 'http', 'dead.test'), parentAt(far.port)])];
  const { socket, via } = await dialBy(hops, port, {}, door);
  socket.destroy();
  t.equal(via, `near (parent.test:${near.port}), far (parent.test:${far.port})`);
  t.strictSame(notices, ['failed hop far (dead.test:1)'], 'the near one is well');

  const broken = await startParent(t, refusing('HTTP/1.1 407 no\r\n\r\n'));
  const fault = await faultOf(dialBy([makeHop('near', [parentAt(broken.port)]), makeHop('far', [parentAt(far.port), parentAt(far.port, 'http', 'again.test')])], port));
  t.equal(fault.code, 'hop-credentials');
  t.match(fault.message, /^hop near \(/);
  t.equal(broken.taken, 1, 'no other parent behind it would help');
});

t.test('called off at each step, nothing is left', async (t) => {
  const silent = await startOdd(t, 'http', (socket) => socket.resume());
  const silentTls = await startOdd(t, 'https', (socket) => socket.resume());
  const near = await startParent(t);
  const cases: HopConfig[][] = [
    [makeHop('edge', [parentAt(silent)])],
    [makeHop('edge', [parentAt(silent, 'https')], { tls })],
    [makeHop('edge', [parentAt(silentTls, 'https')], { tls })],
    [makeHop('edge', [parentAt(silent, 'socks5')])],
    [makeHop('near', [parentAt(near.port)]), makeHop('edge', [parentAt(silent), parentAt(silent)])],
  ];
  for (const hops of cases) {
    const controller = new AbortController();
    const dial = dialler.dial({ host: 'eco.test', port: 1, tls: null, via: stepsOf(...hops) }, () => null, controller.signal);
    setTimeout(() => {
      controller.abort(new Fault('client-closed', 'gone'));
    }, 30);
    t.equal((await faultOf(dial)).code, 'client-closed');
  }
  await untilSockets(0);
});

t.test('IPv6, of the parent and of the upstream', async (t) => {
  const upstream = createServer((socket) => socket.end('six'));
  const port = await listen(t, upstream, '::1');
  for (const scheme of ['http', 'socks5'] as const) {
    const parent = await startParent(t, { scheme, host: '::1' });
    const { socket, peer, via } = await dialBy([makeHop('edge', [parentAt(parent.port, scheme, '::1')])], port, { host: '::1' });
    t.strictSame(peer, { address: '::1', port: parent.port });
    t.equal(via, `edge ([::1]:${parent.port})`);
    t.equal(await converseWith(socket, ''), 'six');
    t.match(parent.asked[0], scheme === 'http' ? `[::1]:${port}` : /^\[0000:.*:0001\]:/);
  }
  await untilSockets(0);
});

t.test('a parent that cannot be looked up', async (t) => {
  const resolver = createResolver({ lookup: () => Promise.reject(Object.assign(new Error('no'), { code: 'ENOTFOUND' })), dns: { ttl: 1_000, staleFor: 0 }, timeout: 1_000 });
  const door = createDialler({ resolver, timeouts: { connect: 1_000, tls: 1_000 } });
  const fault = await faultOf(door.dial({ host: '10.0.0.1', port: 443, tls: null, via: stepsOf(makeHop('edge', [parentAt(3128)])) }, () => null, never()));
  t.equal(fault.code, 'hop-failed');
  t.match(fault.message, 'hop edge (parent.test:3128): DNS knows no address of this name');
  t.match(fault.remedy, 'hops.edge.url');
});
