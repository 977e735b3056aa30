/** Token buckets against a model with exact numbers; in bounded memory, whoever comes. */
import t from 'tap';
import fc from 'fast-check';
import { RateBuckets, type Refill, SHARED } from '../src/rate-buckets.ts';
import { holds } from './support/property.ts';

const only = (perMs: number, burst: number, capacity = 10): RateBuckets => new RateBuckets([{ perMs, burst }], capacity);
const wait = (buckets: RateBuckets, name: string, now: number, kind = 0): number => buckets.wait(buckets.find(name, now), kind);
/** @returns whether there was one */
function takeOne(buckets: RateBuckets, name: string, now: number): boolean {
  if (wait(buckets, name, now) > 0) return false;
  buckets.take(name, 0, 1, now);
  return true;
}

t.test('a burst at once, then one for each refill; a retry passes after the given time, and not a millisecond sooner', async (t) => {
  for (const [amount, ms, burst] of [[50, 1000, 100], [1, 1000, 1], [3, 1000, 3], [7, 60_000, 20], [1, 86_400_000, 1], [1_000_000, 1000, 1_000_000]] as const) {
    const buckets = only(amount / ms, burst);
    const start = 123_456_789.125;
    for (let taken = 0; taken < burst; taken += 1) if (!takeOne(buckets, 'a', start)) t.fail(`${taken} of ${burst}`);
    const told = Math.ceil(wait(buckets, 'a', start));
    t.equal(told, Math.ceil(ms / amount), `${amount} in ${ms} ms`);
    t.notOk(takeOne(buckets, 'a', start));
    t.notOk(takeOne(buckets, 'a', start + told - 1));
    t.ok(takeOne(buckets, 'a', start + told));
    t.equal(wait(buckets, 'b', start), 0, 'another name has its own');
  }
});

t.test('never more than burst + rate × time, and never less than the model', async (t) => {
  const steps = fc.array(fc.record({ after: fc.nat(3000), tries: fc.integer({ min: 1, max: 8 }) }), { minLength: 1, maxLength: 60 });
  holds(t, 'whoever asks, whenever', 2000, fc.property(fc.integer({ min: 1, max: 200 }), fc.constantFrom(1000, 60_000), fc.integer({ min: 1, max: 20 }), fc.nat(2 ** 31), steps, (amount, period, burst, begins, asked) => {
    const buckets = only(amount / period, burst);
    // Exact: tokens in parts of 1 / period.
    let level = burst * period;
    let now = begins;
    for (const { after, tries } of asked) {
      now += after;
      level = Math.min(burst * period, level + after * amount);
      for (let attempt = 0; attempt < tries; attempt += 1) {
        const told = Math.ceil(wait(buckets, 'a', now));
        const exact = level >= period ? 0 : Math.ceil((period - level) / amount);
        if (told !== exact) throw new Error(`${told} ms were told, and it takes ${exact}`);
        if (takeOne(buckets, 'a', now) !== level >= period) throw new Error(`level ${level / period}`);
        if (level >= period) level -= period;
      }
    }
  }));
});

t.test('bytes are taken although they are not there; the debt is a whole bucket at most', async (t) => {
  const buckets = only(1, 1000);
  buckets.take('a', 0, 600, 0);
  t.equal(wait(buckets, 'a', 0), 0);
  buckets.take('a', 0, 900, 0);
  t.equal(Math.ceil(wait(buckets, 'a', 0)), 501, 'a debt of 500, and the first byte');
  buckets.take('a', 0, 1e12, 0);
  t.equal(Math.ceil(wait(buckets, 'a', 0)), 1001);
  t.ok(wait(buckets, 'a', 1000) > 0);
  t.equal(wait(buckets, 'a', 1001), 0);
});

