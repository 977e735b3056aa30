/** deploy/systemd: the unit fits the program, its limits and its clocks. */
import t from 'tap';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { baseDraft } from '../support/lab.ts';
import { configOf, MINIMAL } from '../support/load-text.ts';
import { portsOf, serve } from '../support/serve.ts';

const ROOT = join(import.meta.dirname, '../..');
/** Where the unit expects the project. */
const PLACE = '/opt/eco-egress';
const UNIT = readFileSync(join(ROOT, 'deploy/systemd/eco-egress.service'), 'utf8');

const all = (key: string): string[] => [...UNIT.matchAll(new RegExp(`^${key}=(.*)$`, 'gm'))].map(([, value]) => value ?? '');
const one = (key: string): string => all(key).join('\n');

t.test('what it names is there', async (t) => {
  const [program = '', command] = one('ExecStart').split(' ');
  t.ok(existsSync(program.replace(PLACE, ROOT)), program);
  t.equal(command, 'serve');
  t.ok(existsSync(one('Documentation').replace(`file://${PLACE}`, ROOT)));
});

t.test('it has room for the default limits, and time to drain', async (t) => {
  const { limits, timeouts } = configOf(MINIMAL);
  t.ok(Number(one('LimitNOFILE')) > limits.connections + limits.tunnels + limits.exchanges + limits.upstreamConnections);
  t.ok(Number(one('TimeoutStopSec')) * 1000 > timeouts.drainDelay + timeouts.drain);
  t.equal(one('MemoryMax'), '1536M', 'as the container');
  t.match(readFileSync(join(ROOT, 'deploy/kubernetes/base/deployment.yaml'), 'utf8'), 'memory: 1536Mi');
});

t.test('its page names no command that would read the configuration without its settings, and no specifier that older systemds lack', async (t) => {
  const page = readFileSync(join(ROOT, 'deploy/systemd/README.md'), 'utf8');
  const commands = page.match(/eco-egress \w+ [^`]*--config[^`]*/g) ?? [];
  const [, needed = ''] = /^\| systemd \| \d+ and later, for (.*) in /m.exec(readFileSync(join(ROOT, 'docs/compatibility.md'), 'utf8')) ?? [];
  for (const [, option = ''] of needed.matchAll(/`([^`]+)`/g)) t.ok(`${UNIT}${page}`.includes(`\n${option}=`), `compatibility.md: ${option}`);
  t.notMatch(page, /=%d/, 'systemd 251 and later know it, and Ubuntu 22.04 has 249');
  t.equal(commands.length, 1);
  for (const command of commands) t.match(command, '--settings /etc/eco-egress/settings.env');
  // /opt/eco-egress belongs to root, and there npx fails for other users.
  t.notMatch(page, 'npx');
});

t.test('it gives the process no more than it needs', async (t) => {
  for (const [key, value] of [['DynamicUser', 'yes'], ['NoNewPrivileges', 'yes'], ['ProtectSystem', 'strict'], ['CapabilityBoundingSet', '']] as const) t.equal(one(key), value, key);
  t.strictSame(all('MemoryDenyWriteExecute'), [], 'V8 compiles at run time');
  t.match(one('RestrictAddressFamilies'), 'AF_NETLINK', 'or it would not know its own addresses');
});

t.test('a configuration that is not valid ends with the code that is not tried again', async (t) => {
  const { status } = spawnSync(join(ROOT, 'bin/eco-egress'), ['serve', '--config', '/not/there.yaml']);
  t.equal(String(status), one('RestartPreventExitStatus'));
});

t.test('a reload before the program listens for it: it is started again', async (t) => {
  const program = spawn(join(ROOT, 'bin/eco-egress'), ['serve', '--config', '/not/there.yaml'], { stdio: 'ignore' });
  program.kill('SIGHUP');
  const [, signal] = (await once(program, 'exit')) as [code: number | null, signal: string | null];
  // systemd.service(5): SIGHUP is a clean end, which on-failure leaves as it is.
  t.equal(signal, one('RestartForceExitStatus'));
});

const noAnalyze = spawnSync('systemd-analyze', ['--version']).status === 0 ? false : 'needs systemd-analyze';

t.test('systemd takes it', { skip: noAnalyze }, async (t) => {
  // A unit would have to quote the path of a checkout, which may have blanks in it.
  const place = mkdtempSync(join(tmpdir(), 'eco-egress-'));
  t.teardown(() => { rmSync(place, { recursive: true }); });
  symlinkSync(ROOT, join(place, 'checkout'));
  const file = join(place, 'eco-egress.service');
  writeFileSync(file, UNIT.replaceAll(PLACE, join(place, 'checkout')));
  const { status, stderr } = spawnSync('systemd-analyze', ['verify', file], { encoding: 'utf8' });
  t.equal(stderr, '');
  t.equal(status, 0);
});

/** Names of system calls: a set of systemd's, with the sets in it. */
function callsOf(name: string): string[] {
  if (!name.startsWith('@')) return [name];
  const { stdout } = spawnSync('systemd-analyze', ['syscall-filter', name], { encoding: 'utf8' });
  const names = stdout.split('\n').slice(1).map((line) => line.trim()).filter((line) => line !== '' && !line.startsWith('#'));
  return names.flatMap(callsOf);
}

/** systemd.exec(5): in their order, each line adds calls, or with `~` takes them away. Any other call ends the process. */
function permittedCalls(): Set<string> {
  const calls = new Set<string>();
  for (const line of all('SystemCallFilter')) {
    const names = line.replace(/^~/, '').split(' ').flatMap(callsOf);
    for (const name of names) if (line.startsWith('~')) calls.delete(name); else calls.add(name);
  }
  return calls;
}

const noStrace = spawnSync('strace', ['-V']).status === 0 ? false : 'needs strace';

t.test('on one core, it makes no system call that would end it', { skip: noAnalyze || noStrace }, async (t) => {
  const [, core = '0'] = /^Cpus_allowed_list:\s*(\d+)/m.exec(readFileSync('/proc/self/status', 'utf8')) ?? [];
  const draft = baseDraft({ https: 443, http: 80 });
  Object.assign(draft.destinations.eco, { tls: {} });
  // -D: the proxy stays our child.
  const served = serve(t, { config: draft, shell: `exec taskset -c ${core} strace -D -f -qq -o calls "$@"` });
  const { admin } = await portsOf(served);
  // In the turn after the line that it listens, it sets priorities.
  await (await fetch(`http://127.0.0.1:${admin}/healthz`)).text();
  served.child.kill('SIGTERM');
  t.match(await served.ended, { code: 0 });
  const made = new Set([...readFileSync(join(dirname(served.file), 'calls'), 'utf8').matchAll(/^\d+ +(\w+)\(/gm)].map(([, name = '']) => name));
  t.ok(made.has('setpriority'), 'it is seen');
  const permitted = permittedCalls();
  t.strictSame([...made].filter((name) => !permitted.has(name)), []);
});
