/**
 * Renders the JSON Schemas of what people write and of what programs read, from
 * the code and from the pages: `npm run schemas`. The version in the name of a
 * file rises when a document that was valid is not any more, or when what was
 * promised of an output does not hold any more.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import * as z from 'zod';
import { FILE } from '../src/config/schema.ts';
import { FILE_OF_TESTS } from '../src/policy-tests/read-tests.ts';
import { DEFINITIONS, describeFile, type KeyText, type KeyTexts } from './files.ts';
import { DIALECT, type JsonSchema } from './json-schema.ts';
import { OUTPUTS } from './outputs.ts';

const ROOT = new URL('../', import.meta.url);

/** Mappings whose keys become names of the configuration. */
const NAMED = new Set(['clients', 'destinations', 'hops', 'cluster.clients', 'cluster.destinations', 'cluster.hops']);

/** Text of every schema by the name of its file. */
export function renderSchemas(): Map<string, string> {
  const files = new Map<string, JsonSchema>();
  const add = (name: string, title: string, page: string, schema: JsonSchema): void => {
    files.set(`${name}.v1.json`, { $schema: DIALECT, $id: `urn:eco-egress:schema:${name}.v1`, title, $comment: `Described in ${page}. Rendered by: npm run schemas`, ...schema });
  };
  add('config', 'The configuration of eco-egress', 'docs/configuration.md', { ...describeFile(FILE, textsOfConfiguration(), NAMED), definitions: DEFINITIONS });
  add('policy-tests', 'Tests of a policy of eco-egress', 'docs/policy-tests.md', { ...describeFile(FILE_OF_TESTS, textsOfTests(), new Set()), definitions: DEFINITIONS });
  for (const [name, { title, page, schema }] of Object.entries(OUTPUTS)) {
    // With the dialect again, which add() has too.
    add(name, title, page, z.toJSONSchema(schema, { target: 'draft-7', io: 'output' }));
  }
  return new Map([...files].map(([name, schema]) => [name, `${JSON.stringify(schema, null, 2)}\n`]));
}

/** The rows of a page whose first cell is code, without the marks. */
function rowsOf(page: string): string[][] {
  const lines = readFileSync(new URL(page, ROOT), 'utf8').split('\n').filter((line) => line.startsWith('| `'));
  return lines.map((line) => line.split(/(?<!\\)\|/).slice(1, -1).map((cell) => plain(cell)));
}

function plain(cell: string): string {
  return cell.trim().replaceAll(/\[([^\]]*)\]\([^)]*\)/g, '$1').replaceAll('`', '').replaceAll('\\|', '|');
}

function textsOfConfiguration(): KeyTexts {
  return new Map(rowsOf('docs/configuration.md').map(([key = '', , preset = '', meaning = '']): [string, KeyText] => [key, { meaning, otherwise: preset === 'required' || preset === 'none' ? null : preset }]));
}

/** Where the schema has a default, that says what holds. */
function textsOfTests(): KeyTexts {
  return new Map(rowsOf('docs/policy-tests.md').map(([key = '', meaning = '']): [string, KeyText] => [`tests[].${key}`, { meaning, otherwise: null }]));
}

if (import.meta.main) {
  for (const [name, text] of renderSchemas()) writeFileSync(new URL(name, import.meta.url), text);
}
