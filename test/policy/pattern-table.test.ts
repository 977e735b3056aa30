/** Texts with stars: the table finds what comparing with every entry would find. */
import fc from 'fast-check';
import t from 'tap';
import { buildPatternTable, matchWildcard, NAME_STOPS } from '../../src/policy/patterns.ts';

const SA = 'system:serviceaccount';

t.test('exact entries, stars, and their neighbours', async (t) => {
  const table = buildPatternTable(
    [[`${SA}:sit:egress`], [`${SA}:sit:*`, `${SA}:sit:egress`], [`${SA}:*:egress`], ['*'], [`${SA}:si*:x`], []].entries(),
    NAME_STOPS,
  );
  const cases: [text: string, lists: number[]][] = [
    [`${SA}:sit:egress`, [0, 1, 2, 3]],
    [`${SA}:sit:other`, [1, 3]],
    [`${SA}:sit:a:b`, [1, 3]],
    [`${SA}:sit`, [3]],
    [`${SA}:sitx:egress`, [2, 3]],
    [`${SA}:a:b:egress`, [3]],
    [`${SA}:six:x`, [3, 4]],
    [`${SA}:s:x`, [3]],
    [`x${SA}:sit:egress`, [3]],
    ['', [3]],
  ];
  for (const [text, lists] of cases) t.strictSame(table.find(text), lists, text);
  t.strictSame(buildPatternTable([].entries(), []).find('x'), []);
  t.strictSame(buildPatternTable([['a', 'a', 'a*', 'a*']].entries(), []).find('a'), [0], 'each list once');
});

t.test('the same as one by one', async (t) => {
  const text = (...extra: string[]) => fc.string({ unit: fc.constantFrom('a', 'b', ':', ...extra), maxLength: 8 });
  fc.assert(
    fc.property(fc.array(fc.array(text('*'), { maxLength: 4 }), { maxLength: 8 }), text(), (lists, asked) => {
      const expected = lists.flatMap((entries, index) => (entries.some((entry) => matchWildcard(entry, asked, [':'])) ? [index] : []));
      const found = buildPatternTable(lists.entries(), [':']).find(asked);
      if (JSON.stringify(found) !== JSON.stringify(expected)) throw new Error(`${JSON.stringify(lists)} ${asked}: ${found.join()} instead of ${expected.join()}`);
    }),
    { numRuns: 10_000 },
  );
  t.pass('10000 cases');
});
