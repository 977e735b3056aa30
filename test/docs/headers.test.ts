/** docs/headers.md lists the fields that are dropped by default, all of them and no other. */
import { readFileSync } from 'node:fs';
import t from 'tap';
import { CLAIM_FIELDS } from '../../src/config/claim-fields.ts';

const PAGE = readFileSync(new URL('../../docs/headers.md', import.meta.url), 'utf8');

t.test('the page and the code have the same fields', async (t) => {
  const table = PAGE.split('| They claim | Fields |\n|---|---|\n')[1]?.split('\n\n')[0] ?? '';
  const rows = table.split('\n').map((row) => row.slice(2, -2).split(' | '));
  t.strictSame(rows, CLAIM_FIELDS.map(({ claim, names }) => [claim, names.map((name) => `\`${name}\``).join(', ')]));
});

t.test('the names are written as they are compared', async (t) => {
  const all = CLAIM_FIELDS.flatMap(({ names }) => names);
  for (const name of all) t.match(name, /^[a-z][a-z0-9-]*\*?$/);
  t.equal(new Set(all).size, all.length, 'each once');
});
