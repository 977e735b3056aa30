/** deploy/systemd: the unit fits the program, its limits and its clocks. */
import t from 'tap';
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { configOf, MINIMAL } from '../support/load-text.ts';

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

t.test('it gives the process no more than it needs', async (t) => {
  for (const [key, value] of [['DynamicUser', 'yes'], ['NoNewPrivileges', 'yes'], ['ProtectSystem', 'strict'], ['CapabilityBoundingSet', '']] as const) t.equal(one(key), value, key);
  t.strictSame(all('MemoryDenyWriteExecute'), [], 'V8 compiles at run time');
  t.match(one('RestrictAddressFamilies'), 'AF_NETLINK', 'or it would not know its own addresses');
});

t.test('a configuration that is not valid ends with the code that is not tried again', async (t) => {
  const { status } = spawnSync(join(ROOT, 'bin/eco-egress'), ['serve', '--config', '/not/there.yaml']);
  t.equal(String(status), one('RestartPreventExitStatus'));
});

const noAnalyze = spawnSync('systemd-analyze', ['--version']).status === 0 ? false : 'needs systemd-analyze';

t.test('systemd takes it', { skip: noAnalyze }, async (t) => {
  const file = join(t.testdir(), 'eco-egress.service');
  writeFileSync(file, UNIT.replaceAll(PLACE, ROOT));
  const { status, stderr } = spawnSync('systemd-analyze', ['verify', file], { encoding: 'utf8' });
  t.equal(stderr, '');
  t.equal(status, 0);
});
