/** A little of what `npm run fuzz` does, so that it keeps working, with a seed that stays. */
import t from 'tap';
import { differ } from './differ.ts';
import { conversation, response } from './grammar.ts';
import { fuzzProxy } from './proxy.ts';
import { seeded } from '../support/random.ts';

t.setTimeout(300_000);

const TARGETS = { host: 'HOST', others: [], prefix: '/p', path: '/case/1' };

t.test('a number makes the same input again, and others make others', async (t) => {
  for (const make of [(random: () => number): string => conversation(random, TARGETS), response]) {
    t.equal(make(seeded(1)), make(seeded(1)));
    const many = new Set(Array.from({ length: 500 }, (_, i) => make(seeded(i))));
    t.ok(many.size > 400, `${many.size} of 500 differ`);
  }
});

t.test('a whole proxy lives through 500 of them', async (t) => {
  const { done, kinds, findings } = await fuzzProxy({ seed: 20_261, from: 0, connections: 500, within: 120_000, atOnce: 50, say: (line) => { t.comment(line); } });
  t.same(findings, []);
  t.equal(done, 500);
  t.equal(kinds.size, 8, 'of every kind');
});

t.test('a strict server takes what the proxy passes on', async (t) => {
  const { done, agreed, findings } = await differ({ seed: 20_261, from: 0, cases: 200, within: 120_000, say: (line) => { t.comment(line); } });
  t.same(findings, []);
  t.equal(done, 200);
  t.ok(agreed > 20, `${agreed} requests were taken alike: the comparison is of something`);
});

t.test('a request that is refused leaves the next one plain, to both', async (t) => {
  const cases = [
    // Node's server by itself would close: a URL without a Host field, and a head of more than 16 KiB.
    [40_675_243, 4442],
    [40_675_243, 394],
    // It closes, and the proxy goes on: a CONNECT without a port right behind a body, and a target with a space.
    [1_399_232_155, 8618],
    [1_399_232_155, 9817],
    // Likewise, behind content with an Upgrade that it ignores.
    [22_658_756, 9755],
  ] as const;
  for (const [seed, from] of cases) {
    const { findings, done } = await differ({ seed, from, cases: 1, within: 60_000, say: (line) => { t.comment(line); } });
    t.same(findings, []);
    t.equal(done, 1);
  }
});
