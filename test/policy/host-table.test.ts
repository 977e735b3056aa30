import t from 'tap';
import { buildHostTable } from '../../src/policy/tables.ts';

t.test('exact beats wildcard, the longest suffix beats the shorter, equals keep their order', async (t) => {
  const table = buildHostTable([
    ['*.internal'],
    ['*.telus.internal', 'eco.telus.internal'],
    ['eco.telus.internal', '*.internal'],
    ['1.2.3.4', '::1'],
    ['*.telus.internal'],
  ]);
  const expected: [host: string, lists: number[]][] = [
    ['eco.telus.internal', [1, 2, 4, 0]],
    ['x.telus.internal', [1, 4, 0, 2]],
    ['a.b.telus.internal', [1, 4, 0, 2]],
    ['x.eco.telus.internal', [1, 4, 0, 2]],
    ['telus.internal', [0, 2]],
    ['other.internal', [0, 2]],
    ['internal', []],
    ['xtelus.internal', [0, 2]],
    ['eco.telus.internal.evil.example', []],
    ['evileco.telus.internal', [1, 4, 0, 2]],
    ['1.2.3.4', [3]],
    ['1.2.3.5', []],
    ['::1', [3]],
    ['::2', []],
    ['', []],
    ['.', []],
    ['*.internal', [0, 2]],
  ];
  for (const [host, lists] of expected) t.same(table.find(host), lists, host);
  t.ok(table.hasBelow('telus.internal'));
  t.notOk(table.hasBelow('eco.telus.internal'));
});

t.test('no substring and no suffix without a dot', async (t) => {
  const table = buildHostTable([['eco-sit.telus.internal', '*.partner.example']]);
  for (const host of ['eco-sit.telus.internal.evil.example', 'evileco-sit.telus.internal', 'x.eco-sit.telus.internal', 'co-sit.telus.internal', 'partner.example', 'evilpartner.example', 'a.partner.example.evil']) {
    t.same(table.find(host), [], host);
  }
  t.same(table.find('a.partner.example'), [0]);
});

t.test('a pattern that nothing canonical could equal is refused', async (t) => {
  for (const pattern of ['ECO.internal', 'eco.internal.', '[::1]', '2130706433', '*.1.2.3.4', '*', 'a.*.b', 'bücher.example', '']) {
    t.throws(() => buildHostTable([[pattern]]), TypeError, pattern);
  }
});
