import { once } from 'node:events';
import { createServer, Socket } from 'node:net';
import t from 'tap';
import { connectFirst, interleaveFamilies } from '../../src/dial/connect.ts';
import type { ConnectRequest } from '../../src/dial/connect.ts';
import type { PortBudget } from '../../src/dial/nat-budget.ts';
import { Fault } from '../../src/errors.ts';
import { findUnusedPort } from '../support/unused-port.ts';
import { startFullListener } from '../support/full-listener.ts';
import { listen } from '../support/listen.ts';
import { countSockets, untilDeserted, untilSockets } from '../support/open-sockets.ts';

/** TCP to the broadcast address is refused by every kernel before a packet leaves. */
const NOWHERE = '255.255.255.255';

const request = (port: number, addresses: readonly string[], more: Partial<ConnectRequest> = {}): ConnectRequest => ({
  host: 'eco.test',
  port,
  addresses,
  timeout: 10_000,
  signal: new AbortController().signal,
  ...more,
});

async function faultOf(promise: Promise<unknown>): Promise<Fault> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof Fault) return error;
    throw error;
  }
  throw new Error('was not refused');
}

t.test('families take turns, beginning with the first', async (t) => {
  for (const [addresses, expected] of [
    [[], []],
    [['1.1.1.1'], ['1.1.1.1']],
    [['1.1.1.1', '2.2.2.2'], ['1.1.1.1', '2.2.2.2']],
    [['1.1.1.1', '2.2.2.2', '::1', '::2'], ['1.1.1.1', '::1', '2.2.2.2', '::2']],
    [['::1', '::2', '::3', '1.1.1.1'], ['::1', '1.1.1.1', '::2', '::3']],
    [['::1', '1.1.1.1', '2.2.2.2', '3.3.3.3'], ['::1', '1.1.1.1', '2.2.2.2', '3.3.3.3']],
  ] as const) t.same(interleaveFamilies(addresses), expected, addresses.join(' '));
});

t.test('connects, and leaves the upstream half to its owner', async (t) => {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.end('from upstream');
    socket.setEncoding('utf8').once('data', (text) => {
      t.equal(text, 'after its end');
      socket.resume();
    });
  });
  const port = await listen(t, server);
  const { socket, address } = await connectFirst(request(port, ['127.0.0.1']));
  t.equal(address, '127.0.0.1');
  t.equal(socket.listenerCount('error'), 0, 'errors are for the owner from now on');
  let read = '';
  socket.setEncoding('utf8').on('data', (text) => (read += String(text)));
  await once(socket, 'end');
  t.equal(read, 'from upstream');
  t.ok(socket.writable, 'half-open');
  socket.end('after its end');
  await once(socket, 'close');
  await untilSockets(0);
});

t.test('a connection that opened while the process stood still is no timeout', async (t) => {
  const port = await listen(t, createServer());
  const failed: string[] = [];
  const circuit: ConnectRequest['circuit'] = { connectFailed: (address) => { failed.push(address); } };
  const connecting = connectFirst(request(port, ['127.0.0.1'], { timeout: 20, circuit }));
  // The kernel answers meanwhile; then the timer is due first.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 200);
  const { socket } = await connecting;
  t.strictSame(failed, []);
  socket.destroy();
  await untilSockets(0);
});

t.test('a refusal starts the next attempt at once', async (t) => {
  const port = await listen(t, createServer());
  const started = performance.now();
  const { socket, address } = await connectFirst(request(port, ['127.0.0.2', '127.0.0.3', NOWHERE, '127.0.0.1']));
  t.equal(address, '127.0.0.1');
  t.ok(performance.now() - started < 240, 'without the delay between attempts');
  socket.destroy();
  await untilSockets(0);
});

t.test('silence starts the next attempt after 250 ms, and the loser is destroyed', async (t) => {
  const port = await startFullListener(t);
  const server = createServer();
  server.listen(port, '127.0.0.2');
  await once(server, 'listening');
  t.teardown(() => server.close());
  const before = countSockets();
  const started = performance.now();
  const { socket, address } = await connectFirst(request(port, ['127.0.0.1', '127.0.0.2']));
  const took = performance.now() - started;
  t.equal(address, '127.0.0.2');
  t.ok(took >= 249, `${took} ms`);
  socket.destroy();
  await untilDeserted(server);
  await untilSockets(before);
  t.pass('nothing is left');
});

t.test('the first is still waited for when the second fails', async (t) => {
  const port = await startFullListener(t);
  const before = countSockets();
  const fault = await faultOf(connectFirst(request(port, ['127.0.0.1', '127.0.0.3'], { timeout: 600 })));
  t.equal(fault.code, 'connection-refused', 'an answer of the host tells more than silence');
  t.equal(fault.message, `eco.test:${port}: 127.0.0.3: ECONNREFUSED; 127.0.0.1: no answer in 600 ms`);
  await untilSockets(before);
  t.pass('nothing is left');
});

t.test('two families: whichever listens is found', async (t) => {
  const port = await listen(t, createServer());
  const { socket, address } = await connectFirst(request(port, ['::1', '127.0.0.1']));
  t.equal(address, '127.0.0.1');
  socket.destroy();
  await untilSockets(0);
});

