/** docs/architecture.md and src/ show the same parts, and nothing in src/ goes against them. */
import t from 'tap';
import { existsSync, globSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { cruise, type ICruiseOptions, type ICruiseResult } from 'dependency-cruiser';
import { readDocRows } from '../support/doc-table.ts';
import { listValueImports } from '../support/imports.ts';

const ROOT = join(import.meta.dirname, '../..');
const RULES = new URL('../../.dependency-cruiser.js', import.meta.url).href;
const { default: rules, MAY_IMPORT } = (await import(RULES)) as {
  default: { forbidden: NonNullable<ICruiseOptions['ruleSet']>['forbidden']; options: ICruiseOptions & { enhancedResolveOptions: object } };
  MAY_IMPORT: Record<string, string[]>;
};

const FILES = globSync('src/**/*.ts', { cwd: ROOT });
const ROWS = new Set(readDocRows('docs/architecture.md').map(([path = '']) => path));
const PARTS = readdirSync(join(ROOT, 'src'), { withFileTypes: true }).map((entry) => `src/${entry.name}${entry.isDirectory() ? '/' : ''}`);

const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8');

async function inspect(baseDir: string): Promise<ICruiseResult> {
  const { enhancedResolveOptions, ...options } = rules.options;
  const result = await cruise(['src'], { ...options, baseDir, validate: true, ruleSet: { forbidden: rules.forbidden ?? [] } }, enhancedResolveOptions);
  if (typeof result.output === 'string') throw new Error(result.output);
  return result.output;
}

const violations = ({ summary }: ICruiseResult): string[] => summary.violations.map(({ rule, from, to }) => `${rule.name}: ${from} -> ${to}`);

const source = await inspect(ROOT);

t.test('the page and src/ have the same parts', async (t) => {
  t.strictSame([...ROWS].filter((path) => path.startsWith('src/')).toSorted(), PARTS.toSorted());
  for (const path of ROWS) t.ok(existsSync(join(ROOT, path)), path);
  for (const path of read('docs/architecture.md').matchAll(/`((?:src|test|deploy|docs|bench|\.ci)\/[^` ]*)`/g)) t.ok(existsSync(join(ROOT, path[1] ?? '')), path[0]);
});

t.test('every part has its row of permitted imports', async (t) => {
  t.strictSame(Object.keys(MAY_IMPORT).toSorted(), PARTS.map((part) => part.replace(/^src\/|\.ts$/g, '')).toSorted());
});

t.test('the arrows hold', async (t) => {
  t.ok(source.summary.totalCruised > FILES.length);
  t.strictSame(violations(source), []);
});

t.test('an import against the arrows is found', async (t) => {
  const wrong = {
    'policy/a.ts': { text: "import { readFile } from 'node:fs';", rule: 'pure-is-pure' },
    'policy/b.ts': { text: "import '../dial/dial.ts';", rule: 'arrows-of-policy' },
    'targets/a.ts': { text: "import { lookup } from 'node:dns/promises';", rule: 'names-are-resolved-in-dial' },
    'dial/a.ts': { text: "import type { X } from '../policy/b.ts';", rule: 'arrows-of-dial' },
    'dial/dial.ts': { text: 'export const x = 1;', rule: null },
    'egress.ts': { text: "import { x } from './dial/dial.ts';", rule: 'only-service-knows-dial' },
    'listeners/a.ts': { text: "import { x } from '../dial/dial.ts';", rule: 'arrows-of-listeners' },
    'listeners/b.ts': { text: "import '../egress.ts';", rule: 'only-service-makes-egress' },
    'relay/a.ts': { text: "import '../listeners/a.ts';", rule: 'arrows-of-relay' },
    'service.ts': { text: "import './demo/a.ts';", rule: 'arrows-of-service' },
    'demo/a.ts': { text: "import './b.ts';", rule: 'no-cycles' },
    'demo/b.ts': { text: "import './a.ts';", rule: null },
    'errors.ts': { text: "import './nowhere.ts';", rule: 'no-unresolved' },
    'stray/a.ts': { text: "import '../errors.ts';", rule: 'no-orphan-parts' },
    'telemetry/a.ts': { text: "import { spawn } from 'node:child_process';", rule: 'no-processes' },
  };
  const tree: Record<string, Record<string, string> | string> = {};
  for (const [path, { text }] of Object.entries(wrong)) {
    const [folder = '', name] = path.split('/');
    if (name === undefined) tree[folder] = text;
    else tree[folder] = { ...(tree[folder] as Record<string, string> | undefined), [name]: text };
  }
  const found = violations(await inspect(t.testdir({ src: tree })));
  for (const [path, { rule }] of Object.entries(wrong)) {
    if (rule !== null) t.ok(found.some((line) => line.startsWith(`${rule}: src/${path} `)), `${path}: ${rule}`);
  }
});

/** Names that open a connection, or could; a file that may use one is named with it (node-internals.ts puts a Socket on an open connection, router.ts gives Fastify one that is connected to nothing, ask-admin.ts asks the admin port of the proxy beside it, warm-up.ts a proxy in its own process, before there is another, ask-listener.ts the listeners of its own process, span-export.ts hands the exporter of traces agents of its own). */
const DIALLING: Record<string, { readonly names: ReadonlySet<string>; readonly permitted: Record<string, readonly string[]> }> = {
  'node:net': { names: new Set(['*', 'default', 'connect', 'createConnection', 'Socket']), permitted: { 'src/dial/connect.ts': ['connect'], 'src/dial/try-connect.ts': ['connect'], 'src/relay/node-internals.ts': ['Socket'], 'src/gateway/router.ts': ['Socket'], 'src/cli/warm-up.ts': ['connect'], 'src/self-test/ask-listener.ts': ['connect'] } },
  'node:tls': { names: new Set(['*', 'default', 'connect', 'createSecurePair']), permitted: { 'src/dial/tls.ts': ['connect'], 'src/dial/peer-chain.ts': ['connect'], 'src/cli/warm-up.ts': ['connect'], 'src/self-test/ask-listener.ts': ['connect'] } },
  'node:http': { names: new Set(['*', 'default', 'request', 'get', 'Agent', 'ClientRequest', 'globalAgent']), permitted: { 'src/cli/ask-admin.ts': ['request'], 'src/telemetry/span-export.ts': ['Agent'] } },
  'node:https': { names: new Set(['*', 'default', 'request', 'get', 'Agent', 'globalAgent']), permitted: { 'src/telemetry/span-export.ts': ['Agent'] } },
  'node:http2': { names: new Set(['*', 'default', 'connect']), permitted: {} },
  // A Client is made over a socket that was handed in; nothing of undici that dials by itself is here.
  undici: {
    names: new Set(['*', 'default', 'request', 'fetch', 'stream', 'pipeline', 'connect', 'upgrade', 'buildConnector', 'setGlobalDispatcher', 'Client', 'Pool', 'BalancedPool', 'RoundRobinPool', 'Agent', 'ProxyAgent', 'EnvHttpProxyAgent', 'RetryAgent', 'Socks5ProxyAgent', 'H2CClient', 'WebSocket', 'WebSocketStream', 'EventSource']),
    permitted: { 'src/relay/ask-once.ts': ['Client'] },
  },
};

/** `fetch` handed in as an argument, and what for. */
const FETCHING = new Map([['src/identity/key-sources.ts', 'keys of token issuers, from URLs that the configuration names']]);

/** What is taken without `import`: parts of Node that open no connection, and package.json. */
const UNIMPORTED = new Map([['src/lean-imports.ts', ['node:http']], ['src/version.ts', ['../package.json']]]);

function dialledBy(file: string, text: string): string[] {
  const imported = listValueImports(text).flatMap(({ module, names }) => {
    const rule = DIALLING[module];
    const permitted = rule?.permitted[file] ?? [];
    return names.filter((name) => rule?.names.has(name) === true && !permitted.includes(name)).map((name) => `${file}: ${name} of ${module}`);
  });
  const globals = /(?<![.\w])(?:fetch\(|new (?:WebSocket|EventSource|XMLHttpRequest)\b)|\b(?:getBuiltinModule|createRequire)\b/.exec(text);
  return globals === null || FETCHING.has(file) || UNIMPORTED.has(file) ? imported : [...imported, `${file}: ${globals[0]}`];
}

t.test('nothing but dial/ opens a connection', async (t) => {
  for (const [file, modules] of UNIMPORTED) t.strictSame([...read(file).matchAll(/(?:getBuiltinModule|require|createRequire\([^)]*\))\('([^']+)'\)/g)].map((found) => found[1]), modules, file);
  const lean = /export const \{([^}]*)\} = process\.getBuiltinModule/.exec(read('src/lean-imports.ts'))?.[1]?.split(',') ?? [];
  t.strictSame(lean.filter((name) => DIALLING['node:http']?.names.has(name.trim()) !== false), []);
  t.strictSame(FILES.flatMap((file) => dialledBy(file, read(file))), []);
  for (const { permitted } of Object.values(DIALLING)) {
    for (const [file, names] of Object.entries(permitted)) {
      t.ok(listValueImports(read(file)).some((line) => names.every((name) => line.names.includes(name))), `${file} still needs ${names.join()}`);
    }
  }
  t.strictSame(dialledBy('src/relay/x.ts', "import { connect as dial, isIP } from 'node:net';\nimport type { Socket } from 'node:net';\nawait fetch(url);"), [
    'src/relay/x.ts: connect of node:net',
    'src/relay/x.ts: fetch(',
  ]);
});

t.test('only main.ts and cli/ read the environment', async (t) => {
  const readers = FILES.filter((file) => /\bprocess\s*(?:\.|\?\.)\s*env\b|\bprocess\[|import\.meta\.env|from 'node:process'/.test(withoutComments(read(file))));
  t.strictSame(readers.filter((file) => file !== 'src/main.ts' && !file.startsWith('src/cli/')), []);
  t.ok(readers.includes('src/main.ts'), 'and the search finds one that does');
});

t.test('every file says its duty, and a long one why it is long', async (t) => {
  for (const file of [...FILES, ...globSync(['src/**/*.js', 'test/**/*.ts', 'bench/*.ts'], { cwd: ROOT })]) {
    const text = read(file);
    const [header] = /^(?:#!.*\n)?\/\*\*.*?\*\//s.exec(text) ?? [''];
    if (file.startsWith('src/')) t.not(header, '', `${file} begins with a comment`);
    const lines = text.split('\n').length - 1;
    t.equal(/onger than[\s*]+400 lines/.test(header), lines > 400, `${file} has ${lines} lines`);
  }
});

function withoutComments(text: string): string {
  return text.replace(/\/\*.*?\*\//gs, '').replace(/(?<=^|\s)\/\/.*$/gm, '');
}
