/** The process itself: arguments, .env, exit codes, and what stands on which stream. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { SHIPPED_CONFIG } from '../../src/cli/open-config.ts';
import { eco } from '../support/eco.ts';
import { MINIMAL } from '../support/load-text.ts';

const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url));

t.test('help and version', async (t) => {
  const help = await eco(['--help']);
  t.match(help, { code: 0, err: '', out: /^Usage: npx eco-egress/ });
  for (const command of ['serve', 'check', 'reload', 'explain', 'demo', 'hash-password', 'manifests', 'verify-ip', 'echo', 'doctor', 'test', 'schema', 'version']) {
    t.match(help.out, new RegExp(`^ {2}${command} `, 'm'));
    t.match(await eco([command, '--help']), { code: 0, err: '', out: new RegExp(`^Usage: npx eco-egress ${command}[^]*Example:\\n {2}npx eco-egress ${command}`) }, command);
  }
  for (const asked of ['--version', 'version']) t.match(await eco([asked]), { code: 0, err: '', out: /^\d+\.\d+\.\d+\n$/ });
});

t.test('wrong arguments end with 2 and a hint', async (t) => {
  t.match(await eco([]), { code: 2, out: '', err: /^Usage: npx eco-egress/ });
  t.match(await eco(['chek']), { code: 2, out: '', err: /unknown command 'chek'\n\(Did you mean check\?\)\nRun "npx eco-egress --help"/ });
  t.match(await eco(['check', '--conf', 'x']), { code: 2, out: '', err: /unknown option '--conf'\n\(Did you mean --config\?\)\nRun "npx eco-egress check --help" to see its options\.\n$/ });
  for (const command of ['serve', 'check', 'reload', 'verify-ip', 'doctor', 'manifests']) t.match(await eco([command, 'x.yaml']), { code: 2, out: '', err: /too many arguments[^]*named with --config FILE/ }, command);
  for (const command of ['serve', 'check', 'doctor', 'reload']) t.match(await eco([command, '--config', '']), { code: 2, out: '', err: /^error: the value of option '-c, --config <file>' is empty\./ }, command);
  for (const args of [['manifests', '--out', ''], ['check', '--settings', ''], ['doctor', '--client', '--ca', '']]) t.match(await eco(args), { code: 2, out: '', err: /^error: the value of option '.* <(?:file|directory)>' is empty\./ }, args.join(' '));
  for (const args of [['explain', '--user', '', 'CONNECT', 'a:1'], ['explain', '--san', 'DNS:a', '--san', '', 'CONNECT', 'a:1'], ['doctor', '--incident', ''], ['doctor', '--only', ''], ['diff', '', 'x'], ['test', '']]) {
    t.match(await eco(args), { code: 2, out: '', err: /^error: .* is empty\./ }, args.join(' '));
  }
  t.match(await eco(['explain', '--host', '', 'GET', '/']), { code: 1, out: /The Host field "" is empty/ }, 'a Host field may be');
  t.match(await eco(['check', '--config']), { code: 2, out: '', err: /argument missing/ });
});

t.test('a faulty file ends check and serve with 2, and every fault', async (t) => {
  const cwd = t.testdir({ 'egress.yaml': 'version: 2\nlog: { level: loud }\n' });
  for (const command of ['check', 'serve']) {
    t.match(await eco([command, '--config', 'egress.yaml'], { cwd }), { code: 2, out: '', err: /^2 faults in egress\.yaml[^]*egress\.yaml:1:10[^]*egress\.yaml:2:15/ }, command);
  }
});

t.test('.env fills what the environment leaves open', async (t) => {
  const cwd = t.testdir({ '.env': 'ECO_EGRESS_CONFIG=egress.yaml\nPORT=81\nHOST_NAME=from-file.example\n', 'egress.yaml': MINIMAL.replace('443', '"${PORT}"').replace('eco.example', '"${HOST_NAME}"') });
  const { code, out, err } = await eco(['check', '--json'], { cwd, env: { PORT: '82' } });
  t.equal(code, 0, err);
  t.match(JSON.parse(out), { file: 'egress.yaml', permits: [{ hosts: ['from-file.example'], ports: [82] }] });
});

t.test('.env is for what runs here: with --settings it is not read', async (t) => {
  const cwd = t.testdir({ '.env': 'PORT=81\n', 'settings.env': 'NAME=from-settings.example\n', 'egress.yaml': MINIMAL.replace('443', '"${PORT:-443}"').replace('eco.example', '"${NAME}"') });
  for (const settings of [['--settings', 'settings.env'], ['--settings=settings.env']]) {
    const { code, out, err } = await eco(['check', '--json', '--config', 'egress.yaml', ...settings], { cwd });
    t.equal(code, 0, err);
    t.match(JSON.parse(out), { permits: [{ hosts: ['from-settings.example'], ports: [443] }] });
  }
});

t.test('a .env that cannot be read stops everything', async (t) => {
  const cwd = t.testdir({ '.env': {}, 'egress.yaml': MINIMAL });
  t.match(await eco(['check', '--config', 'egress.yaml'], { cwd }), { code: 2, out: '', err: 'eco-egress: .env cannot be read: it is a directory. Correct it, or start in another directory.\n' });
  const debug = await eco(['check', '--config', 'egress.yaml'], { cwd, env: { ECO_EGRESS_DEBUG: '1' } });
  t.match(debug, { code: 2, err: /\.env cannot be read[^]*\n {4}at / }, 'the stack only when asked for');
  const utf16 = t.testdir({ '.env': Buffer.from('\ufeffECO_EGRESS_CONFIG=egress.yaml\r\n', 'utf16le'), 'egress.yaml': MINIMAL });
  t.match(await eco(['check'], { cwd: utf16 }), { code: 2, out: '', err: 'eco-egress: .env cannot be read: it is UTF-16. Save it as UTF-8. Correct it, or start in another directory.\n' });
});

t.test('a working directory that is gone is a fault of the caller', (t) => {
  const run = (command: string) => spawnSync('bash', ['--norc', '-c', `unset NODE_OPTIONS; mkdir gone && cd gone && rmdir ../gone && exec "$0" "$1" ${command}`, process.execPath, MAIN, SHIPPED_CONFIG], { cwd: t.testdir(), encoding: 'utf8', env: {} });
  t.match(run('check'), { status: 2, stdout: '', stderr: 'eco-egress: the working directory has been deleted. Change to one that exists.\n' });
  t.match(run('check --config "$2"'), { status: 0, stderr: '' }, 'where it is not needed, it is not missed');
  t.end();
});
