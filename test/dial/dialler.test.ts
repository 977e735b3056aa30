import { once } from 'node:events';
import { createServer } from 'node:net';
import { createServer as createTlsServer } from 'node:tls';
import t from 'tap';
import type { Test } from 'tap';
import type { DestinationConfig, UpstreamTlsConfig } from '../../src/config/config.ts';
import { createAuthority } from '../../src/demo/authority.ts';
import type { AddressGuard, Dialled, Dialler, DialTarget } from '../../src/dial/dial.ts';
import { createDialler } from '../../src/dial/dialler.ts';
import { dnsLookup } from '../../src/dial/lookup.ts';
import type { Lookup } from '../../src/dial/lookup.ts';
import { createResolver } from '../../src/dial/resolver.ts';
import { Fault } from '../../src/errors.ts';
import { createAddressGuard } from '../../src/policy/address-guard.ts';
import { startDnsServer } from '../support/dns-server.ts';
import { startFullListener } from '../support/full-listener.ts';
import { listen } from '../support/listen.ts';
import { countSockets, untilSockets } from '../support/open-sockets.ts';

const authority = await createAuthority();
const issued = await authority.issue({ names: ['eco.test'] });
const trusting: UpstreamTlsConfig = { ca: authority.certPem, cert: null, key: null, serverName: null };
const anybody: AddressGuard = () => null;
const never = (): AbortSignal => new AbortController().signal;

const plain = (host: string, port: number): DialTarget => ({ host, port, tls: null });

function setUp(lookup: Lookup, timeouts = { connect: 10_000, tls: 10_000 }): { dialler: Dialler; clock: { now: number } } {
  const clock = { now: 0 };
  const resolver = createResolver({ lookup, dns: { ttl: 30_000, staleFor: 600_000 }, timeout: 10_000, now: () => clock.now });
  return { dialler: createDialler({ resolver, timeouts }), clock };
}

const answering = (...addresses: string[]): Lookup => () => Promise.resolve({ addresses, ttl: null });

async function faultOf(dial: Promise<Dialled>): Promise<Fault> {
  try {
    (await dial).socket.destroy();
  } catch (error) {
    if (error instanceof Fault) return error;
    throw error;
  }
  throw new Error('the dial succeeded');
}

/** A TCP server that counts who came and reads to the end. */
async function startUpstream(t: Test, host = '127.0.0.1'): Promise<{ port: number; taken: () => number }> {
  let count = 0;
  const server = createServer((socket) => {
    count++;
    socket.resume();
  });
  return { port: await listen(t, server, host), taken: () => count };
}

t.test('the phases are reported, and those that did not happen', async (t) => {
  const { port } = await startUpstream(t);
  const { dialler } = setUp(answering('127.0.0.1'));
  for (const [host, asked] of [
    ['eco.test', true],
    ['eco.test', false],
    ['127.0.0.1', false],
  ] as const) {
    const { socket, address, dnsMs, tcpMs, tlsMs } = await dialler.dial(plain(host, port), anybody, never());
    t.equal(address, '127.0.0.1');
    t.equal(dnsMs >= 0, asked, `${host}: ${dnsMs}`);
    t.ok(tcpMs >= 0);
    t.equal(tlsMs, -1);
    socket.destroy();
  }
  await untilSockets(0);
});

t.test('TLS on top', async (t) => {
  const server = createTlsServer({ cert: issued.certPem, key: issued.keyPem }, (socket) => socket.end('secret'));
  const port = await listen(t, server);
  const { dialler } = setUp(answering('127.0.0.1'));
  const { socket, tlsMs } = await dialler.dial({ host: 'eco.test', port, tls: trusting }, anybody, never());
  t.ok(tlsMs >= 0);
  const [text] = (await once(socket.setEncoding('utf8'), 'data')) as [string];
  t.equal(text, 'secret');
  socket.destroy();

  const fault = await faultOf(dialler.dial({ host: 'other.test', port, tls: trusting }, anybody, never()));
  t.equal(fault.code, 'tls-certificate');
  await untilSockets(0);
});

t.test('every address is judged, the refused ones are not dialled', async (t) => {
  const { port, taken } = await startUpstream(t);
  const asked: string[] = [];
  const guard: AddressGuard = (address, at) => {
    asked.push(`${address} ${at}`);
    return address === '127.0.0.1' ? new Fault('address-not-allowed', 'not this one') : null;
  };
  const { dialler } = setUp(answering('127.0.0.1', '127.0.0.2'));
  const fault = await faultOf(dialler.dial(plain('eco.test', port), guard, never()));
  t.equal(fault.code, 'connection-refused', 'only the permitted one was dialled, and nobody listens there');
  t.notMatch(fault.message, '127.0.0.1:', 'the refused one is not among those tried');
  t.same(asked, [`127.0.0.1 ${port}`, `127.0.0.2 ${port}`]);
  t.equal(taken(), 0);
});

