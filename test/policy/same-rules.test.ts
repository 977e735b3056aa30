/** Which rules of two files are the same: as when each is compared with each other, and without doing so. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import t from 'tap';
import type { RuleConfig } from '../../src/config/config.ts';
import { decisiveOf, nameRules } from '../../src/policy/same-rules.ts';
import { makeRule } from '../support/policy.ts';

/** As the names are defined: same content, then same position, then file order. */
function namesOf(before: readonly RuleConfig[], after: readonly RuleConfig[]): string[] {
  const text = (rule: RuleConfig): string => JSON.stringify(decisiveOf(rule));
  const left = [...before.keys()];
  const take = (place: number): string => `before ${left.splice(place, 1)[0] ?? -1}`;
  const found = after.map((rule) => {
    const place = left.findIndex((index) => text(before[index] ?? rule) === text(rule));
    return place === -1 ? null : take(place);
  });
  return found.map((name, index) => {
    if (name !== null) return name;
    const fits = (other: number): boolean => (['clients', 'destinations'] as const).every((kind) => after[index]?.[kind].some((one) => before[other]?.[kind].includes(one)));
    const place = left.includes(index) && fits(index) ? left.indexOf(index) : left.findIndex(fits);
    return place === -1 ? `after ${index}` : take(place);
  });
}

t.test('as defined', async (t) => {
  const names = (...known: string[]): fc.Arbitrary<string[]> => fc.subarray(known, { minLength: 1, maxLength: 2 });
  const rule = fc.record({ clients: names('a', 'b', 'c', 'd'), destinations: names('x', 'y', 'z', 'u'), until: fc.constantFrom(null, 1, 2) }).map(({ clients, destinations, until }) => makeRule(clients, destinations, { until }));
  const rules = fc.array(rule, { maxLength: 9 });
  let changed = 0;
  fc.assert(
    fc.property(rules, rules, fc.nat(9), (before, others, kept) => {
      const after = [...others.slice(0, 3), ...before.slice(kept), ...others.slice(3)];
      const [names, later] = nameRules(before, after);
      assert.deepEqual(names, before.map((_, index) => `before ${index}`));
      assert.deepEqual(later, namesOf(before, after));
      if (later.some((name) => name.startsWith('before'))) changed += 1;
    }),
    { numRuns: 5_000 },
  );
  t.ok(changed > 1_000);
});

t.test('ten times as many rules are looked at some ten times as often', async (t) => {
  const looks = (count: number, place: (index: number) => string): number => {
    let looked = 0;
    const indexes = Array.from({ length: count }, (_, index) => index);
    const file = (until: number, order: readonly number[]): RuleConfig[] => order.map((index) => Object.defineProperty(makeRule(['a'], [], { until }), 'destinations', { enumerable: true, get: () => ((looked += 1), [place(index)]) }));
    nameRules(file(1, indexes), file(2, indexes.toReversed()));
    return looked;
  };
  for (const place of [() => 'x', (index: number) => `x${index}`]) {
    const [few, many] = [looks(50, place), looks(500, place)];
    t.ok(many < 15 * few, `${few} and ${many}`);
  }
  // None of them is another's, and each but its place changes.
  const renamed = (prefix: string): RuleConfig[] => Array.from({ length: 3 }, (_, index) => makeRule(['a'], [`${prefix}${index}`]));
  t.strictSame(nameRules(renamed('x'), renamed('y'))[1], ['after 0', 'after 1', 'after 2']);
});
