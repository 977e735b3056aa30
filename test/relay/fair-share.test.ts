/** Shares: what one client alone may hold, what is left for the next, and what comes back. */
import fc from 'fast-check';
import t from 'tap';
import { FairShare } from '../../src/relay/waiting-line.ts';

function takeAll(share: FairShare, client: string): number {
  let taken = 0;
  while (share.admits(client)) {
    share.take(client);
    taken += 1;
  }
  return taken;
}

t.test('a client may hold no more than are free', async (t) => {
  for (const [size, first, second, third] of [
    [0, 0, 0, 0],
    [1, 1, 0, 0],
    [2, 1, 1, 0],
    [3, 2, 1, 0],
    [4, 2, 1, 1],
    [64, 32, 16, 8],
    [65, 33, 16, 8],
  ] as const) {
    const share = new FairShare(size);
    t.strictSame([takeAll(share, 'a'), takeAll(share, 'b'), takeAll(share, 'c')], [first, second, third], `of ${size}`);
    t.equal(share.total, first + second + third);
  }
});

t.test('clients that take in turn have the same', async (t) => {
  const share = new FairShare(60);
  for (let moved = true; moved; ) {
    moved = false;
    for (const client of ['a', 'b']) {
      if (!share.admits(client)) continue;
      share.take(client);
      moved = true;
    }
  }
  t.strictSame([share.heldBy('a'), share.heldBy('b')], [20, 20], 'two a third each');
});

t.test('what is given back is there again, and nothing is kept of who holds none', async (t) => {
  const share = new FairShare(4);
  takeAll(share, 'a');
  t.equal(share.admits('a'), false);
  share.giveBack('a');
  t.equal(share.admits('a'), true);
  share.giveBack('a');
  t.strictSame([share.total, share.heldBy('a')], [0, 0]);
  t.equal(takeAll(share, 'b'), 2);
});

t.test('whatever is taken and given back: never more than there are, and always one for a newcomer while one alone has not filled a single place', async (t) => {
  fc.assert(
    fc.property(fc.integer({ min: 2, max: 40 }), fc.array(fc.tuple(fc.constantFrom('a', 'b', 'c'), fc.boolean()), { maxLength: 200 }), (size, steps) => {
      const share = new FairShare(size);
      const held = new Map([['a', 0], ['b', 0], ['c', 0]]);
      for (const [client, takes] of steps) {
        const mine = held.get(client) ?? 0;
        if (takes && share.admits(client)) {
          if (mine >= size - share.total) throw new Error(`${client} holds ${mine} of ${size} with ${share.total} taken, and may have another`);
          share.take(client);
          held.set(client, mine + 1);
        } else if (!takes && mine > 0) {
          share.giveBack(client);
          held.set(client, mine - 1);
        }
        const total = [...held.values()].reduce((sum, count) => sum + count, 0);
        if (share.total !== total || total > size) throw new Error(`${share.total} of ${size} are counted, ${total} are held`);
        for (const [name, count] of held) if (share.heldBy(name) !== count) throw new Error(`${name} holds ${count}`);
        if (total < size && !share.admits('newcomer')) throw new Error('a newcomer gets nothing');
      }
    }),
    { numRuns: 2000 },
  );
  t.pass('2000 cases');
});
