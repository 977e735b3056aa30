/** docs/one-address.md and docs/port-economy.md: the metrics that they name exist. */
import t from 'tap';
import { readFileSync } from 'node:fs';
import { readDocRows } from '../support/doc-table.ts';

const PAGE = 'docs/one-address.md';

const read = (path: string): string => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8');
const page = read(PAGE);
const terraform = (file: string): string => read(`deploy/terraform/${file}`);

t.test('Google\'s metrics are those that Terraform alerts on, and more', async (t) => {
  const named = readDocRows(PAGE).map(([name = '']) => name).filter((name) => name.startsWith('router.googleapis.com/'));
  const alerts = [...terraform('alerts.tf').matchAll(/metric += "([^"]+)"/g)].map(([, name = '']) => name);
  t.equal(alerts.length, 3);
  for (const name of alerts) t.ok(named.includes(name), name);
});

t.test('the proxy\'s metrics that they name are on their page', async (t) => {
  const known = readDocRows('docs/metrics.md').map(([name]) => name);
  const named = [...(page + read('docs/port-economy.md')).matchAll(/eco_egress_\w+/g)].map(([name]) => name);
  t.ok(named.length > 8);
  for (const name of named) t.ok(known.includes(name), name);
});
