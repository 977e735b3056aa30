/** Who comes next: the client that holds the fewest, then who has waited longest; and who waits too long. */
import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { type ConnectionWaiter, WaitingLine, type WaitingLineOptions } from '../../src/relay/waiting-line.ts';

class Someone implements ConnectionWaiter {
  readonly client: string;
  readonly careful: boolean;
  constructor(client: string, careful = false) {
    this.client = client;
    this.careful = careful;
  }
  onConnection(): void {}
  onNoConnection(): void {}
}

function open(t: Test, options: Partial<WaitingLineOptions> = {}): WaitingLine {
  const line = new WaitingLine({ size: 100, longest: 10_000, onLate: () => {}, onTick: () => {}, ...options });
  t.teardown(() => {
    while (line.first() !== null);
  });
  return line;
}

const none = (): number => 0;

t.test('of one client in their order, of several the one that holds the fewest', async (t) => {
  const line = open(t);
  const [a1, a2, b1, c1] = [new Someone('a'), new Someone('a'), new Someone('b'), new Someone('c')];
  for (const waiter of [a1, a2, b1, c1]) line.add(waiter, false);
  const held: Record<string, number | null> = { a: 2, b: 1, c: 1 };
  const holds = (client: string): number | null => held[client] ?? null;
  t.equal(line.next('settled', holds), b1, 'the fewest, and before c');
  held['b'] = 2;
  t.equal(line.next('settled', holds), c1);
  t.equal(line.next('settled', holds), a1);
  held['a'] = null;
  t.equal(line.next('settled', holds), null, 'it may have none now');
  t.equal(line.length, 1);
  held['a'] = 3;
  t.equal(line.next('settled', holds), a2);
  t.equal(line.length, 0);
});

t.test('who may take what is offered', async (t) => {
  for (const [offer, expected] of [
    ['fresh', [true, true, true, true]],
    ['settled', [true, true, false, false]],
    ['used', [true, false, false, false]],
  ] as const) {
    const takes = [
      [false, false],
      [true, false],
      [false, true],
      [true, true],
    ].map(([careful = false, fresh = false]) => {
      const line = open(t);
      line.add(new Someone('a', careful), fresh);
      return line.next(offer, none) !== null;
    });
    t.strictSame(takes, expected, `${offer}: anything, careful, fresh, both`);
  }
  const line = open(t);
  const [careful, any] = [new Someone('a', true), new Someone('a')];
  line.add(careful, false);
  line.add(any, false);
  t.equal(line.next('used', none), any, 'who may take it goes before who came first');
  t.equal(line.next('settled', none), careful);
});

t.test('places: no client has all of them', async (t) => {
  const line = open(t, { size: 4 });
  for (const expected of [true, true, false]) {
    t.equal(line.share.admits('a'), expected);
    if (expected) line.add(new Someone('a'), false);
  }
  t.equal(line.share.admits('b'), true);
  t.equal(open(t, { size: 0 }).share.admits('a'), false);
});

t.test('who leaves is not in the line any more, and gives its place back', async (t) => {
  const line = open(t, { size: 2 });
  const [one, other] = [new Someone('a'), new Someone('b')];
  line.add(one, false);
  line.add(other, false);
  t.equal(line.remove(one), true);
  t.equal(line.remove(one), false);
  t.equal(line.remove(new Someone('b')), false, 'another of the same client');
  t.equal(line.share.admits('a'), true);
  t.equal(line.next('fresh', none), other);
  t.equal(line.first(), null);
});

t.test('how many are pressing', async (t) => {
  const line = open(t);
  line.add(new Someone('a'), false);
  line.add(new Someone('a'), true);
  line.add(new Someone('b'), false);
  t.strictSame(line.survey(1_000_000, true, () => 1), { eligible: 3, pressing: 1, without: 0 }, 'who takes a new one only, at once');
  t.strictSame(line.survey(0, false, () => 0), { eligible: 3, pressing: 3, without: 2 }, 'clients are counted once each');
  t.strictSame(line.survey(0, false, (client) => (client === 'b' ? 0 : null)), { eligible: 1, pressing: 1, without: 1 });
});

t.test('in a line that stands all are pressing, however short each waits', async (t) => {
  let tick = Promise.withResolvers<undefined>();
  const line = open(t, {
    onTick: () => {
      tick.resolve(undefined);
    },
  });
  line.add(new Someone('a'), false);
  const alive = setInterval(() => {}, 1000);
  // Five ticks in which the loop had free time; after each, somebody else waits.
  for (const stands of [false, false, false, false, true]) {
    t.equal(line.survey(50, true, none).pressing, 0);
    while (line.survey(10, false, none).pressing === 0) {
      await tick.promise;
      tick = Promise.withResolvers<undefined>();
    }
    line.add(new Someone('b'), false);
    line.next('settled', none);
    t.equal(line.survey(50, true, none).pressing, stands ? 1 : 0);
    t.equal(line.survey(50, false, none).pressing, 0, 'nobody has waited for long');
  }
  line.next('settled', none);
  line.add(new Someone('a'), false);
  t.equal(line.survey(50, true, none).pressing, 0, 'it was empty');
  clearInterval(alive);
});

t.test('what has waited too long is called once, in order, and the others wait on', async (t) => {
  const late: ConnectionWaiter[] = [];
  const told = Promise.withResolvers<undefined>();
  const line = open(t, {
    longest: 30,
    onLate: (waiter) => {
      late.push(waiter);
      if (late.length === 2) told.resolve(undefined);
    },
  });
  const [one, other] = [new Someone('a'), new Someone('a')];
  line.add(one, false);
  line.add(other, false);
  const alive = setInterval(() => {}, 1000);
  await told.promise;
  clearInterval(alive);
  t.strictSame(late, [one, other]);
  t.strictSame([line.length, line.remove(one), line.share.admits('a')], [0, false, true]);
});

t.test('the clock runs while somebody waits', async (t) => {
  let ticks = 0;
  const ticked = Promise.withResolvers<undefined>();
  const line = open(t, {
    onTick: () => {
      ticks += 1;
      if (ticks === 2) ticked.resolve(undefined);
    },
  });
  const before = process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length;
  line.add(new Someone('a'), false);
  // It keeps no process alive; something else has to.
  const alive = setInterval(() => {}, 1000);
  await ticked.promise;
  clearInterval(alive);
  line.first();
  t.equal(process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length, before, 'and not longer');
});

t.test('who comes right after a pause, before any tick, waits no longer for it', async (t) => {
  const late: ConnectionWaiter[] = [];
  const told = Promise.withResolvers<undefined>();
  const line = open(t, {
    longest: 200,
    onLate: (waiter) => {
      late.push(waiter);
      if (late.length === 3) told.resolve(undefined);
    },
  });
  const [before, first, later] = [new Someone('a'), new Someone('b'), new Someone('c')];
  line.add(before, false);
  await delay(20);
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2_500);
  line.add(first, false);
  await delay(100);
  line.add(later, false);
  const alive = setInterval(() => {}, 1000);
  await told.promise;
  clearInterval(alive);
  t.strictSame(late, [before, first, later]);
});
