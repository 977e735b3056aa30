/** Which port of the budget an attempt takes, and what it says of its end. */
import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import { setImmediate } from 'node:timers/promises';
import t from 'tap';
import type { Test } from 'tap';
import { type ConnectedSocket, connectFirst, type ConnectRequest } from '../../src/dial/connect.ts';
import { Fault } from '../../src/errors.ts';
import { type BudgetLab, budgetLab } from '../support/budget.ts';
import { startFullListener } from '../support/full-listener.ts';
import { listen } from '../support/listen.ts';

/** TCP to the broadcast address is refused by every kernel before a packet leaves. */
const NOWHERE = '255.255.255.255';

const usedIn = ({ budget }: BudgetLab): number => budget.inUse().destinations.get('eco')?.used ?? 0;

function dial({ budget }: BudgetLab, port: number, addresses: readonly string[], more: Partial<ConnectRequest> = {}): Promise<ConnectedSocket> {
  return connectFirst({ host: 'eco.test', port, addresses, timeout: 10_000, signal: new AbortController().signal, ports: budget, destination: 'eco', ...more });
}

async function faultOf(promise: Promise<unknown>): Promise<Fault> {
  const error: unknown = await promise.then(
    () => null,
    (reason: unknown) => reason,
  );
  if (error instanceof Fault) return error;
  throw new Error('was not refused', { cause: error });
}

/** Handles that were closed in this turn of the loop say so at the end of the next. */
async function untilClosed(): Promise<void> {
  for (let turn = 0; turn < 3; turn += 1) await setImmediate();
}

/** Sockets tell of their end a little later. */
async function untilUsed(lab: BudgetLab, expected: number): Promise<void> {
  while (usedIn(lab) !== expected) await setImmediate();
}

async function startServer(t: Test, host = '127.0.0.1'): Promise<{ port: number; accepted: Socket[] }> {
  const accepted: Socket[] = [];
  const port = await listen(
    t,
    createServer((socket) => {
      socket.on('error', () => {});
      accepted.push(socket);
    }),
    host,
  );
  return { port, accepted };
}

t.test('a connection is kept as closed, whichever side ended it and however', async (t) => {
  const { port, accepted } = await startServer(t);
  for (const [who, end] of [
    ['we end', (ours: Socket) => ours.end()],
    ['we destroy', (ours: Socket) => ours.destroy()],
    ['we reset', (ours: Socket) => ours.resetAndDestroy()],
    ['the upstream ends', (_: Socket, theirs: Socket) => theirs.end()],
    ['the upstream resets', (_: Socket, theirs: Socket) => theirs.resetAndDestroy()],
  ] as const) {
    const lab = budgetLab();
    const { socket } = await dial(lab, port, ['127.0.0.1']);
    socket.on('error', () => {}).on('end', () => socket.end());
    socket.resume();
    while (accepted.length === 0) await setImmediate();
    const theirs = accepted.pop();
    if (theirs === undefined) throw new Error('nothing was accepted');
    theirs.resume();
    t.equal(usedIn(lab), 1, `${who}: open`);
    const closed = new Promise((resolve) => socket.once('close', resolve));
    end(socket, theirs);
    await closed;
    lab.clock.pass(119_999);
    t.equal(usedIn(lab), 1, `${who}: kept`);
    lab.clock.pass(1);
    t.equal(usedIn(lab), 0, `${who}: free`);
  }
});

t.test('what came to no connection', async (t) => {
  const { port: refusing } = await startServer(t, '127.0.0.9');
  const silent = await startFullListener(t);
  for (const [what, port, address, more, code, kept] of [
    ['refused', refusing, '127.0.0.1', () => ({}), 'connection-refused', 30_000],
    ['silent', silent, '127.0.0.1', () => ({ timeout: 50 }), 'connect-timeout', 30_000],
    ['called off', silent, '127.0.0.1', () => ({ signal: AbortSignal.timeout(20) }), 'client-closed', 30_000],
    ['never left', refusing, NOWHERE, () => ({}), 'unreachable', 0],
  ] as const) {
    const lab = budgetLab();
    const fault = await faultOf(dial(lab, port, [address], more()));
    t.equal(fault.code, code, what);
    await untilClosed();
    if (kept > 0) {
      lab.clock.pass(kept - 1);
      t.equal(usedIn(lab), 1, `${what}: kept`);
      lab.clock.pass(1);
    }
    t.equal(usedIn(lab), 0, `${what}: free`);
  }
});

