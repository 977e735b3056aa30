/** docs/source-ip.md names every result of a probe and every cause of silence, and its commands have the options it shows. */
import t from 'tap';
import { readFileSync } from 'node:fs';
import { SILENCE } from '../../src/source-ip/judge.ts';
import { readDocRows } from '../support/doc-table.ts';
import { eco } from '../support/eco.ts';

const PAGE = 'docs/source-ip.md';
const FIRST = readDocRows(PAGE).map(([cell = '']) => cell);

t.test('results and causes', async (t) => {
  for (const name of ['match', 'mismatch', 'unknown', 'unjudged', ...Object.keys(SILENCE)]) t.ok(FIRST.includes(name), name);
});

t.test('options', async (t) => {
  const text = readFileSync(new URL(`../../${PAGE}`, import.meta.url), 'utf8');
  const shown = new Set([...text.matchAll(/(?<=[`\s])--[a-z-]+/g)].map(([option]) => option));
  const helps = await Promise.all(['verify-ip', 'echo', 'check'].map((command) => eco([command, '--help'])));
  const known = helps.map(({ out }) => out).join('\n');
  t.ok(shown.size > 5);
  for (const option of shown) t.ok(new RegExp(`\\s${option}\\b`).test(known), option);
});
