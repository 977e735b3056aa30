/** docs/comparison.md: every source is used and there, and its figures are those of the measurement that it names. */
import t from 'tap';
import { readFileSync } from 'node:fs';

const read = (file: string): string => readFileSync(new URL(`../../${file}`, import.meta.url), 'utf8');
const PAGE = read('docs/comparison.md');

/** Rows of tables, without headings and rulers, that have so many cells. */
const rowsOf = (cells: number): string[][] =>
  PAGE.split('\n')
    .filter((line, index, lines) => line.startsWith('| ') && !(lines[index + 1] ?? '').startsWith('|-'))
    .map((line) => line.slice(1, line.lastIndexOf('|')).split('|').map((cell) => cell.trim()))
    .filter((row) => row.length === cells);

t.test('sources', async (t) => {
  const [text = '', sources = ''] = PAGE.split('## Sources');
  const listed = [...sources.matchAll(/^(\d+)\. .*https:\/\//gm)].map(([, number]) => Number(number));
  t.strictSame(listed, listed.map((_, index) => index + 1));
  const used = new Set([...text.matchAll(/\[(\d+)\](?!\()/g)].map(([, number]) => Number(number)));
  t.strictSame([...used].toSorted((a, b) => a - b), listed);
});

t.test('every row says something of each proxy, or leaves it open', async (t) => {
  const rows = rowsOf(7);
  t.ok(rows.length >= 12);
  for (const [need, ours] of rows) t.not(ours, '', need ?? '');
});

t.test('figures', async (t) => {
  const [, date = ''] = /\[the table of (\d{4}-\d\d-\d\d)\]/.exec(PAGE) ?? [];
  t.match(date, /^\d/);
  // The part that the bench writes: the page has tables of other machines besides.
  const [, performance = ''] = /<!-- measured: .*?-->(.*)<!-- \/measured -->/s.exec(read('docs/performance.md')) ?? [];
  const measured = new Map([...performance.matchAll(/^\| ([^|]+?) +\|(.*)\|$/gm)].map(([, work = '', cells = '']) => [work, cells.split('|').map((cell) => cell.trim().split(' ')[0] ?? '')]));
  const rows = rowsOf(4);
  t.ok(rows.length >= 5);
  for (const [work = '', ...figures] of rows) {
    // The page may have been measured anew since: then it is for that page to say, and the date here shows which one this is.
    if (performance.includes(`\n${date},`)) t.strictSame(figures, measured.get(work)?.slice(0, 3), work);
    else t.ok(measured.has(work), `${work} is still measured`);
  }
});