t.test('the loser of a race is kept too', async (t) => {
  const silent = await startFullListener(t);
  const server = createServer();
  server.listen(silent, '127.0.0.2');
  await once(server, 'listening');
  t.teardown(() => server.close());
  const lab = budgetLab({ ports: 1 });
  const { socket, address } = await dial(lab, silent, ['127.0.0.1', '127.0.0.2']);
  t.equal(address, '127.0.0.2');
  await untilClosed();
  t.equal(lab.budget.take('127.0.0.1', silent, 'eco'), null);
  lab.clock.pass(30_000);
  t.ok(lab.budget.take('127.0.0.1', silent, 'eco'));
  socket.destroy();
});

t.test('where one address has no port, another is used', async (t) => {
  const { port } = await startServer(t, '127.0.0.2');
  const lab = budgetLab({ ports: 1 });
  t.ok(lab.budget.take('127.0.0.1', port, 'eco'));
  const { socket, address } = await dial(lab, port, ['127.0.0.1', '127.0.0.2']);
  t.equal(address, '127.0.0.2', 'at once, without a try');
  const fault = await faultOf(dial(lab, port, ['127.0.0.1', '127.0.0.2']));
  t.match(fault, { code: 'limit-reached', retryAfter: 120, remedy: /nat\.ports/ });
  t.equal(fault.message, `eco.test:${port}: 127.0.0.1: no NAT port is free; 127.0.0.2: no NAT port is free`);
  t.equal(lab.budget.inUse().destinations.get('eco')?.refused, 1, 'one dial, one refusal');
  socket.destroy();
});

t.test('a failure elsewhere does not hide the want of ports', async (t) => {
  const { port } = await startServer(t, '127.0.0.9');
  const lab = budgetLab({ ports: 1 });
  t.ok(lab.budget.take('127.0.0.1', port, 'eco'));
  const fault = await faultOf(dial(lab, port, ['127.0.0.1', '127.0.0.2']));
  t.match(fault, { code: 'limit-reached', retryAfter: 120 });
  t.match(fault.message, '127.0.0.2: ECONNREFUSED; 127.0.0.1: no NAT port is free');
});

t.test('in the queue, a dial waits for its port and then has all its time', async (t) => {
  const { port } = await startServer(t);
  const lab = budgetLab({ ports: 1, whenExhausted: 'queue' });
  const lease = lab.budget.take('127.0.0.1', port, 'eco');
  const waiting = dial(lab, port, ['127.0.0.1'], { timeout: 50 });
  await new Promise((resolve) => setTimeout(resolve, 60));
  lease?.end('unsent');
  const { socket } = await waiting;
  t.equal(usedIn(lab), 1);

  const late = dial(lab, port, ['127.0.0.1']);
  lab.clock.pass(5000);
  t.match(await faultOf(late), { code: 'limit-reached', retryAfter: 120 });

  const controller = new AbortController();
  const left = dial(lab, port, ['127.0.0.1'], { signal: controller.signal });
  controller.abort();
  t.equal((await faultOf(left)).code, 'client-closed');
  t.equal(lab.clock.alarms, 0);
  socket.destroy();
});

t.test('a dial that begins to wait for its port when its time is just over is not late', async (t) => {
  const { port } = await startServer(t, '127.0.0.2');
  const lab = budgetLab({ ports: 1, whenExhausted: 'queue' });
  const lease = lab.budget.take('127.0.0.2', port, 'eco');
  // The first refuses.
  const waiting = dial(lab, port, ['127.0.0.1', '127.0.0.2'], { timeout: 20 });
  // The timer is due before the refusal is read.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 200);
  await untilClosed();
  lease?.end('unsent');
  const { socket, address } = await waiting;
  t.equal(address, '127.0.0.2');
  socket.destroy();
});

t.test('nothing leaks: a hundred dials that are called off', async (t) => {
  const { port } = await startServer(t);
  const lab = budgetLab({ ports: 1000, timeWait: 0 });
  const won: Socket[] = [];
  await Promise.all(
    Array.from({ length: 100 }, async () => {
      const controller = new AbortController();
      void setImmediate().then(() => {
        controller.abort();
      });
      await dial(lab, port, ['127.0.0.1'], { signal: controller.signal }).then(
        ({ socket }) => won.push(socket),
        () => {},
      );
    }),
  );
  for (const socket of won) socket.destroy();
  await untilUsed(lab, 0);
  t.pass(`${won.length} were faster than the abort`);
});