t.test('when all fail, each is named and the most telling gives the code', async (t) => {
  const port = await findUnusedPort();
  for (const [addresses, code, texts] of [
    [['127.0.0.1'], 'connection-refused', ['127.0.0.1: ECONNREFUSED']],
    [[NOWHERE], 'unreachable', [`${NOWHERE}: E`]],
    [[NOWHERE, '127.0.0.1', '127.0.0.2'], 'connection-refused', [`${NOWHERE}: E`, '127.0.0.1: ECONNREFUSED', '127.0.0.2: ECONNREFUSED']],
  ] as const) {
    const fault = await faultOf(connectFirst(request(port, addresses)));
    t.equal(fault.code, code);
    for (const text of texts) t.ok(fault.message.includes(text), `${fault.message} has ${text}`);
    t.ok(fault.remedy, 'and what to do');
  }
  t.equal((await faultOf(connectFirst(request(port, [])))).code, 'unreachable', 'nothing to dial');
  t.match((await faultOf(connectFirst(request(port, ['127.0.0.1'], { host: '::1' })))).message, `[::1]:${port}: `);
  await untilSockets(0);
});

t.test('the time limit covers all attempts together', async (t) => {
  const port = await startFullListener(t);
  const before = countSockets();
  const fault = await faultOf(connectFirst(request(port, ['127.0.0.1', '::ffff:127.0.0.1'], { timeout: 100 })));
  t.equal(fault.code, 'connect-timeout');
  t.equal(fault.message, `eco.test:${port}: 127.0.0.1: no answer in 100 ms; ::ffff:127.0.0.1: not tried in time`);
  await untilSockets(before);
});

t.test('an abort ends every attempt', async (t) => {
  const port = await startFullListener(t);
  const before = countSockets();
  const controller = new AbortController();
  const dial = faultOf(connectFirst(request(port, ['127.0.0.1', '::ffff:127.0.0.1'], { signal: controller.signal })));
  controller.abort(new Fault('draining', 'shutting down'));
  t.equal((await dial).code, 'draining', 'with the reason given');
  t.equal((await faultOf(connectFirst(request(port, ['127.0.0.1'], { signal: AbortSignal.abort() })))).code, 'client-closed');
  await untilSockets(before);
});

t.test('a thousand dials that are called off leave nothing', async (t) => {
  const server = createServer();
  const port = await listen(t, server);
  const won: Socket[] = [];
  for (let i = 0; i < 20; i++) {
    await Promise.all(
      Array.from({ length: 50 }, async () => {
        const controller = new AbortController();
        const dial = connectFirst(request(port, ['127.0.0.1'], { signal: controller.signal }));
        setImmediate(() => {
          controller.abort();
        });
        await dial.then(
          ({ socket }) => won.push(socket),
          () => {},
        );
      }),
    );
  }
  for (const socket of won) socket.destroy();
  await untilDeserted(server);
  await untilSockets(0);
  t.pass(`${won.length} were faster than the abort`);
});

t.test('a connection that leads back to ourselves is closed, and the next address tried', async (t) => {
  const server = createServer();
  const closed: Promise<unknown>[] = [];
  server.on('connection', (socket: Socket) => {
    socket.resume();
    closed.push(once(socket, 'close'));
  });
  const port = await listen(t, server, '0.0.0.0');
  const isOurs = ({ remoteAddress }: Socket): boolean => remoteAddress === '127.0.0.1';
  t.match(await faultOf(connectFirst(request(port, ['127.0.0.1'], { isOurs }))), { code: 'loop', message: /127\.0\.0\.1.*this is the proxy itself/ });
  const { socket, address } = await connectFirst(request(port, ['127.0.0.1', '127.0.0.2'], { isOurs }));
  t.equal(address, '127.0.0.2');
  socket.destroy();
  await Promise.all(closed);
});

t.test('without a file descriptor nothing is opened, and the port is free again', async (t) => {
  const ended: string[] = [];
  const ports = { take: () => ({ end: (how: string) => ended.push(how) }) } as unknown as PortBudget;
  const told: string[] = [];
  const circuit = { connectFailed: (address: string) => told.push(address) };
  const asked = { descriptors: { take: () => false }, ports, circuit };
  t.match(await faultOf(connectFirst(request(9, ['127.0.0.1', '127.0.0.2'], asked))), { code: 'limit-reached', retryAfter: 1, message: /127\.0\.0\.1: almost no file descriptors are left; 127\.0\.0\.2: / });
  t.strictSame([ended, told], [['unsent', 'unsent'], []]);
});

t.test('a system without local ports is not the fault of the partner; without IPv6, it has none for IPv6', async (t) => {
  t.intercept(Socket.prototype, 'connect', {
    value(this: Socket) {
      return this.destroy(Object.assign(new Error('connect EADDRNOTAVAIL'), { code: 'EADDRNOTAVAIL' }));
    },
  });
  const told: string[] = [];
  const circuit = { connectFailed: (address: string) => void told.push(address) };
  t.match(await faultOf(connectFirst(request(443, ['192.0.2.1', '2001:db8::1'], { circuit }))), { code: 'limit-reached', remedy: /ip_local_port_range/ });
  t.match(await faultOf(connectFirst(request(443, ['2001:db8::1'], { circuit }))), { code: 'unreachable', remedy: /route/ });
  t.strictSame(told, []);
});
