/** Several parents for one hop: which is tried when, and what counts as its failure. */
import { once } from 'node:events';
import { createServer } from 'node:net';
import t from 'tap';
import type { HopConfig } from '../../src/config/config.ts';
import { CircuitBreaker } from '../../src/dial/circuit-breaker.ts';
import { CoolDowns } from '../../src/dial/cool-downs.ts';
import { createDialler } from '../../src/dial/dialler.ts';
import { PortBudget } from '../../src/dial/nat-budget.ts';
import { createResolver } from '../../src/dial/resolver.ts';
import { findUnusedPort } from '../support/unused-port.ts';
import { dialBy, faultOf, openDoor, startEcho } from '../support/hop-door.ts';
import { type ParentOptions, startParent } from '../support/parents.ts';
import { makeDestination } from '../support/policy.ts';
import { makeHop, parentAt } from '../support/way.ts';

const refusing = (answer: string, options: ParentOptions = {}): ParentOptions => ({ ...options, refuse: () => answer });

t.test('in order, past those that failed, until their time is over', async (t) => {
  const port = await startEcho(t);
  const nobody = await findUnusedPort();
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

t.test('which answers are the parent’s own failure', async (t) => {
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

t.test('when all have failed, each is reported, and all are tried again', async (t) => {
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

t.test('in a chain: what the hop before says of a parent counts as that parent’s', async (t) => {
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

t.test('no NAT port towards one parent: another one has its own, and no parent has failed', async (t) => {
  const port = await startEcho(t);
  const [one, other] = [await startParent(t), await startParent(t)];
  const notices: string[] = [];
  const tell = (_: HopConfig, parent: string): void => {
    notices.push(parent);
  };
  const resolver = createResolver({ lookup: () => Promise.resolve({ addresses: ['127.0.0.1'], ttl: null }), dns: { ttl: 30_000, staleFor: 0 }, timeout: 5_000 });
  const ports = new PortBudget({ nat: { ports: 1, replicasPerNode: 1, timeWait: 0, whenExhausted: 'refuse', queueFor: 0 }, notice: () => {} });
  const door = createDialler({ resolver, timeouts: { connect: 5_000, tls: 5_000 }, ports, coolDowns: new CoolDowns({ onFailed: tell, onBack: tell }) });
  const hop = makeHop('edge', [parentAt(one.port), parentAt(other.port)]);
  const [first, second] = [await dialBy([hop], port, {}, door), await dialBy([hop], port, {}, door)];
  t.strictSame([first.peer.port, second.peer.port], [one.port, other.port]);
  const fault = await faultOf(dialBy([hop], port, {}, door));
  t.equal(fault.code, 'limit-reached');
  t.match(fault.message, 'no NAT port is free');
  t.strictSame(notices, []);
  first.socket.destroy();
  second.socket.destroy();
});

t.test('one parent that fails, and no NAT port towards the others: that is our limit, and no failure of the route', async (t) => {
  const port = await startEcho(t);
  const [closed, good] = [await findUnusedPort(), await startParent(t)];
  const resolver = createResolver({ lookup: () => Promise.resolve({ addresses: ['127.0.0.1'], ttl: null }), dns: { ttl: 30_000, staleFor: 0 }, timeout: 5_000 });
  const ports = new PortBudget({ nat: { ports: 1, replicasPerNode: 1, timeWait: 0, whenExhausted: 'refuse', queueFor: 0 }, notice: () => {} });
  const opened: string[] = [];
  const circuits = new CircuitBreaker({ onOpened: (_, reason) => opened.push(reason), onClosed: () => {} });
  const door = createDialler({ resolver, timeouts: { connect: 5_000, tls: 5_000 }, ports, circuits });
  const hop = makeHop('edge', [parentAt(closed), parentAt(good.port)]);
  const terms = { failures: 1, over: 0, pause: 5_000, longestPause: 5_000, statuses: [] };
  const eco = makeDestination('eco', ['eco.test'], { circuitBreaker: terms });
  circuits.adopt([eco]);
  const circuit = { of: eco, terms, carries: 'tunnel' } as const;
  const { socket } = await dialBy([hop], port, { circuit }, door);
  const fault = await faultOf(dialBy([hop], port, { circuit }, door));
  t.equal(fault.code, 'limit-reached');
  t.match(fault.retryAfter, Number);
  t.strictSame(opened, []);
  socket.destroy();
});
