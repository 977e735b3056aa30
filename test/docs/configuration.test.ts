/** docs/configuration.md and the schema name the same keys, with the same defaults and choices; its examples load. */
import t from 'tap';
import { readFileSync } from 'node:fs';
import { PassThrough } from 'node:stream';
import { formatFindings } from '../../src/config/finding.ts';
import { loadConfig } from '../../src/config/load.ts';
import { FILE } from '../../src/config/schema.ts';
import { readDocRows } from '../support/doc-table.ts';
import { listSchemaKeys } from '../support/schema-keys.ts';

const PAGE = 'docs/configuration.md';
const KEYS = listSchemaKeys(FILE);
const ROWS = readDocRows(PAGE).filter(([key]) => key !== undefined && !key.includes('${'));

t.test('the walk over the schema sees what it should', async (t) => {
  const paths = KEYS.map((key) => key.path);
  for (const path of ['version', 'listeners.http[].forms', 'clients.<name>.addresses', 'destinations.<name>.gateway.url', 'rules[].clients', 'timeouts.drain']) {
    t.ok(paths.includes(path), path);
  }
  t.ok(KEYS.length > 50);
});

t.test('every key has its row, and every row its key', async (t) => {
  const documented = ROWS.map(([key]) => key);
  t.strictSame(documented.toSorted(), KEYS.map((key) => key.path).toSorted());
});

t.test('every row has the default, the choices and the bounds of its key', async (t) => {
  for (const { path, preset, choices, bounds } of KEYS) {
    const [, type = '', shown = '', meaning = ''] = ROWS.find(([key]) => key === path) ?? [];
    if (preset === undefined) t.equal(shown, 'required', path);
    else if (preset === null) t.notMatch(shown, /^(required)?$/, `${path} says what holds without it`);
    else t.equal(shown, asWritten(preset), path);
    for (const choice of choices) t.match(type, new RegExp(`(^|\\W)${choice}(\\W|$)`), `${path} names ${choice}`);
    if (bounds !== null) t.match(type, bounds, `${path} has the bounds`);
    t.ok(meaning !== '' || path === 'destinations', `${path} has a meaning`);
  }
});

t.test('the examples load', async (t) => {
  const text = readFileSync(new URL(`../../${PAGE}`, import.meta.url), 'utf8');
  const blocks = [...text.matchAll(/```yaml\n(.*?)```/gs)].map((match) => match[1] ?? '');
  t.equal(blocks.length, 4);
  for (const block of blocks) {
    const yaml = block.startsWith('version') ? block : `version: 1\n${block.replace(/^ *tls:.*$/m, '')}`;
    t.match(loadConfig({ file: 'example.yaml', env: {}, readFile: () => yaml }), { ok: true });
  }
});

t.test('the faults shown are the faults reported', async (t) => {
  const file = 'version: 1\nclients:\n  # pods\n  dynatrace-sit:\n    addresses: ["10.8.1.0/14"]\ndestinations:\n  eco-sit:\n    hosts: [eco-sit.telus.internal]\n    port: 443\n';
  const result = loadConfig({ file: 'my.yaml', env: {}, readFile: () => file });
  const page = readFileSync(new URL(`../../${PAGE}`, import.meta.url), 'utf8');
  const faults = result.ok ? [] : result.faults;
  t.equal(faults.length, 2);
  t.ok(page.includes(`\n${formatFindings(faults, 'fault', new PassThrough())}\`\`\`\n`));
});

function asWritten(preset: unknown): string {
  if (Array.isArray(preset)) return preset.length === 0 ? 'none' : preset.join(', ');
  return typeof preset === 'object' ? 'none' : JSON.stringify(preset).replaceAll('"', '');
}
