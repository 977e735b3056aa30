/** Signals to the processes that people start: npm's own, the one below it, and the first of a container. */
import t, { type Test } from 'tap';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { MAIN } from '../support/eco.ts';

// npm and all that it starts take their time on a busy machine.
t.setTimeout(180_000);

const ROOT = join(import.meta.dirname, '../..');
/** The shipped configuration on free ports, and no wait for load balancers. */
const ENVIRONMENT = {
  PATH: process.env['PATH'],
  HOME: process.env['HOME'],
  ECO_EGRESS_HTTP: '127.0.0.1:0',
  ECO_EGRESS_TLS: 'off',
  ECO_EGRESS_ADMIN: '127.0.0.1:0',
  ECO_EGRESS_DRAIN_DELAY: '0s',
  ECO_EGRESS_LOG_FORMAT: 'json',
};

interface Started {
  readonly child: ChildProcess;
  /** The first address that it listens at for clients. */
  readonly port: number;
  /** npm's exit code, and everything that was written to stdout. */
  readonly ended: Promise<{ code: number | null; output: string }>;
}

/** Starts it as the leader of a process group, and waits until it listens. What is left of the group is killed at the end of the test. */
async function start(t: Test, command: string, args: readonly string[]): Promise<Started> {
  const child = spawn(command, args, { cwd: ROOT, env: ENVIRONMENT, stdio: ['ignore', 'pipe', 'inherit'], detached: true });
  t.teardown(() => {
    if (isAlive(child)) process.kill(-(child.pid ?? 0), 'SIGKILL');
  });
  let output = '';
  const listening = Promise.withResolvers<number>();
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text;
    const [, port] = /eco-egress is listening.*/.test(output) ? (/127\.0\.0\.1:(\d+)/.exec(output) ?? []) : [];
    if (port !== undefined) listening.resolve(Number(port));
  });
  const ended = once(child, 'close').then(([code]) => {
    listening.reject(new Error(`${command} ${args.join(' ')} ended before it listened: ${output}`));
    return { code: code as number | null, output };
  });
  return { child, port: await listening.promise, ended };
}

/** Whether any process of its group is there. */
function isAlive(child: ChildProcess): boolean {
  try {
    return process.kill(-(child.pid ?? 0), 0);
  } catch {
    return false;
  }
}

function childOf(pid: number): number {
  const [child = ''] = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ');
  return Number(child);
}

function accepts(port: number): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const socket = connect(port, '127.0.0.1');
  socket.once('connect', resolve.bind(null, true)).once('error', resolve.bind(null, false));
  return promise.finally(() => socket.destroy());
}

/** Of a busy machine, ms. */
const LONGEST_END = 30_000;

const LINUX = process.platform !== 'linux' && 'finds the process below npm in /proc';

const DEMO = ['run', 'demo', '--', '--port-http', '0', '--port-proxy', '0', '--port-tls', '0', '--port-admin', '0'];

const CASES: [args: readonly string[], to: 'npm' | 'node', signal: NodeJS.Signals][] = [
  [['start'], 'npm', 'SIGTERM'],
  [['start'], 'node', 'SIGINT'],
  [DEMO, 'npm', 'SIGINT'],
  [DEMO, 'node', 'SIGTERM'],
];

for (const [args, to, signal] of CASES) {
  t.test(`npm ${args.join(' ')}, ${signal} to ${to}: it drains and ends, and nothing is left`, { skip: LINUX }, async (t) => {
    const { child, port, ended } = await start(t, 'npm', args);
    t.ok(await accepts(port));
    const npm = child.pid ?? 0;
    process.kill(to === 'npm' ? npm : childOf(npm), signal);
    t.match(await Promise.race([ended, delay(LONGEST_END, null, { ref: false }).then(() => ({ code: null, output: 'it goes on' }))]), { code: 0, output: /draining[^]*eco-egress has ended/ });
    t.notOk(isAlive(child), 'no process is left');
    t.notOk(await accepts(port), 'the port is free');
  });
}

const UNSHARE = ['--pid', '--fork', '--mount-proc', '--kill-child'];
const noNamespace = spawnSync('unshare', [...UNSHARE, 'true']).status !== 0 && 'unshare makes no PID namespace here (Linux, root)';

t.test('as the first process of a container, a signal ends it before there is anything to drain', { skip: noNamespace }, async (t) => {
  for (const [signal, code] of [['SIGTERM', 143], ['SIGINT', 130]] as const) {
    // It waits for its standard input, and has no handler of its own.
    const child = spawn('unshare', [...UNSHARE, process.execPath, MAIN, 'hash-password'], { env: ENVIRONMENT, stdio: ['pipe', 'ignore', 'inherit'] });
    t.teardown(() => child.kill('SIGKILL'));
    const closed = once(child, 'close') as Promise<[number | null]>;
    // Before the program's first line a signal is dropped: it is sent until it arrives.
    const again = setInterval(() => {
      const init = childOf(child.pid ?? 0);
      if (init > 0) process.kill(init, signal);
    }, 20);
    t.same(await closed, [code, null], signal);
    clearInterval(again);
  }
});