t.test('kinds do not share, and what is not limited has no entry', async (t) => {
  const buckets = new RateBuckets([{ perMs: 1, burst: 1 }, null, { perMs: 1, burst: 10 }], 10);
  buckets.take('a', 1, 5, 0);
  t.equal(buckets.size, 0);
  buckets.take('a', 0, 1, 0);
  t.ok(wait(buckets, 'a', 0) > 0);
  t.equal(wait(buckets, 'a', 0, 1), 0);
  t.equal(wait(buckets, 'a', 0, 2), 0);
  t.equal(wait(buckets, 'a', -5), wait(buckets, 'a', 0), 'a clock that stands still, or goes back, gives nothing');
});

t.test('a million addresses: no more entries than there is room for, and no address that has used up its own gets another bucket', async (t) => {
  const CAPACITY = 10_000;
  // Full again after a second.
  const buckets = only(10 / 1000, 10, CAPACITY);
  let now = 0;
  const victims = ['10.0.0.1', '10.0.0.2'];
  const granted = victims.map(() => 0);
  let most = 0;
  for (let index = 0; index < 1_000_000; index += 1) {
    now += 0.02;
    takeOne(buckets, `2001:db8::${index.toString(16)}`, now);
    most = Math.max(most, buckets.size);
    if (index % 100 !== 0) continue;
    for (const [place, victim] of victims.entries()) while (takeOne(buckets, victim, now)) granted[place] = (granted[place] ?? 0) + 1;
  }
  t.ok(most <= CAPACITY, `${most} entries`);
  t.ok(most > CAPACITY / 2, 'it was put to the test');
  for (const count of granted) t.ok(count <= 10 + (now * 10) / 1000 + 1e-6, `${count} granted in ${now} ms`);
});

t.test('while all entries are in use, the others share one bucket; who has an entry keeps it', async (t) => {
  const CAPACITY = 100;
  const buckets = only(1 / 3_600_000, 2, CAPACITY);
  for (let index = 0; index < CAPACITY; index += 1) t.ok(takeOne(buckets, `old-${index}`, 0));
  t.equal(buckets.find('new', 0), SHARED);
  t.strictSame(Array.from({ length: 4 }, (_, index) => takeOne(buckets, `new-${index}`, 1)), [true, true, false, false], 'one bucket for all of them');
  t.equal(buckets.shared, 2);
  t.ok(takeOne(buckets, 'old-7', 1), 'and what is left of an entry is its own');
  t.notOk(takeOne(buckets, 'old-7', 1));
  // The entries that took one are full again; the one that took two is not.
  const later = 3_600_000 * 1.5;
  t.ok(takeOne(buckets, 'new-9', later));
  t.equal(buckets.size, 2, 'forgotten: all that were full');
  t.strictSame([takeOne(buckets, 'old-7', later), takeOne(buckets, 'old-7', later)], [true, false], 'one and a half have come back');
});

t.test('other limits: those that have changed begin full, the others go on', async (t) => {
  const refills = (one: Refill | null, other: Refill | null): (Refill | null)[] => [one, other];
  const slow = { perMs: 1 / 3_600_000, burst: 5 };
  const buckets = new RateBuckets(refills(slow, slow), 10);
  buckets.take('a', 0, 5, 0);
  buckets.take('a', 1, 5, 0);
  buckets.adopt(refills({ ...slow }, { ...slow, burst: 3 }), 10);
  t.ok(wait(buckets, 'a', 0) > 0, 'the same limit goes on');
  t.equal(wait(buckets, 'a', 0, 1), 0);
  for (let taken = 0; taken < 3; taken += 1) buckets.take('a', 1, 1, 0);
  t.ok(wait(buckets, 'a', 0, 1) > 0, 'and not with more than is in a full one');
  buckets.adopt(refills(null, slow), 1);
  t.equal(wait(buckets, 'a', 0), 0);
  buckets.adopt(refills(slow, slow), 1);
  t.equal(wait(buckets, 'a', 0), 0);
  buckets.take('a', 0, 5, 0);
  t.ok(wait(buckets, 'a', 0) > 0);
});
