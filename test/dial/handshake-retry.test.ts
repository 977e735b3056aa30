/** A TLS handshake that is cut has sent nothing of a request: it is tried once more, elsewhere if there is an elsewhere. */
import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { createServer as createTlsServer, type TlsOptions } from 'node:tls';
import t, { type Test } from 'tap';
import type { UpstreamTlsConfig } from '../../src/config/config.ts';
import { createAuthority } from '../../src/demo/authority.ts';
import { CircuitBreaker } from '../../src/dial/circuit-breaker.ts';
import type { AddressGuard, Dialled, DialTarget } from '../../src/dial/dial.ts';
import { createDialler } from '../../src/dial/dialler.ts';
import { PortBudget } from '../../src/dial/nat-budget.ts';
import { createResolver } from '../../src/dial/resolver.ts';
import { Fault } from '../../src/errors.ts';
import { listen } from '../support/listen.ts';
import { untilSockets } from '../support/open-sockets.ts';
import { makeDestination } from '../support/policy.ts';

const authority = await createAuthority();
const issued = await authority.issue({ names: ['eco.test'] });
const trusting: UpstreamTlsConfig = { ca: authority.certPem, cert: null, key: null, serverName: null };
const anybody: AddressGuard = () => null;

type Treatment = 'reset' | 'close' | 'serve';

/** TLS, after each connection has been treated as the list says, in turn; the last one goes on. */
async function startPartner(t: Test, treatments: readonly Treatment[], { host = '127.0.0.1', port = 0, tls = {} }: { host?: string; port?: number; tls?: TlsOptions } = {}): Promise<{ port: number; taken: () => number }> {
  const inner = createTlsServer({ cert: issued.certPem, key: issued.keyPem, ...tls }, (socket) => {
    socket.on('error', () => {});
    socket.end('hello');
  });
  inner.on('tlsClientError', () => {});
  let taken = 0;
  const onConnection = (socket: Socket): void => {
    const treatment = treatments[Math.min(taken, treatments.length - 1)];
    taken += 1;
    if (treatment === 'serve') inner.emit('connection', socket);
    // Once it has the ClientHello.
    else socket.once('data', () => (treatment === 'reset' ? socket.resetAndDestroy() : socket.end()));
  };
  const server: Server = createServer(onConnection);
  if (port === 0) return { port: await listen(t, server, host), taken: () => taken };
  server.listen(port, host);
  await once(server, 'listening');
  t.teardown(() => server.close());
  return { port, taken: () => taken };
}

function dial(port: number, addresses: readonly string[], guard: AddressGuard = anybody): Promise<Dialled> {
  const resolver = createResolver({ lookup: () => Promise.resolve({ addresses, ttl: null }), dns: { ttl: 30_000, staleFor: 0 }, timeout: 10_000 });
  const dialler = createDialler({ resolver, timeouts: { connect: 10_000, tls: 10_000 } });
  return dialler.dial({ host: 'eco.test', port, tls: trusting }, guard, new AbortController().signal);
}

async function faultOf(dialled: Promise<Dialled>): Promise<Fault> {
  try {
    (await dialled).socket.destroy();
  } catch (error) {
    if (error instanceof Fault) return error;
    throw error;
  }
  throw new Error('the dial succeeded');
}

t.test('the only address is tried once more', async (t) => {
  for (const treatment of ['reset', 'close'] as const) {
    const partner = await startPartner(t, [treatment, 'serve']);
    const judged: string[] = [];
    const { socket, address, attempts } = await dial(partner.port, ['127.0.0.1'], (candidate) => {
      judged.push(candidate);
      return null;
    });
    t.match({ address, attempts, taken: partner.taken() }, { address: '127.0.0.1', attempts: 2, taken: 2 }, treatment);
    t.same(judged, ['127.0.0.1', '127.0.0.1'], 'and judged once more');
    socket.destroy();
  }
  await untilSockets(0);
});

t.test('of several, another one is tried', async (t) => {
  const broken = await startPartner(t, ['reset']);
  const well = await startPartner(t, ['serve'], { host: '127.0.0.2', port: broken.port });
  const { socket, address, attempts } = await dial(broken.port, ['127.0.0.1', '127.0.0.2']);
  t.match({ address, attempts }, { address: '127.0.0.2', attempts: 2 });
  t.same([broken.taken(), well.taken()], [1, 1]);
  socket.destroy();
});

