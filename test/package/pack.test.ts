/** The tarball of `npm pack`: what is in it, and that it runs where npm installs it, below node_modules. */
import t from 'tap';
import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync, symlinkSync } from 'node:fs';
import { get } from 'node:http';
import { dirname, join, relative } from 'node:path';
import { text } from 'node:stream/consumers';
import type { IncomingMessage } from 'node:http';
import { manifest, PRODUCTION, ROOT } from '../support/lock-file.ts';
import { portsOf, serve } from '../support/serve.ts';

// The whole source is compiled.
t.setTimeout(180_000);

const scratch = t.testdir({ checkout: {}, project: { node_modules: { '.bin': {} } } });
const PACKAGE = join(scratch, 'project/node_modules/eco-egress-proxy');
/** As npm runs a program: with its own Node in PATH, and nothing of this machine. */
const env = { PATH: `${dirname(process.execPath)}:/usr/bin:/bin`, HOME: scratch };

/** A copy, so that no other test sees what is compiled. */
const UNPACKED = new Set(['node_modules', '.git', '.tap', 'dist', '.env', relative(ROOT, scratch)]);
for (const name of readdirSync(ROOT).filter((entry) => !UNPACKED.has(entry) && !entry.startsWith('.tap'))) {
  if (name !== 'test') cpSync(join(ROOT, name), join(scratch, 'checkout', name), { recursive: true, filter: (path) => !path.includes('/node_modules/') });
}
symlinkSync(join(ROOT, 'node_modules'), join(scratch, 'checkout/node_modules'));
execFileSync('npm', ['pack', '--pack-destination', scratch], { cwd: join(scratch, 'checkout'), env: { ...process.env, npm_config_loglevel: 'error' }, stdio: ['ignore', 'pipe', 'pipe'] });
const tarball = join(scratch, `eco-egress-proxy-${manifest.version}.tgz`);
execFileSync('tar', ['-xzf', tarball, '-C', join(scratch, 'project')]);
execFileSync('mv', [join(scratch, 'project/package'), PACKAGE]);

// Its dependencies beside it, as npm puts them: those of production, and no others.
for (const path of [...PRODUCTION.keys(), ...Object.keys(manifest.optionalDependencies).map((name) => `node_modules/${name}`)]) {
  if (path.split('node_modules/').length > 2 || !existsSync(join(ROOT, path))) continue;
  mkdirSync(dirname(join(scratch, 'project', path)), { recursive: true });
  symlinkSync(join(ROOT, path), join(scratch, 'project', path));
}
const COMMAND = join(scratch, 'project/node_modules/.bin/eco-egress');
symlinkSync('../eco-egress-proxy/bin/eco-egress', COMMAND);

function list(directory: string): string[] {
  return readdirSync(directory, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile()).map(({ parentPath, name }) => relative(directory, join(parentPath, name)));
}

t.test('it holds what runs and what is read, and nothing of the tests', async (t) => {
  const files = list(PACKAGE);
  for (const file of ['package.json', 'README.md', 'LICENSE', 'CHANGELOG.md', 'SECURITY.md', 'bin/eco-egress', 'bin/node', 'dist/main.js', 'dist/demo/egress.yaml', 'deploy/config/egress.yaml', 'deploy/kubernetes/base/deployment.yaml', 'docs/errors.md', 'examples/README.md', 'schemas/config.v1.json']) t.ok(files.includes(file), file);
  t.strictSame(files.filter((file) => /\.ts$|\.test\.[jt]s|^test\/|^src\/|^bench\/|node_modules|\.tfstate|(^|\/)\.env$/.test(file)), []);
  const folders = new Set(files.map((file) => file.split('/')[0] ?? ''));
  t.strictSame([...folders].toSorted(), ['.env.example', 'CHANGELOG.md', 'LICENSE', 'README.md', 'SECURITY.md', 'bin', 'deploy', 'dist', 'docs', 'examples', 'package.json', 'schemas']);
  t.ok(statSync(tarball).size < 1_000_000, `${statSync(tarball).size} bytes`);
});

t.test('what is compiled is all of the source, and gone from the checkout', async (t) => {
  const source = list(join(ROOT, 'src')).map((file) => file.replace(/\.ts$/, '.js'));
  t.strictSame(list(join(PACKAGE, 'dist')).toSorted(), source.toSorted());
  for (const file of list(join(PACKAGE, 'dist'))) t.notMatch(readFileSync(join(PACKAGE, 'dist', file), 'utf8'), /^(?:import|export) .*\.ts'/m, file);
  t.notOk(existsSync(join(scratch, 'checkout/dist')));
});

t.test('nothing runs when it is installed', async (t) => {
  const { scripts, bin } = JSON.parse(readFileSync(join(PACKAGE, 'package.json'), 'utf8')) as { scripts: Record<string, string>; bin: Record<string, string> };
  for (const name of ['preinstall', 'install', 'postinstall']) t.notOk(name in scripts, name);
  t.strictSame(bin, { 'eco-egress': 'bin/eco-egress' });
});

t.test('its command: version, check, explain, manifests', async (t) => {
  const run = (...args: string[]): string => execFileSync(COMMAND, args, { cwd: join(scratch, 'project'), env, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
  t.equal(run('--version'), `${manifest.version}\n`);
  t.match(run('check'), /eco-egress-proxy\/deploy\/config\/egress\.yaml is valid/);
  t.match(run('explain', '--no-resolve', 'CONNECT', 'eco-sit.telus.internal:443'), /allow/);
  t.match(JSON.parse(run('schema', 'config')), { $id: 'urn:eco-egress:schema:config.v1' });
  t.match(run('manifests', '--overlay', 'sidecar'), /kind: VirtualService/);
});

t.test('it serves, refuses what is not permitted, and ends in order', async (t) => {
  const served = serve(t, {
    config: { version: 1, listeners: { http: ['127.0.0.1:0'], tls: [], admin: '127.0.0.1:0' }, clients: { here: { addresses: ['127.0.0.1/32'] } }, timeouts: { drainDelay: '0s' } },
    shell: `shift 2; exec '${COMMAND}' "$@"`,
  });
  const { http, admin } = await portsOf(served);
  const ask = (port: number, path: string): Promise<IncomingMessage> => new Promise((resolve, reject) => get({ host: '127.0.0.1', port, path, agent: false }, resolve).once('error', reject));
  t.equal((await ask(admin, '/readyz')).resume().statusCode, 200);
  const refused = await ask(http[0] ?? 0, 'http://evil.example/');
  t.equal(refused.statusCode, 403);
  t.match(JSON.parse(await text(refused)), { code: 'host-not-allowed' });
  served.child.kill('SIGTERM');
  t.match(await served.ended, { code: 0, signal: null, stderr: '' });
});
