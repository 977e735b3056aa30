/** docs/soak.md: what was measured is of a run of twenty minutes or more in which nothing grew. */
import { readFileSync } from 'node:fs';
import t from 'tap';
import { FIGURES } from '../soak/quarters.ts';
import { EVENTS, WORKS } from '../soak/works.ts';

const PAGE = readFileSync(new URL('../../docs/soak.md', import.meta.url), 'utf8');
const [, MEASURED = ''] = /<!-- soak -->\n([^]*)<!-- end of soak -->/.exec(PAGE) ?? [];
const rows = MEASURED.split('\n').filter((line) => line.startsWith('| ')).map((line) => line.split('|').slice(1, -1).map((cell) => cell.trim()));

t.test('it lasted, and every figure has its row', async (t) => {
  t.ok(Number(/^(\d+) minutes/.exec(MEASURED)?.[1]) >= 20);
  const figures = rows.filter((cells) => cells.length === 6 && cells[0] !== 'Median');
  t.strictSame(figures.map(([name]) => name), Object.values(FIGURES).map(({ name }) => name));
  for (const name of ['Heap after a collection', 'Resident memory']) {
    const share = figures.find(([figure]) => figure === name)?.at(-1) ?? '';
    t.ok(Number(share.replace('−', '-').replace(' %', '')) < 5, `${name}: ${share}`);
  }
});

t.test('everything happened', async (t) => {
  const done = rows.filter((cells) => cells.length === 3 && cells[0] !== 'What happened');
  t.strictSame(done.map(([name]) => name), [...WORKS, ...EVENTS].map(({ name }) => name));
  for (const [name = '', times] of done) t.ok(Number(times) > 0, name);
});