t.test('not for ever', async (t) => {
  const partner = await startPartner(t, ['reset']);
  const fault = await faultOf(dial(partner.port, ['127.0.0.1']));
  t.match(fault, { code: 'tls-failed', facts: { nextHop: `127.0.0.1:${partner.port}` } });
  t.equal(partner.taken(), 2);
  await untilSockets(0);
});

t.test('what the partner, or we, have said is not asked again', async (t) => {
  const stranger = await (await createAuthority('a stranger')).issue({ names: ['eco.test'] });
  const distrusted = await startPartner(t, ['serve'], { tls: { cert: stranger.certPem, key: stranger.keyPem } });
  t.equal((await faultOf(dial(distrusted.port, ['127.0.0.1', '127.0.0.1']))).code, 'tls-certificate');
  t.equal(distrusted.taken(), 1);

  const other = await startPartner(t, ['serve'], { tls: { ALPNProtocols: ['h2'] } });
  t.match(await faultOf(dial(other.port, ['127.0.0.1'])), { code: 'tls-failed', facts: { alert: { id: 120, message: 'no_application_protocol' } } });
  t.equal(other.taken(), 1);
});

t.test('a trial of another address that got no port is handed back before the second try', async (t) => {
  const clock = { now: 0 };
  const circuits = new CircuitBreaker({ now: () => clock.now, random: () => 0.5, onOpened: () => {}, onClosed: () => {} });
  const { port } = await startPartner(t, ['reset', 'serve'], { host: '127.0.0.2' });
  const addresses = ['127.0.0.1', '127.0.0.2'];
  const terms = { failures: 2, over: 0, pause: 1_000, longestPause: 60_000, statuses: [] };
  const eco = makeDestination('eco', ['eco.test'], { circuitBreaker: terms });
  circuits.adopt([eco]);
  const target: DialTarget = { host: 'eco.test', port, tls: trusting, circuit: { of: eco, terms, carries: 'https' } };
  for (let i = 0; i < 2; i += 1) circuits.failed(target, '127.0.0.1', addresses, { reason: 'ECONNREFUSED', client: null, unanswered: false }, null);
  clock.now = 1_000;
  const budget = new PortBudget({ nat: { ports: 2, replicasPerNode: 1, timeWait: 0, whenExhausted: 'refuse', queueFor: 0 }, notice: () => {} });
  for (let i = 0; i < 2; i += 1) budget.take('127.0.0.1', port, '-');
  const resolver = createResolver({ lookup: () => Promise.resolve({ addresses, ttl: null }), dns: { ttl: 30_000, staleFor: 0 }, timeout: 10_000 });
  const dialler = createDialler({ resolver, timeouts: { connect: 10_000, tls: 10_000 }, circuits, ports: budget });
  const { socket, address } = await dialler.dial(target, anybody, new AbortController().signal);
  socket.destroy();
  t.equal(address, '127.0.0.2');
  t.equal(circuits.view()[0]?.addresses[0]?.state, 'due', 'the next request may try it at once');
});

t.test('no port is left for the second try: what the partner did is the fault', async (t) => {
  const { port, taken } = await startPartner(t, ['reset']);
  const budget = new PortBudget({ nat: { ports: 1, replicasPerNode: 1, timeWait: 60_000, whenExhausted: 'refuse', queueFor: 0 }, notice: () => {} });
  const resolver = createResolver({ lookup: () => Promise.resolve({ addresses: ['127.0.0.1'], ttl: null }), dns: { ttl: 30_000, staleFor: 0 }, timeout: 10_000 });
  const dialler = createDialler({ resolver, timeouts: { connect: 10_000, tls: 10_000 }, ports: budget });
  t.match(await faultOf(dialler.dial({ host: 'eco.test', port, tls: trusting }, anybody, new AbortController().signal)), {
    code: 'tls-failed',
    detail: /closed the connection during the handshake/,
    facts: { address: '127.0.0.1', nextHop: `127.0.0.1:${port}`, opened: { localAddress: '127.0.0.1', localPort: Number } },
  }, 'with what the log needs of it');
  t.equal(taken(), 1);
});
