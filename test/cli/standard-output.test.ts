/** Commands whose standard output or standard error cannot be written, each as a process of its own. */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
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
