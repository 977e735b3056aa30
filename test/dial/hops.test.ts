/** The way through parents: of each kind, in chains, and nothing left behind. */
import { createServer, type Socket } from 'node:net';
import { createServer as createTlsServer } from 'node:tls';
import t from 'tap';
import type { HopConfig } from '../../src/config/config.ts';
import { createDialler } from '../../src/dial/dialler.ts';
import { createResolver } from '../../src/dial/resolver.ts';
import { Fault } from '../../src/errors.ts';
import { createHopGuard } from '../../src/policy/address-guard.ts';
import { clientTls, converseWith, dialBy, dialler, faultOf, never, openDoor, SCHEMES, serverTls, startEcho, startOdd } from '../support/hop-door.ts';
import { listen } from '../support/listen.ts';
import { untilSockets } from '../support/open-sockets.ts';
import { startParent } from '../support/parents.ts';
import { makeHop, parentAt, stepsOf } from '../support/way.ts';

t.test('one parent of each kind: the upstream’s first bytes and the client’s end arrive', async (t) => {
  const port = await startEcho(t, 'hello ');
  for (const scheme of SCHEMES) {
    const parent = await startParent(t, { scheme, tls: serverTls, early: 'early ' });
    const dialled = await dialBy([makeHop('edge', [parentAt(parent.port, scheme)], { tls: clientTls })], port);
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
          makeHop(`hop${index}`, [parentAt(parents.get(scheme)?.port ?? 0, scheme)], { tls: clientTls, credentials: scheme === 'socks5' ? { kind: 'basic', user: 'eco', password: 'secret' } : null }),
        );
        const { socket, via } = await dialBy(hops, port, { tls: clientTls });
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
    [['10.9.9.9', '127.0.0.9'], { addresses: ['10.0.0.0/16'] }, 'hop-failed', /^hop edge \(parent\.test:\d+\): 10\.9\.9\.9 .*; 127\.0\.0\.9/],
    // Of several, those that passed alone are dialled: here nobody listens there, and the parent on the other is not asked.
    [['127.0.0.1', '127.0.0.9'], { addresses: ['127.0.0.9/32'] }, 'hop-failed', /127\.0\.0\.9: ECONNREFUSED/],
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

t.test('called off at each step, nothing is left', async (t) => {
  let controller = new AbortController();
  // Whatever it is told, by then the dial is at that step.
  const callOff = (socket: Socket): void => {
    socket.once('data', () => {
      controller.abort(new Fault('client-closed', 'gone'));
    });
  };
  const silent = await startOdd(t, 'http', callOff);
  const silentTls = await startOdd(t, 'https', callOff);
  const near = await startParent(t);
  const cases: HopConfig[][] = [
    [makeHop('edge', [parentAt(silent)])],
    [makeHop('edge', [parentAt(silent, 'https')], { tls: clientTls })],
    [makeHop('edge', [parentAt(silentTls, 'https')], { tls: clientTls })],
    [makeHop('edge', [parentAt(silent, 'socks5')])],
    [makeHop('near', [parentAt(near.port)]), makeHop('edge', [parentAt(silent), parentAt(silent)])],
  ];
  for (const hops of cases) {
    controller = new AbortController();
    const fault = await faultOf(dialler.dial({ host: 'eco.test', port: 1, tls: null, via: stepsOf(...hops) }, () => null, controller.signal));
    t.equal(fault.code, 'client-closed');
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
  t.match(fault.message, 'hop edge (parent.test:3128): DNS has no address for this name');
  t.match(fault.remedy, 'hops.edge.url');
});
