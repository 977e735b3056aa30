/** docs/chaos.md: its table has each fault once, and every one of them was as it should be, as were the restarts. */
import { readFileSync } from 'node:fs';
import t from 'tap';
import { CHAOS_FAULTS } from '../chaos/faults.ts';
import { readDocRows } from '../support/doc-table.ts';

t.test('every fault has its row', async (t) => {
  const rows = readDocRows('docs/chaos.md');
  t.strictSame(rows.filter((cells) => cells.length === 6).map(([name, what]) => [name, what]), CHAOS_FAULTS.map(({ name, what }) => [name, what]));
  for (const cells of rows.filter(({ length }) => length === 6)) t.equal(cells[5], 'yes', cells[0] ?? '');
  t.ok(CHAOS_FAULTS.length >= 24);
  t.equal(new Set(CHAOS_FAULTS.map(({ name }) => name)).size, CHAOS_FAULTS.length);
});

t.test('the restarts lost nothing', async (t) => {
  const text = readFileSync(new URL('../../docs/chaos.md', import.meta.url), 'utf8');
  t.match(text, /^\| Restarts, one replica after the other \| 100 \|$/m);
  t.match(text, /^\| Calls lost that a proxy had accepted \| 0 \|$/m);
  t.match(text, /^\| Exchanges cut \| 0 \|$/m);
});
