/** docs/chaos.md: its table has each fault once, and every one of them was as it should be, as were the restarts. */
import { readFileSync } from 'node:fs';
import t from 'tap';
import { TRUTHS } from '../chaos/blind.ts';
import { CHAOS_FAULTS } from '../chaos/faults.ts';
import { readDocRows } from '../support/doc-table.ts';

t.test('every fault has its row', async (t) => {
  const rows = readDocRows('docs/chaos.md').filter(({ length }) => length === 8);
  t.strictSame(rows.map(([name, what]) => [name, what]), CHAOS_FAULTS.map(({ name, what }) => [name, what]));
  const alerts = new Set([...readFileSync(new URL('../../deploy/monitoring/rules.yaml', import.meta.url), 'utf8').matchAll(/alert: EcoEgress(\w+)/g)].map(([, name]) => name));
  for (const [index, [name = '', , , , fired = '', , verdict]] of rows.entries()) {
    t.equal(verdict, 'yes', name);
    const names = fired === '' ? [] : fired.split(', ');
    t.ok(names.every((alert) => alerts.has(alert)), `${name}: ${fired}`);
    for (const wanted of CHAOS_FAULTS[index]?.alerts ?? []) t.ok([wanted].flat().some((alert) => names.includes(alert.replace(/^EcoEgress/, ''))), `${name}: ${[wanted].flat().join(' or ')}`);
  }
  t.equal(new Set(CHAOS_FAULTS.map(({ name }) => name)).size, CHAOS_FAULTS.length);
});

/** Fewer would say that the autopsy is not to be relied on. */
const LEAST_NAMED = 0.95;

t.test('the autopsy names nearly all of them, and accuses the partner of none that is not its', async (t) => {
  const rows = readDocRows('docs/chaos.md').filter(({ length }) => length === 8);
  let [right, asked] = [0, 0];
  for (const [fault = '', , , , , , , cell = ''] of rows) {
    if (cell === '') continue;
    asked += 1;
    const [named = ''] = cell.replaceAll('*', '').split(' (');
    const truth = TRUTHS[fault] ?? [];
    t.not(truth.length, 0, `${fault} has an answer in blind.ts`);
    const isRight = truth.some((part) => part === named || (part === 'ok' && named === 'nothing is wrong'));
    t.equal(cell.startsWith('**'), !isRight, `${fault}: wrong answers, and no others, are in bold`);
    if (isRight) right += 1;
    else t.notOk(named.startsWith('partner') && !truth.some((part) => part.startsWith('partner')), `${fault}: ${named} is accused`);
  }
  t.ok(asked >= 34 && right >= asked * LEAST_NAMED, `${right} of ${asked}`);
});

t.test('the restarts lost nothing', async (t) => {
  const text = readFileSync(new URL('../../docs/chaos.md', import.meta.url), 'utf8');
  t.match(text, /^\| Restarts, one replica after the other \| 100 \|$/m);
  t.match(text, /^\| Calls lost that a proxy had accepted \| 0 \|$/m);
  t.match(text, /^\| Exchanges cut \| 0 \|$/m);
});