t.test('when none is left, the first refusal speaks and all are named', async (t) => {
  const { port, taken } = await startUpstream(t);
  const guard: AddressGuard = (address) =>
    new Fault(address === '127.0.0.1' ? 'loop' : 'address-not-allowed', `${address} is refused`, { remedy: `for ${address}` });
  const { dialler } = setUp(answering('127.0.0.1', '127.0.0.2'));
  const fault = await faultOf(dialler.dial(plain('eco.test', port), guard, never()));
  t.match(fault, { code: 'loop', message: '127.0.0.1 is refused; 127.0.0.2 is refused', remedy: 'for 127.0.0.1' });
  const literal = await faultOf(dialler.dial(plain('127.0.0.2', port), guard, never()));
  t.match(literal, { code: 'address-not-allowed', message: '127.0.0.2 is refused' }, 'IP literals are judged as well');
  t.equal(taken(), 0);
  await untilSockets(0);
});

t.test('rebinding: whatever a name answers later, only judged addresses are dialled', async (t) => {
  const { port, taken } = await startUpstream(t, '127.0.0.2');
  const forbidden = createServer((socket) => socket.destroy());
  forbidden.listen(port, '127.0.0.1');
  await once(forbidden, 'listening');
  t.teardown(() => forbidden.close());
  forbidden.on('connection', () => t.fail('the forbidden address was dialled'));

  let turn = 0;
  const answers = [['127.0.0.2'], ['127.0.0.1'], ['127.0.0.1', '127.0.0.2'], ['169.254.169.254', '127.0.0.1'], ['127.0.0.2']];
  const dns = await startDnsServer(({ type }) => {
    const addresses = answers[turn] ?? [];
    return type === 'A' ? { addresses, ttl: 1 } : null;
  });
  t.teardown(() => dns.close());

  const destination: Pick<DestinationConfig, 'name' | 'addresses'> = { name: 'eco', addresses: ['127.0.0.2/32'] };
  const guard = createAddressGuard(destination, () => false);
  const { dialler, clock } = setUp(dnsLookup([dns.address]));
  const outcomes: string[] = [];
  for (turn = 0; turn < answers.length; turn++) {
    try {
      const { socket, address } = await dialler.dial(plain('eco.test', port), guard, never());
      t.equal(socket.remoteAddress, address, 'the address reported is the one the socket has');
      outcomes.push(address ?? '-');
      socket.destroy();
    } catch (error) {
      outcomes.push(Fault.from(error).code);
    }
    clock.now += 1_000;
  }
  t.same(outcomes, ['127.0.0.2', 'address-not-allowed', '127.0.0.2', 'address-not-allowed', '127.0.0.2']);
  t.equal(dns.questions.filter((question) => question.type === 'A').length, answers.length, 'a new answer for each');
  await untilSockets(0);
  t.equal(taken(), 3);
});

t.test('nothing is resolved or dialled for a name that does not exist', async (t) => {
  const dns = await startDnsServer(() => 'NXDOMAIN');
  t.teardown(() => dns.close());
  const { dialler } = setUp(dnsLookup([dns.address]));
  const fault = await faultOf(dialler.dial(plain('eco.test', 443), () => t.fail('judged nothing') as never, never()));
  t.equal(fault.code, 'name-not-found');
});

t.test('a failure in any phase leaves no socket', async (t) => {
  const full = await startFullListener(t);
  const silent = await startUpstream(t);
  const before = countSockets();
  const { dialler } = setUp(answering('127.0.0.1'), { connect: 100, tls: 100 });
  for (const [port, code] of [
    [full, 'connect-timeout'],
    [silent.port, 'tls-timeout'],
  ] as const) {
    t.equal((await faultOf(dialler.dial({ host: 'eco.test', port, tls: trusting }, anybody, never()))).code, code);
    await untilSockets(before);
  }
});

t.test('an abort in any phase leaves no socket', async (t) => {
  const full = await startFullListener(t);
  const silent = await startUpstream(t);
  const before = countSockets();
  const hanging: Lookup = () => new Promise(() => {});
  const gone = new Fault('draining', 'shutting down');

  for (const [phase, lookup, port] of [
    ['resolving', hanging, silent.port],
    ['connecting', answering('127.0.0.1'), full],
    ['in the handshake', answering('127.0.0.1'), silent.port],
  ] as const) {
    const controller = new AbortController();
    const { dialler } = setUp(lookup);
    const taken = silent.taken();
    const dial = faultOf(dialler.dial({ host: 'eco.test', port, tls: trusting }, anybody, controller.signal));
    while (phase === 'in the handshake' && silent.taken() === taken) await new Promise(setImmediate);
    setImmediate(() => {
      controller.abort(gone);
    });
    const { code, message } = await dial;
    t.strictSame({ code, message }, { code: 'draining', message: 'shutting down' }, phase);
    await untilSockets(before);
  }
  const { dialler } = setUp(answering('127.0.0.1'));
  t.equal(await faultOf(dialler.dial(plain('eco.test', silent.port), anybody, AbortSignal.abort(gone))), gone, 'before it began');
  t.strictSame(gone.facts, {}, 'what many may share stays as it was');
});

t.test('what is remembered of a name is reported with the port that is asked for', async (t) => {
  const { dialler } = setUp(answering());
  for (const port of [443, 8443]) {
    const { code, facts } = await faultOf(dialler.dial({ host: 'eco.test', port, tls: null }, anybody, never()));
    t.strictSame({ code, nextHop: facts.nextHop }, { code: 'name-not-found', nextHop: `eco.test:${port}` });
  }
});
