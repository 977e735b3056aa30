import t from 'tap';
import { type Clocked, IdleClock } from '../../src/relay/idle-clock.ts';

class Item implements Clocked {
  moved = 0;
  readonly events: string[] = [];
  onLasting(): void {
    this.events.push('lasting');
  }
  onIdle(): void {
    this.events.push('idle');
  }
  onTooOld(): void {
    this.events.push('old');
  }
  crashed(error: unknown): void {
    throw error;
  }
}

t.test('silence and age, to the millisecond of the tick', async (t) => {
  let now = 0;
  const clock = new IdleClock({ idle: 100, age: 1000, now: () => now });
  t.teardown(() => {
    clock.close();
  });
  const item = new Item();
  const busy = new Item();
  clock.add(item);
  clock.add(busy);
  const turnTo = (time: number): void => {
    now = time;
    busy.moved += 1;
    clock.tick();
  };
  turnTo(99);
  t.same(item.events, [], 'just before');
  item.moved += 1;
  turnTo(100);
  turnTo(199);
  t.same(item.events, [], 'a byte starts the silence anew');
  turnTo(200);
  t.same(item.events, ['idle']);
  clock.delete(item);
  turnTo(999);
  t.same(busy.events, [], 'a busy one lives on, until');
  turnTo(1000);
  t.same(busy.events, ['old']);
  t.same(item.events, ['idle'], 'what was taken off is not watched');
});

t.test('what lasts is told so, once', async (t) => {
  let now = 0;
  const clock = new IdleClock({ idle: 1e6, age: 1e6, now: () => now });
  t.teardown(() => {
    clock.close();
  });
  const item = new Item();
  clock.add(item);
  const told = [4999, 5000, 5001, 60_000].map((time) => {
    now = time;
    clock.tick();
    return item.events.length;
  });
  t.same(told, [0, 1, 1, 1]);
  t.same(item.events, ['lasting']);
});

t.test('runs by itself', async (t) => {
  const clock = new IdleClock({ idle: 20, age: 1e6, now: () => performance.now() });
  t.teardown(() => {
    clock.close();
  });
  await new Promise<void>((resolve) => {
    clock.add({ moved: 0, onLasting: () => {}, onIdle: resolve, onTooOld: () => {}, crashed: () => {} });
    // The clock does not keep a process alive, so the test does.
    const alive = setInterval(() => {}, 1000);
    t.teardown(() => {
      clearInterval(alive);
    });
  });
});
