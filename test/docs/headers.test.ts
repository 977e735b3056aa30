/** docs/headers.md lists the fields that are dropped by default, all of them and no other. */
import { readFileSync } from 'node:fs';
import t from 'tap';
import { CLAIM_FIELDS } from '../../src/config/claim-fields.ts';
import { forwardRequestHeaders } from '../../src/relay/headers.ts';

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

t.test('what never reaches the partner is what the code leaves out', async (t) => {
  const rewrite = { name: 'eco-egress', headers: { via: true, forwarded: 'off', xForwarded: 'off', drop: [], keep: [] }, authority: 'a.example', httpVersion: '1.1', clientAddress: '192.0.2.1', clientScheme: 'http', clientHost: 'a.example', chunked: true, expectsContinue: true, maxForwards: null, trace: null } as const;
  const reaches = (name: string): boolean => forwardRequestHeaders([name, 'trailers'], rewrite).includes(name);
  const rows = PAGE.split('\n').filter((row) => / \| never\b[^|]*\|$/.test(row));
  const never = rows.flatMap((row) => [...row.matchAll(/`([A-Z][\w-]*)`/g)].map(([, name = '']) => name));
  t.ok(never.length >= 12, never.join());
  t.strictSame(never.filter(reaches), []);
  for (const name of ['TE', 'Trailer', 'Cookie', 'Authorization']) t.ok(reaches(name), name);
});
