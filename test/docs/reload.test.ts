/** docs/reload.md: every key of the schema is in a row of its table, and the row says what the code does. */
import { readFileSync } from 'node:fs';
import { isDeepStrictEqual } from 'node:util';
import t from 'tap';
import type { Config } from '../../src/config/config.ts';
import { FILE } from '../../src/config/schema.ts';
import { keepWhatNeedsRestart, NEEDS_RESTART } from '../../src/reload/needs-restart.ts';
import { poolTerms } from '../../src/relay/pools.ts';
import { loadText } from '../support/load-text.ts';
import { listSchemaKeys } from '../support/schema-keys.ts';

interface Row {
  readonly patterns: readonly string[];
  readonly tried: string;
  readonly reload: string;
}

const PAGE = readFileSync(new URL('../../docs/reload.md', import.meta.url), 'utf8');
const ROWS: readonly Row[] = PAGE.split('\n')
  .filter((line) => line.startsWith('| `'))
  .map((line) => line.split('|').slice(1, -1).map((cell) => cell.trim()))
  .map(([keys = '', tried = '', reload = '']) => ({ patterns: [...keys.matchAll(/`([^`]+)`/g)].map((match) => match[1] ?? ''), tried, reload }));
/** Sections that are lists or named entries have rows for what is in them. */
const KEYS = listSchemaKeys(FILE).map(({ path }) => path).filter((path, _, all) => !all.some((other) => other.startsWith(`${path}.`) || other.startsWith(`${path}[].`)));

function covers(pattern: string, key: string): boolean {
  return pattern.endsWith('.*') ? key.startsWith(pattern.slice(0, -1)) || key === pattern.slice(0, -2) : pattern === key;
}

/** The rows whose pattern is the longest that covers the key: one. */
function rowsOf(key: string): Row[] {
  const lengths = ROWS.flatMap(({ patterns }) => patterns.filter((pattern) => covers(pattern, key)).map(({ length }) => length));
  const longest = Math.max(0, ...lengths);
  return ROWS.filter(({ patterns }) => patterns.some((pattern) => pattern.length === longest && covers(pattern, key)));
}

t.test('every key has one row, and every pattern a key', async (t) => {
  t.ok(KEYS.length > 90);
  for (const key of KEYS) t.equal(rowsOf(key).length, 1, key);
  for (const pattern of ROWS.flatMap(({ patterns }) => patterns)) t.ok(KEYS.some((key) => covers(pattern, key)), pattern);
});

t.test('every kind of file is tried at load, and watched', async (t) => {
  const files = KEYS.filter((key) => key.endsWith('File'));
  t.equal(files.length, 19);
  for (const key of files) {
    const [row] = rowsOf(key);
    t.ok(row?.patterns.includes(key), `${key} is named in its row`);
    t.match(row?.tried, /\w/, key);
    t.match(row?.reload, /Watched$/, key);
  }
});

/** @param path of a key in a file: `limits.tunnels`, `listeners.http[].host` */
const needsRestart = (path: string): boolean => NEEDS_RESTART.some((kept) => `${path.replaceAll('[]', '')}.`.startsWith(`${kept}.`));

t.test('what waits for the next start is what the code keeps', async (t) => {
  for (const key of KEYS.filter((path) => path !== 'version')) t.equal(rowsOf(key)[0]?.reload === 'Waits for the next start', needsRestart(key), key);
});

function configOf(text: string): Config {
  const loaded = loadText(text);
  if (!loaded.ok) throw new Error(JSON.stringify(loaded.faults));
  return loaded.config;
}

const TEXT = `version: 1
clients: { pods: { addresses: 10.0.0.0/8 } }
destinations: { eco: { hosts: eco.example, ports: 443 } }
rules: [{ clients: pods, destinations: eco }]
`;

t.test('what waits is kept and named, everything else is taken over', async (t) => {
  const present = configOf(TEXT);
  const wanted = { ...present, novel: 1, name: 'other', limits: { ...present.limits, novel: 2, tunnels: 7, headerBytes: 9 }, timeouts: { ...present.timeouts, keepAlive: 5, tls: 6 }, log: { level: 'debug', format: 'text' } } as unknown as Config;
  const { config, needRestart } = keepWhatNeedsRestart(present, wanted);
  t.same(needRestart.toSorted(), ['limits.headerBytes', 'name', 'timeouts.keepAlive']);
  t.same(config, { ...wanted, name: present.name, limits: { ...wanted.limits, headerBytes: present.limits.headerBytes }, timeouts: { ...wanted.timeouts, keepAlive: present.timeouts.keepAlive } });
  t.same(keepWhatNeedsRestart(present, present), { config: present, needRestart: [] });
});

t.test('pools depend on every key of a destination, limit and timeout but those that the page excepts', async (t) => {
  const present = configOf(TEXT);
  const [destination] = present.destinations;
  if (destination === undefined) throw new Error('no destination');
  const other = (terms: { destination?: object; limits?: object; timeouts?: object }): boolean =>
    !isDeepStrictEqual(
      poolTerms(destination, present),
      poolTerms({ ...destination, ...terms.destination }, { limits: { ...present.limits, ...terms.limits }, timeouts: { ...present.timeouts, ...terms.timeouts } }),
    );
  /** Keys of the file as the program has them. */
  const inFile: Readonly<Record<string, string>> = { methods: 'http.methods', paths: 'http.paths', tls: 'tls.caFile', gateway: 'gateway.prefix' };
  for (const key of [...Object.keys(destination), 'novel'].filter((name) => name !== 'name')) {
    const [row] = rowsOf(`destinations.<name>.${inFile[key] ?? key}`);
    t.equal(other({ destination: { [key]: 'changed' } }), /new pools/i.test(row?.reload ?? ''), key);
  }
  for (const section of ['limits', 'timeouts'] as const) {
    for (const key of [...Object.keys(present[section])].filter((name) => !needsRestart(`${section}.${name}`))) {
      t.equal(other({ [section]: { [key]: 'changed' } }), /new pools/i.test(rowsOf(`${section}.${key}`)[0]?.reload ?? ''), `${section}.${key}`);
    }
    t.ok(other({ [section]: { novel: 'changed' } }), `a new key of ${section}`);
  }
});
