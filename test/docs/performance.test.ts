/** docs/performance.md and the details of it say what the published results say; the page names the benchmark's options as they are. */
import t from 'tap';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { formatDetails, formatSummary, replaceMeasured } from '../../bench/report/report.ts';
import { loadResults } from '../../bench/report/results.ts';
import { parseOptions } from '../../bench/options.ts';
import { WORKS } from '../../bench/works.ts';

const pathOf = (path: string): string => join(import.meta.dirname, '../..', path);
const PUBLISHED = pathOf('bench/results/published.json');
const PAGE = readFileSync(pathOf('docs/performance.md'), 'utf8');

t.test('the measured parts are the report of the published results', async (t) => {
  const results = loadResults([PUBLISHED]);
  t.equal(PAGE, replaceMeasured(PAGE, formatSummary(results)));
  const details = readFileSync(pathOf('bench/results/published.md'), 'utf8');
  t.equal(details, replaceMeasured(details, formatDetails(results)));
});

t.test('its commands are understood', async (t) => {
  const commands = [...PAGE.matchAll(/^npm run bench -- (.*?)(?: +#.*)?$/gm)].map(([, args = '']) => args.split(' '));
  t.ok(commands.length > 0);
  for (const args of commands) {
    const { only } = parseOptions(args);
    t.ok(only.every((name) => WORKS.some((work) => work.name === name)), args.join(' '));
  }
});
