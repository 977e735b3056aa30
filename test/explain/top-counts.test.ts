/** What comes often is found, whatever else comes, in a room that does not grow. */
import t from 'tap';
import fc from 'fast-check';
import { TopCounts } from '../../src/explain/recent-denials.ts';

t.test('counts are exact as long as there is room', (t) => {
  const counts = new TopCounts<number>(3);
  for (const [i, key] of ['a', 'b', 'a', 'c', 'a', 'b'].entries()) counts.count(key, i);
  t.strictSame(counts.top(3), [
    { key: 'a', count: 3, error: 0, latest: 4 },
    { key: 'b', count: 2, error: 0, latest: 5 },
    { key: 'c', count: 1, error: 0, latest: 3 },
  ]);
  t.strictSame(counts.top(1).map(({ key }) => key), ['a']);
  t.end();
});

t.test('without room, the newcomer takes the place of the least, and says what it may owe to it', (t) => {
  const counts = new TopCounts<string>(2);
  for (const key of ['a', 'a', 'a', 'b', 'b']) counts.count(key, key);
  counts.count('c', 'c');
  t.strictSame(counts.top(9), [
    { key: 'a', count: 3, error: 0, latest: 'a' },
    { key: 'c', count: 3, error: 2, latest: 'c' },
  ]);
  t.end();
});

t.test('whatever comes more often than one in K is there, and its count is never too small nor too great by more than it says', (t) => {
  const room = 8;
  const holds = fc.property(fc.array(fc.integer({ min: 0, max: 40 }), { maxLength: 400 }), (stream) => {
    const counts = new TopCounts<null>(room);
    const real = new Map<string, number>();
    for (const number of stream) {
      // Low numbers come more often.
      const key = String(Math.floor((number * number) / 40));
      counts.count(key, null);
      real.set(key, (real.get(key) ?? 0) + 1);
    }
    const found = new Map(counts.top(room).map((counted) => [counted.key, counted]));
    if (counts.size > room) return false;
    for (const [key, count] of real) if (count > stream.length / room && !found.has(key)) return false;
    for (const [key, { count, error }] of found) {
      const exact = real.get(key) ?? 0;
      if (count < exact || count - error > exact) return false;
    }
    return true;
  });
  t.doesNotThrow(() => {
    fc.assert(holds, { numRuns: 500 });
  });
  t.end();
});
