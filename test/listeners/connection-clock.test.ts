/** One clock for many connections: who has not moved for as long as it may. */
import t from 'tap';
import { ConnectionClock, tickFor, type Watched } from '../../src/listeners/connection-clock.ts';

class Item implements Watched {
  stamp = 0;
  patience: number;
  stalls = 0;
  constructor(patience: number) {
    this.patience = patience;
  }
  onStalled(): void {
    this.stalls += 1;
  }
}

function start(t: { teardown(fn: () => void): unknown }): { clock: ConnectionClock; pass: (ms: number) => void } {
  let now = 1000;
  const clock = new ConnectionClock(3_600_000, () => now);
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

t.test('each is watched for itself, and not after it has left, also while the others are told', async (t) => {
  const { clock, pass } = start(t);
  const [one, other, third] = [new Item(10), new Item(20), new Item(10)];
  const leave = [one, other, third].map((item) => clock.watch(item));
  one.onStalled = () => {
    one.stalls += 1;
    for (const stop of leave) stop();
  };
  pass(10);
  pass(10);
  t.equal(one.stalls, 1);
  t.equal(other.stalls, 0);
  for (const stop of leave) stop();
  t.strictSame([one.stalls, other.stalls], [1, 0]);
});

t.test('runs by itself, and as another after a reload', async (t) => {
  const stalled = Promise.withResolvers<undefined>();
  const clock = new ConnectionClock(3_600_000, () => performance.now());
  t.teardown(() => {
    clock.close();
  });
  clock.watch({
    stamp: 0,
    patience: 0,
    onStalled: () => {
      stalled.resolve(undefined);
    },
  });
  clock.adopt(5);
  // It keeps no process alive; something else has to.
  const alive = setInterval(() => {}, 1000);
  await stalled.promise;
  clearInterval(alive);
  t.pass('ticked');
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
