/** The JSON Schemas: rendered without drift, whole, and right about files that people write. test/integration/schemas.test.ts and answer-schemas.test.ts hold outputs to them. */
import t from 'tap';
import { globSync, readFileSync } from 'node:fs';
import { basename, dirname, join, relative } from 'node:path';
import { parse } from 'yaml';
import * as z from 'zod';
import { ACCESS_LINE } from '../../schemas/outputs.ts';
import { renderSchemas } from '../../schemas/render.ts';
import { shapeOf } from '../../schemas/values.ts';
import { FILE, READERS } from '../../src/config/schema.ts';
import { FILE_OF_TESTS } from '../../src/policy-tests/read-tests.ts';
import { readDocRows } from '../support/doc-table.ts';
import { eco } from '../support/eco.ts';
import { loadText, MINIMAL } from '../support/load-text.ts';
import { readSchema, schemaFaults } from '../support/schemas.ts';
import { listSchemaKeys } from '../support/schema-keys.ts';

const ROOT = join(import.meta.dirname, '../..');
const NAMES = ['check', 'config-in-force', 'config', 'denials', 'destinations', 'diff', 'doctor', 'drain', 'explain', 'incident', 'log-line', 'policy-tests', 'problem', 'reload', 'source-ip', 'status', 'suggest', 'test', 'tunnels', 'verify-ip'];

t.test('they are what the code renders to: npm run schemas', async (t) => {
  const rendered = renderSchemas();
  t.strictSame(globSync('schemas/*.json', { cwd: ROOT }).map((file) => basename(file)).toSorted(), [...rendered.keys()].toSorted(), 'no other files');
  t.strictSame([...rendered.keys()].toSorted(), NAMES.map((name) => `${name}.v1.json`));
  for (const [name, text] of rendered) t.equal(readFileSync(join(ROOT, 'schemas', name), 'utf8'), text, name);
});

t.test('each compiles, and is called what its file is called', async (t) => {
  for (const name of NAMES) {
    t.ok(schemaFaults(name, null).length > 0, name);
    t.match(readSchema(name), { $id: `urn:eco-egress:schema:${name}.v1`, title: /^\w/, $comment: /docs\/[\w-]+\.md/ });
  }
});

type Node = Readonly<Record<string, unknown>>;

/** The schema of a key, whatever forms its value can take. */
function* keysOf(node: Node, path = ''): Generator<[path: string, node: Node]> {
  for (const each of (node['anyOf'] ?? []) as Node[]) yield* keysOf(each, path);
  for (const [key, value] of Object.entries((node['properties'] ?? {}) as Record<string, Node>)) {
    const place = path === '' ? key : `${path}.${key}`;
    yield [place, value];
    yield* keysOf(value, place);
  }
  if (typeof node['items'] === 'object') yield* keysOf(node['items'] as Node, `${path}[]`);
  if (typeof node['additionalProperties'] === 'object') yield* keysOf(node['additionalProperties'] as Node, `${path}.<name>`);
}

