/** One clock for many connections: who has not moved for as long as it may. */
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import t from 'tap';
import { ConnectionClock, tickFor, type Watched } from '../../src/listeners/connection-clock.ts';
import { listen } from '../support/listen.ts';

class Item implements Watched {
  stamp = 0;
  patience: number;
  due = Infinity;
  seen = 0;
  seenAt = 0;
  stalls = 0;
  readonly called: number[] = [];
  constructor(patience: number) {
    this.patience = patience;
  }
  onStalled(): void {
    this.stalls += 1;
  }
  onDue(now: number): void {
    this.called.push(now);
  }
}

function start(t: { teardown(fn: () => void): unknown }, tick = 3_600_000): { clock: ConnectionClock; pass: (ms: number) => void } {
  let now = 1000;
  const clock = new ConnectionClock({ tick, now: () => now });
  t.teardown(() => {
    clock.close();
  });
  return {
    clock,
    pass: (ms) => {
      now += ms;
      clock.tick();
    },
  };
}

t.test('stalled when its time is over, not a moment before, and again after as long', async (t) => {
  const { clock, pass } = start(t);
  const item = new Item(100);
  clock.watch(item);
  pass(99);
  t.equal(item.stalls, 0);
  pass(1);
  t.equal(item.stalls, 1);
  pass(99);
  t.equal(item.stalls, 1);
  pass(1);
  t.equal(item.stalls, 2);
});

t.test('a pause of the process is no silence', async (t) => {
  // The interval does not fire during the test.
  const { clock, pass } = start(t, 100_000);
  const item = new Item(300_000);
  clock.watch(item);
  pass(100_000);
  pass(100_000 + 600_000);
  t.equal(item.stalls, 0, 'what came during the pause is not read yet');
  pass(99_999);
  t.equal(item.stalls, 0);
  pass(1);
  t.equal(item.stalls, 1);
  const late = new Item(300_000);
  clock.watch(late);
  pass(101_000);
  pass(101_000);
  pass(98_000);
  t.equal(late.stalls, 1, 'a busy process is not a pause');
});

t.test('what has arrived by the end of a short pause is read before it looks', async (t) => {
  const server = createServer();
  const client = connect({ host: '127.0.0.1', port: await listen(t, server) });
  const [socket] = (await once(server, 'connection')) as [Socket];
  const clock = new ConnectionClock({ tick: 10, now: () => performance.now() });
  t.teardown(() => {
    clock.close();
    client.destroy();
    socket.destroy();
  });
  const item = new Item(100);
  clock.watch(item);
  const read = once(socket, 'data').then(() => {
    item.stamp += 1;
  });
  // The next that the loop does is to look at its timers.
  setImmediate(() => {
    client.write('x');
    for (const end = performance.now() + 150; performance.now() < end; );
  });
  await read;
  await new Promise(setImmediate);
  t.equal(item.stalls, 0);
});

t.test('whatever moves begins anew, at the tick that sees it', async (t) => {
  const { clock, pass } = start(t);
  const item = new Item(100);
  clock.watch(item);
  pass(99);
  item.stamp += 1;
  pass(1);
  pass(99);
  t.equal(item.stalls, 0);
  pass(1);
  t.equal(item.stalls, 1);
  item.stamp -= 1;
  pass(100);
  t.equal(item.stalls, 1, 'any other number is a move');
});

t.test('patience is asked for at each tick', async (t) => {
  const { clock, pass } = start(t);
  const item = new Item(Infinity);
  clock.watch(item);
  pass(1_000_000);
  t.equal(item.stalls, 0);
  item.patience = 10;
  pass(0);
  t.equal(item.stalls, 1);
});

t.test('a time that is waited for comes whatever moves, and until another one is waited for', async (t) => {
  const { clock, pass } = start(t);
  const item = new Item(Infinity);
  item.due = 1100;
  clock.watch(item);
  for (const ms of [99, 1, 1]) {
    item.stamp += 1;
    pass(ms);
  }
  t.strictSame(item.called, [1100, 1101]);
  item.due = Infinity;
  pass(1000);
  t.strictSame(item.called, [1100, 1101]);
});

t.test('each is watched for itself, and not after it has left, also while the others are called', async (t) => {
  const { clock, pass } = start(t);
  const [one, other, third] = [new Item(10), new Item(20), new Item(10)];
  const all = [one, other, third];
  for (const item of all) clock.watch(item);
  const forgetAll = (): void => {
    for (const item of all) clock.forget(item);
  };
  one.onStalled = () => {
    one.stalls += 1;
    forgetAll();
  };
  pass(10);
  pass(10);
  t.equal(one.stalls, 1);
  t.equal(other.stalls, 0);
  forgetAll();
  t.strictSame([one.stalls, other.stalls], [1, 0]);
});

t.test('runs by itself, and as another after a reload', async (t) => {
  const stalled = Promise.withResolvers<undefined>();
  let ticks = 0;
  const clock = new ConnectionClock({ tick: 3_600_000, now: () => performance.now(), onTick: () => { ticks += 1; } });
  t.teardown(() => {
    clock.close();
  });
  const item = new Item(0);
  item.onStalled = () => {
    stalled.resolve(undefined);
  };
  clock.watch(item);
  clock.adopt(5);
  // It keeps no process alive; something else has to.
  const alive = setInterval(() => {}, 1000);
  await stalled.promise;
  clearInterval(alive);
  t.ok(ticks > 0, 'who asked is told of each tick');
});

t.test('how often it looks', async (t) => {
  for (const [times, tick] of [
    [[60_000], 1000],
    [[8000], 1000],
    [[7992], 999],
    [[60_000, 800], 100],
    [[80], 10],
    [[1], 10],
  ] as const) t.equal(tickFor(...times), tick, times.join(' '));
});
