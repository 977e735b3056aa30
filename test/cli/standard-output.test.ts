/** Commands whose standard output, standard error or files cannot be written, each as a process of its own. */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { chmodSync, existsSync, lstatSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';

const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url));

/** @returns exit code and standard error; standard output is whatever `script` makes of it */
function runCommand(t: Test, script: string): { readonly status: number | null; readonly stderr: string } {
  const { status, stderr } = spawnSync('bash', ['--norc', '-c', `unset NODE_OPTIONS; ${script}`], { cwd: t.testdir(), encoding: 'utf8', env: { PATH: process.env['PATH'], NODE: process.execPath, MAIN } });
  return { status, stderr };
}

const FULL = /^eco-egress: standard output cannot be written: [^\n]*ENOSPC[^\n]*\n$/;

t.test('a command whose output has not arrived fails, and says so', async (t) => {
  for (const command of ['check --json', 'explain --no-resolve --client 10.8.0.1 CONNECT eco-sit.telus.internal:443', 'help check', '--version']) {
    const { status, stderr } = runCommand(t, `"$NODE" "$MAIN" ${command} >/dev/full`);
    t.equal(status, 1, command);
    t.match(stderr, FULL, command);
  }
  // A disk with room for the beginning takes that, and Node's own stream would call it written.
  const cut = runCommand(t, 'ulimit -f 1; "$NODE" "$MAIN" check --json >out');
  t.equal(cut.status, 1);
  t.match(cut.stderr, /^eco-egress: standard output cannot be written: EFBIG/);
});

const POLICY = 'version: 1\nclients: { pods: { addresses: [10.8.0.0/14] } }\ndestinations: { eco: { hosts: [eco.example], ports: [443] } }\nrules: [{ clients: pods, destinations: eco }]\n';
const TESTS = 'config: egress.yaml\ntests: [{ client: pods, request: "CONNECT eco.example:443", expect: allow }]\n';
const DENIED = `${JSON.stringify({ time: '2026-03-02T12:00:00.000Z', form: 'connect', client: 'pods', clientAddress: '10.8.0.1', host: 'eco.example', port: 8443, destination: 'eco', verdict: 'deny', code: 'port-not-allowed', durationMs: 1 })}\n`;

t.test('a file that cannot be written whole stays as it was', (t) => {
  const table: [command: string, file: string, said: RegExp, code: number][] = [
    ['test --junit out.xml policy.test.yaml', 'out.xml', /^out\.xml cannot be written: file too large/, 2],
    ['manifests --config egress.yaml --overlay base --out out', 'out/base/policy.yaml', /^out cannot be written: file too large/m, 1],
    ['suggest --config egress.yaml --write access.log', 'egress.yaml', /egress\.yaml cannot be written: file too large/, 1],
  ];
  for (const [command, file, said, code] of table) {
    t.test(command, (t) => {
      const place = t.testdir({ 'egress.yaml': POLICY, 'policy.test.yaml': TESTS, 'access.log': DENIED, 'out.xml': 'before', out: { base: { 'policy.yaml': 'before' } } });
      const before = readFileSync(join(place, file), 'utf8');
      // Node would write its cache of compiled code at the end, and be killed for it.
      const run = spawnSync('bash', ['--norc', '-c', `unset NODE_OPTIONS; ulimit -f 0; "$NODE" "$MAIN" ${command}`], { cwd: place, encoding: 'utf8', env: { PATH: process.env['PATH'], NODE: process.execPath, MAIN, NODE_DISABLE_COMPILE_CACHE: '1' } });
      t.equal(run.status, code, run.stderr);
      t.match(run.stderr, said);
      t.equal(readFileSync(join(place, file), 'utf8'), before);
      t.strictSame(readdirSync(join(place, file, '..')).filter((name) => name.includes('new')), [], 'no draft is left');
      t.end();
    });
  }
  t.end();
});

t.test('files are written where a link leads, and into what is no file', (t) => {
  const place = t.testdir({ 'egress.yaml': POLICY, 'policy.test.yaml': TESTS, there: { 'old.xml': 'before' }, 'old.xml': t.fixture('symlink', 'there/old.xml'), 'fresh.xml': t.fixture('symlink', 'there/fresh.xml') });
  chmodSync(join(place, 'there/old.xml'), 0o640);
  const run = (file: string) => spawnSync(process.execPath, [MAIN, 'test', '--junit', file, 'policy.test.yaml'], { cwd: place, encoding: 'utf8' });
  for (const name of ['old.xml', 'fresh.xml']) {
    t.equal(run(name).status, 0, name);
    t.ok(lstatSync(join(place, name)).isSymbolicLink(), name);
    t.match(readFileSync(join(place, 'there', name), 'utf8'), /<testsuite /, name);
  }
  t.equal(statSync(join(place, 'there/old.xml')).mode & 0o777, 0o640);
  t.match(execFileSync('bash', ['--norc', '-c', '"$0" "$1" test --junit /dev/stdout policy.test.yaml | cat', process.execPath, MAIN], { cwd: place, encoding: 'utf8' }), /<testsuite .*all passed\./s);
  t.end();
});

t.test('a reader that has enough is no failure, and standard error that is full changes nothing', async (t) => {
  t.strictSame(runCommand(t, 'set -o pipefail; "$NODE" "$MAIN" check | head -c 1 >/dev/null'), { status: 0, stderr: '' });
  t.strictSame(runCommand(t, 'set -o pipefail; "$NODE" "$MAIN" check | { exec <&-; wait; sleep 2; }'), { status: 0, stderr: '' }, 'gone before the first byte');
  t.equal(runCommand(t, '"$NODE" "$MAIN" check --config nowhere.yaml 2>/dev/full').status, 2);
  t.equal(runCommand(t, '"$NODE" "$MAIN" check --nonsense 2>/dev/full').status, 2);
  t.equal(runCommand(t, '"$NODE" "$MAIN" check >/dev/full 2>/dev/full').status, 1);
});

for (const command of ['demo --port-http 0 --port-proxy 0 --port-tls 0 --port-admin 0', 'demo --stand-in-only --listen-https 127.0.0.1:0 --listen-http 127.0.0.1:0', 'echo --listen 127.0.0.1:0']) {
  t.test(`${command.split(' --').slice(0, 2).join(' --')} whose reader has gone ends in order`, async (t) => {
    const child = spawn('bash', ['--norc', '-c', `{ "$NODE" "$MAIN" ${command} & echo $! >pid; wait $!; echo $? >code; } | { head -n 1; touch read; }; cat code`], {
      cwd: t.testdir(),
      env: { PATH: process.env['PATH'], NODE: process.execPath, MAIN },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    t.teardown(() => child.kill('SIGKILL'));
    const [out, err] = [text(child.stdout), text(child.stderr)];
    while (!existsSync(join(t.testdirName, 'read'))) await delay(20);
    // Twice: the write that finds out, and what follows.
    const pid = Number(readFileSync(join(t.testdirName, 'pid'), 'utf8'));
    process.kill(pid, 'SIGINT');
    t.match((await out).split('\n').at(-2), '0');
    t.equal(await err, '');
  });
}
