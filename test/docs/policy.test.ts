/** Every example of docs/policy.md is a file that loads, and the tables after it say what the enforcing code says. */
import t from 'tap';
import { readFileSync } from 'node:fs';
import type { Config } from '../../src/config/config.ts';
import { Fault, FAULTS } from '../../src/errors.ts';
import { readTarget } from '../../src/explain/read-question.ts';
import { createGatewayRouter } from '../../src/gateway/router.ts';
import { compilePolicy } from '../../src/policy/compile.ts';
import { decide } from '../../src/policy/decide.ts';
import { compilePaths, matchesPath } from '../../src/policy/patterns.ts';
import type { Ask, Peer } from '../../src/policy/verdict.ts';
import { compareDecisions } from '../../src/reload/compare.ts';
import { canonicalPath } from '../../src/targets/path.ts';
import { configOf } from '../support/load-text.ts';
import { makePeer } from '../support/policy.ts';

const TEXT = readFileSync(new URL('../../docs/policy.md', import.meta.url), 'utf8');

interface Table {
  readonly heads: readonly string[];
  readonly rows: readonly (readonly string[])[];
}

/** Examples and tables in the order of the page. */
const PARTS = [...TEXT.matchAll(/```yaml\n(?<yaml>.*?)```|(?<table>(?:^\|[^\n]*\n)+)/gms)].map(({ groups }): { yaml: string } | Table =>
  groups?.['yaml'] === undefined ? readTable(groups?.['table'] ?? '') : { yaml: groups['yaml'] },
);

function readTable(text: string): Table {
  const [heads = [], , ...rows] = text.trim().split('\n').map((line) => line.split('|').slice(1, -1).map((cell) => cell.trim()));
  return { heads, rows };
}

/** `10.8.1.4, user \`anna\`, at \`2027-…\`` */
function readAsker(cell: string, { clients }: Config): Pick<Ask, 'peer' | 'now'> {
  const [address = '', ...more] = cell.split(', ');
  let now = Date.UTC(2027, 0);
  let peer: Partial<Peer> = {};
  for (const part of more) {
    const [, what, value = ''] = /^(user|token|certificate|at) `(.*)`$/.exec(part) ?? [];
    const [token] = clients.flatMap(({ tokens }) => tokens ?? []);
    if (what === 'user') peer = { user: value };
    else if (what === 'token') peer = { token: { issuer: token?.issuer ?? '', audiences: [token?.audience ?? ''], subject: value } };
    else if (what === 'certificate') peer = { sans: [value] };
    else if (what === 'at') now = Date.parse(value);
    else throw new Error(`the page says ${part}`);
  }
  return { peer: makePeer(address.replaceAll('`', ''), peer), now };
}

async function askOf(config: Config, client: string, request: string): Promise<Ask> {
  const [method = '', target = ''] = request.replaceAll('`', '').split(' ');
  const gateway = await createGatewayRouter(config.destinations);
  const host = URL.parse(target)?.host ?? null;
  try {
    const wanted = readTarget({ method, target, host: method === 'CONNECT' ? target : host }, { policy: compilePolicy(config), gateway, listeners: config.listeners.http });
    return { ...readAsker(client, config), ...wanted };
  } finally {
    await gateway.close();
  }
}

async function verdictOf(config: Config, client: string, request: string): Promise<string> {
  try {
    const verdict = decide(compilePolicy(config), await askOf(config, client, request));
    if (verdict.verdict === 'allow') return verdict.rule;
    return verdict.verdict === 'deny' ? verdict.code : `report ${verdict.would.code}`;
  } catch (error) {
    if (error instanceof Fault) return error.code;
    throw error;
  }
}

const configFor = (yaml: string, more = ''): Config => configOf(`version: 1\n${more}${yaml}`);
const plain = (cell: string): string => cell.replaceAll('`', '');

t.test('the tables of requests', async (t) => {
  let example = '';
  let before = '';
  let held = 0;
  for (const part of PARTS) {
    if ('yaml' in part) {
      before = example;
      example = part.yaml;
      configFor(example);
      continue;
    }
    const { heads, rows } = part;
    if (heads[0] !== 'Client') continue;
    const [, , third = ''] = heads;
    for (const [client = '', request = '', ...verdicts] of rows) {
      const what = `${client} ${request}`;
      held += 1;
      if (third === 'Before') {
        const [was, is, told] = verdicts;
        t.equal(await verdictOf(configFor(before), client, request), plain(was ?? ''), `before: ${what}`);
        t.equal(await verdictOf(configFor(example), client, request), plain(is ?? ''), `after: ${what}`);
        const ask = await askOf(configFor(before), client, request);
        const { newlyAllowed, newlyDenied } = compareDecisions([ask], compilePolicy(configFor(before)), compilePolicy(configFor(example)), ask.now);
        t.equal(newlyDenied.length > 0 ? 'newly denied' : newlyAllowed.length > 0 ? 'newly allowed' : '', told, what);
      } else {
        const more = third.includes('mode: report') ? 'mode: report\n' : '';
        t.equal(await verdictOf(configFor(example, more), client, request), plain(verdicts[0] ?? ''), what);
      }
    }
  }
  t.ok(held > 40, `${held} requests`);
});

t.test('the table of patterns', async (t) => {
  const table = PARTS.find((part): part is Table => 'heads' in part && part.heads[0] === 'Pattern');
  t.ok((table?.rows.length ?? 0) > 3);
  for (const [pattern = '', covers = '', not = ''] of table?.rows ?? []) {
    const compiled = compilePaths([plain(pattern)]);
    for (const path of plain(covers).split(', ')) t.ok(matchesPath(compiled, canonicalPath(path)), `${pattern} covers ${path}`);
    for (const path of plain(not).split(', ')) t.notOk(matchesPath(compiled, canonicalPath(path)), `${pattern} does not cover ${path}`);
  }
});

t.test('the table of targets: what is read as what, and what is refused', async (t) => {
  const read = PARTS.find((part): part is Table => 'heads' in part && part.heads[0] === 'Written');
  t.ok(read);
  const refused = PARTS.find((part): part is Table => 'heads' in part && part.heads[0] === 'Refused');
  const config = configFor('clients: { all: { addresses: 10.0.0.0/8 } }\ndestinations: { eco: { hosts: eco.example, ports: 80, http: { paths: "/*" } } }\nrules: [{ clients: all, destinations: eco }]\n');
  let tried = 0;
  for (const [, examples = ''] of refused?.rows ?? []) {
    for (const path of [...examples.matchAll(/`([^`]*)`/g)].map((match) => match[1] ?? '')) {
      tried += 1;
      t.equal(await verdictOf(config, '`10.0.0.1`', `\`GET http://eco.example${path}\``), 'path-ambiguous', path);
    }
  }
  t.ok(tried > 10);
});

t.test('the order of checks names codes that are', async (t) => {
  const order = PARTS.find((part): part is Table => 'heads' in part && part.heads[0] === '#');
  const codes = (order?.rows ?? []).flatMap(([, , cell = '']) => [...cell.matchAll(/`([a-z-]+)`/g)].map((match) => match[1] ?? ''));
  t.ok(codes.length > 8);
  for (const code of codes) t.ok(code in FAULTS, code);
});