t.test('every key of the configuration is there, with its default, its choices and what the page says of it', async (t) => {
  const nodes = new Map(keysOf(readSchema('config')));
  for (const { path, preset, choices } of listSchemaKeys(FILE)) {
    const node = nodes.get(path);
    if (node === undefined) {
      t.fail(`${path} is missing`);
      continue;
    }
    t.type(node['description'], 'string', path);
    t.notMatch(node['description'], /`|\]\(/, `${path}: without marks`);
    const expected = typeof preset === 'object' && preset !== null && !Array.isArray(preset) ? undefined : (preset ?? undefined);
    t.strictSame(node['default'], expected, `${path}: default`);
    for (const choice of choices) t.match(JSON.stringify(node), JSON.stringify(choice), path);
  }
  t.match(nodes.get('destinations.<name>.tls.caFile')?.['description'], /Without it: public CAs\./);
});

/** All schemas inside one. */
function* inside(schema: z.core.$ZodType): Generator<z.core.$ZodType> {
  yield schema;
  if (schema instanceof z.ZodOptional || schema instanceof z.ZodPrefault) yield* inside(schema.def.innerType);
  if (schema instanceof z.ZodPipe) yield* inside(schema.def.out);
  if (schema instanceof z.ZodRecord) yield* inside(schema.def.valueType);
  if (schema instanceof z.ZodArray) yield* inside(schema.def.element);
  if (schema instanceof z.ZodObject) {
    const keys: Readonly<Record<string, z.core.$ZodType>> = schema.def.shape;
    for (const one of Object.values(keys)) yield* inside(one);
  }
}

t.test('the examples of each value are read by what reads the value', async (t) => {
  const readers = new Set([...inside(FILE), ...inside(FILE_OF_TESTS)].flatMap((schema) => READERS.get(schema) ?? []));
  let tried = 0;
  for (const reader of readers) {
    for (const example of (shapeOf(reader)['examples'] ?? []) as unknown[]) {
      // The one that only shows its form.
      const value = example === '$scrypt$ln=15,r=8,p=1$salt$hash' ? `$scrypt$ln=15,r=8,p=1$${'A'.repeat(22)}$${'A'.repeat(43)}` : example;
      t.ok('value' in reader(value), `${reader.name}: ${String(value)}`);
      tried += 1;
    }
  }
  t.ok(tried > 40);
  t.throws(() => shapeOf(function readNothing() { return { value: 1 }; }), /does not say what readNothing takes/, 'a new reader needs its line');
});

t.test('shipped files and examples name their schema, and are valid by it', async (t) => {
  const files = globSync(['deploy/config/*.yaml', 'examples/*.yaml'], { cwd: ROOT });
  t.ok(files.length >= 8);
  for (const file of files) {
    const text = readFileSync(join(ROOT, file), 'utf8');
    const name = file.endsWith('.test.yaml') ? 'policy-tests' : 'config';
    const [, named = ''] = /^# yaml-language-server: \$schema=(\S+)\n/.exec(text) ?? [];
    t.equal(relative(ROOT, join(ROOT, dirname(file), named)), `schemas/${name}.v1.json`, file);
    t.strictSame(schemaFaults(name, parse(text)), [], file);
  }
});

t.test('the examples of the pages are valid', async (t) => {
  let seen = 0;
  for (const page of globSync('docs/**/*.md', { cwd: ROOT })) {
    for (const [, info = '', block = ''] of readFileSync(join(ROOT, page), 'utf8').matchAll(/```yaml([^\n]*)\n(.*?)```/gs)) {
      const tests = info.includes('.test.yaml');
      if (!block.startsWith('version: 1\n') && !tests) continue;
      seen += 1;
      t.strictSame(schemaFaults(tests ? 'policy-tests' : 'config', parse(block)), [], page);
    }
  }
  t.ok(seen >= 5, String(seen));
});

t.test('what the loader refuses for its form, the schema refuses too', async (t) => {
  const rule = (more: string): string => MINIMAL.replace('[eco] }', `[eco], ${more} }`);
  const table: [what: string, text: string][] = [
    ['another version', MINIMAL.replace('version: 1', 'version: 2')],
    ['no version', MINIMAL.replace('version: 1\n', '')],
    ['an unknown key', `${MINIMAL}colour: red\n`],
    ['an unknown key of an entry', MINIMAL.replace('    ports:', '    port: 443\n    ports:')],
    ['a missing key', MINIMAL.replace('    hosts: [eco.example]\n', '')],
    ['a port that is none', MINIMAL.replace('[443]', '[0]')],
    ['an empty list', MINIMAL.replace('[443]', '[]')],
    ['a duration without a unit', `${MINIMAL}timeouts: { connect: 30 }\n`],
    ['a number out of its bounds', `${MINIMAL}limits: { tunnels: 0 }\n`],
    ['a size without a unit', `${MINIMAL}limits: { headerBytes: 1024 }\n`],
    ['another choice', `${MINIMAL}mode: loose\n`],
    ['a text for a boolean', `${MINIMAL}reload: { watch: yes please }\n`],
    ['a name that is none', MINIMAL.replace('  eco:', '  Eco_1:')],
    ['a date without a time', rule('until: 2027-03-01')],
    ['a reason that is too long', rule(`reason: ${'x'.repeat(301)}`)],
    ['a mapping for a list', MINIMAL.replace('[eco.example]', '{ a: b }')],
  ];
  for (const [what, text] of table) {
    t.notOk(loadText(text).ok, `${what}: loader`);
    t.not(schemaFaults('config', parse(text)).length, 0, `${what}: schema`);
  }
});

t.test('the fields of the access line are those of docs/log.md', async (t) => {
  const rows = readDocRows('docs/log.md').map(([name = '']) => name);
  t.strictSame(Object.keys(ACCESS_LINE).toSorted(), rows.filter((name) => !name.startsWith('phases.')).toSorted());
  t.strictSame(Object.keys(ACCESS_LINE.phases.shape), rows.filter((name) => name.startsWith('phases.')).map((name) => name.slice('phases.'.length)));
});

t.test('docs/schemas.md has a row for each, and what the command prints', async (t) => {
  t.strictSame(readDocRows('docs/schemas.md').map(([name = '']) => name).toSorted(), NAMES.map((name) => `${name}.v1`));
  const page = readFileSync(join(ROOT, 'docs/schemas.md'), 'utf8');
  const { out } = await eco(['schema']);
  t.ok(page.includes(`$ npx eco-egress schema\n${out}\`\`\``));
});
