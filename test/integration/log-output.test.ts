/** `eco-egress serve` whose log cannot be written, as a process of its own: requests go on, what is lost is counted. */
import { execFileSync, spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, existsSync, openSync, readFileSync, readSync, truncateSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { stringify } from 'yaml';
import { baseDraft } from '../support/lab.ts';
import { listen } from '../support/listen.ts';
import { readScrape, type Scrape, sumOf } from '../support/prometheus.ts';

// Each starts a process, and machines are busy.
t.setTimeout(180_000);

const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url));
const DROPPED = 'eco_egress_log_lines_dropped_total';

interface Place {
  readonly directory: string;
  readonly http: number;
  readonly admin: number;
  /** As a shell has to have them: program and arguments of a proxy that serves here. */
  readonly command: readonly string[];
}

/** Ports that are known before the log could say them. */
async function preparePlace(t: Test): Promise<Place> {
  const directory = t.testdir();
  const ports = await Promise.all([0, 1].map(async () => {
    const server = createServer();
    const port = await listen(t, server);
    server.close();
    await once(server, 'close');
    return port;
  }));
  const [http = 0, admin = 0] = ports;
  const draft = baseDraft({ https: 443, http: 80 });
  Object.assign(draft.destinations.eco, { tls: undefined });
  Object.assign(draft.listeners, { http: [`127.0.0.1:${http}`], admin: `127.0.0.1:${admin}` });
  const file = join(directory, 'egress.yaml');
  writeFileSync(file, stringify(draft));
  return { directory, http, admin, command: [process.execPath, MAIN, 'serve', '--config', file] };
}

/** Runs `script` in a shell, where "$@" is the command that serves. */
function runShell(t: Test, { directory, command }: Place, script: string, stdout: 'ignore' | 'pipe' | number = 'ignore'): ChildProcess {
  // What tap wants of each process of Node would be written within the limits of this one.
  const child = spawn('sh', ['-c', `unset NODE_OPTIONS; ${script}`, 'sh', ...command], { cwd: directory, env: { PATH: process.env['PATH'], TERM: 'dumb' }, stdio: ['ignore', stdout, 'pipe'] });
  t.teardown(() => child.kill('SIGKILL'));
  return child;
}

async function untilServing({ admin }: Place): Promise<void> {
  for (;;) {
    const answer = await fetch(`http://127.0.0.1:${admin}/readyz`).catch(() => null);
    if (answer?.status === 200) return;
    await delay(20);
  }
}

/** Requests that are refused, a line of the log each, of about 2,500 bytes. */
async function askMuch({ http }: Place, times: number): Promise<void> {
  const path = `/${'p'.repeat(2_000)}`;
  for (let left = times; left > 0; left -= 50) {
    const statuses = await Promise.all(Array.from({ length: Math.min(50, left) }, async () => {
      const response = await fetch(`http://127.0.0.1:${http}${path}`);
      await response.text();
      return response.status;
    }));
    if (statuses.some((status) => status !== 403)) throw new Error(`not served: ${statuses.join()}`);
  }
}

const scrape = async ({ admin }: Place): Promise<Scrape> => readScrape(await (await fetch(`http://127.0.0.1:${admin}/metrics`)).text());

async function untilDropped(place: Place, reason: string, least = 1): Promise<void> {
  while (sumOf(await scrape(place), DROPPED, { reason }) < least) await delay(20);
}

const warningsOf = async ({ admin }: Place): Promise<string[]> => ((await (await fetch(`http://127.0.0.1:${admin}/readyz`)).json()) as { warnings: string[] }).warnings;

async function endOf(child: ChildProcess): Promise<number | string | null> {
  if (child.exitCode !== null || child.signalCode !== null) return child.exitCode ?? child.signalCode;
  const [code, signal] = (await once(child, 'exit')) as [number | null, NodeJS.Signals | null];
  return code ?? signal;
}

function linesIn(file: string): Record<string, unknown>[] {
  return readFileSync(file, 'utf8').split('\n').filter((line) => line !== '').map((line) => JSON.parse(line) as Record<string, unknown>);
}

for (const [what, script, reason, error] of [
  ['a device that is always full', 'exec "$@" >/dev/full', 'full', 'ENOSPC'],
  ['a file opened for reading only', 'exec "$@" 1<egress.yaml', 'failed', 'EBADF'],
  ['a pipe whose reader has gone', '"$@" | true', 'gone', 'EPIPE'],
] as const) {
  t.test(`the log is ${what}: lines are lost, requests are not`, async (t) => {
    const place = await preparePlace(t);
    // The exit code of the proxy, whatever the end of the pipe says.
    const child = runShell(t, place, reason === 'gone' ? `{ "$@"; echo $? >code; } | true; cat code >&2` : script);
    const said = child.stderr === null ? '' : text(child.stderr);
    await untilServing(place);
    await askMuch(place, 200);
    await untilDropped(place, reason, 200);
    const loss = `The log has lost \\d+ lines since .*: it cannot be written \\(${error}\\)\\.`;
    t.match(await warningsOf(place), [new RegExp(`^${loss}$`)]);
    if (reason === 'gone') {
      for (const pid of childrenOf(childrenOf(child.pid ?? 0)[0] ?? 0)) process.kill(pid, 'SIGTERM');
      t.equal(await endOf(child), 0);
      t.match(await said, new RegExp(`^${loss}\n0\n$`), 'the last chance to say it');
    } else {
      child.kill('SIGTERM');
      t.equal(await endOf(child), 0);
      t.match(await said, new RegExp(`^${loss}\n$`), 'the last chance to say it');
    }
  });
}

function childrenOf(pid: number): number[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').map(Number);
}

t.test('a file that may not grow, and then may: every line is whole, and one says how many are missing', async (t) => {
  const place = await preparePlace(t);
  // 64 KiB, in blocks of 512 bytes.
  const child = runShell(t, place, 'ulimit -f 128; exec "$@" >>log');
  const said = child.stderr === null ? '' : text(child.stderr);
  await untilServing(place);
  await askMuch(place, 400);
  await untilDropped(place, 'full');
  t.match(await warningsOf(place), [/it cannot be written \(EFBIG\)/]);
  const file = join(place.directory, 'log');
  const before = readFileSync(file, 'utf8');
  t.equal(before.length, 65_536, 'as much as there is room for');
  truncateSync(file);
  const lost = async (): Promise<number> => sumOf(await scrape(place), DROPPED);
  // Without another request: it says so by itself.
  while (!existsSync(file) || readFileSync(file, 'utf8') === '') await delay(20);
  const dropped = await lost();
  t.strictSame(await warningsOf(place), []);
  await askMuch(place, 10);
  child.kill('SIGTERM');
  t.equal(await endOf(child), 0);
  t.equal(await said, '');
  const after = linesIn(file);
  t.match(after[0], { level: 'error', msg: 'log lines were lost', lines: dropped, linesByReason: { full: dropped }, error: 'EFBIG', since: String });
  t.equal(after.filter(({ msg }) => msg === 'log lines were lost').length, 1);
  const whole = before.split('\n').slice(0, -1).filter((line) => line.includes('"host-not-allowed"')).length;
  t.equal(whole + dropped + after.filter(({ code }) => code === 'host-not-allowed').length, 410, 'written or counted');
});

t.test('a disk that is full, and then has room again', { skip: spawnSync('unshare', ['-m', 'mount', '-t', 'tmpfs', 'tmpfs', '/mnt']).status === 0 ? false : 'needs the right to mount in a namespace of its own' }, async (t) => {
  const place = await preparePlace(t);
  const child = runShell(t, place, `exec unshare -m sh -c 'mount -t tmpfs -o size=64k tmpfs /mnt && exec "$@" >>/mnt/log' sh "$@"`);
  await untilServing(place);
  await askMuch(place, 400);
  await untilDropped(place, 'full');
  t.match(await warningsOf(place), [/it cannot be written \(ENOSPC\)/]);
  const inside = (script: string): string => execFileSync('nsenter', ['-t', String(child.pid), '-m', 'sh', '-c', script], { encoding: 'utf8' });
  inside(': >/mnt/log');
  while (inside('cat /mnt/log') === '') await delay(50);
  // The end of a line that was torn goes before it.
  const first = inside('cat /mnt/log').split('\n').find((line) => line !== '');
  t.match(JSON.parse(first ?? ''), { msg: 'log lines were lost', error: 'ENOSPC' });
  child.kill('SIGTERM');
  t.equal(await endOf(child), 0);
});

t.test('a pipe whose reader stops, and then reads on', async (t) => {
  const place = await preparePlace(t);
  const fifo = join(place.directory, 'fifo');
  execFileSync('mkfifo', [fifo]);
  // Each end by itself: whether a read or a write waits is of the end, and whoever starts a process changes it for that.
  const pipe = openSync(fifo, constants.O_RDONLY | constants.O_NONBLOCK);
  const end = openSync(fifo, constants.O_WRONLY);
  t.teardown(() => {
    closeSync(pipe);
    closeSync(end);
  });
  const child = runShell(t, place, 'exec "$@"', end);
  await untilServing(place);
  // The pipe holds 64 KiB and the proxy 1 MiB.
  await askMuch(place, 700);
  await untilDropped(place, 'slow');
  t.match(await warningsOf(place), [/its reader is too slow, or has stopped/]);
  const read = startReading(pipe);
  while (!read.all().includes('"log lines were lost"')) await delay(20);
  const dropped = sumOf(await scrape(place), DROPPED);
  child.kill('SIGTERM');
  t.equal(await endOf(child), 0);
  const lines = read.stop().split('\n').filter((line) => line !== '').map((line) => JSON.parse(line) as Record<string, unknown>);
  t.match(lines.find(({ msg }) => msg === 'log lines were lost'), { lines: dropped, linesByReason: { slow: dropped } });
  t.equal(lines.filter(({ code }) => code === 'host-not-allowed').length + dropped, 700, 'each line once, or counted');
  t.match(lines.at(-1), { msg: 'eco-egress has ended' });
});

function startReading(pipe: number): { all: () => string; stop: () => string } {
  const buffer = Buffer.alloc(65_536);
  let all = '';
  const drain = (): void => {
    for (;;) {
      try {
        all += buffer.toString('utf8', 0, readSync(pipe, buffer));
      } catch {
        return;
      }
    }
  };
  const timer = setInterval(drain, 1);
  return {
    all: () => all,
    stop: () => {
      clearInterval(timer);
      drain();
      return all;
    },
  };
}

const noScript = spawnSync('script', ['--version']).status === 0 ? false : 'needs script of util-linux';

t.test('a terminal that stops: the proxy goes on', { skip: noScript }, async (t) => {
  const place = await preparePlace(t);
  const [program, ...rest] = place.command;
  const quoted = [program ?? '', ...rest].map((word) => `'${word}'`).join(' ');
  // script passes on what the terminal shows, until nobody reads from it.
  const script = spawn('script', ['-qfec', `exec ${quoted}`, '/dev/null'], { cwd: place.directory, env: { PATH: process.env['PATH'], TERM: 'dumb' }, stdio: ['ignore', 'pipe', 'ignore'] });
  t.teardown(() => script.kill('SIGKILL'));
  script.stdout.pause();
  await untilServing(place);
  await askMuch(place, 700);
  await untilDropped(place, 'slow');
  await askMuch(place, 10);
  process.kill(childrenOf(script.pid ?? 0)[0] ?? 0, 'SIGTERM');
  script.stdout.resume();
  t.equal(await endOf(script), 0);
});

t.test('a terminal that goes away: the proxy goes on, and ends in order', { skip: noScript }, async (t) => {
  const place = await preparePlace(t);
  const quoted = place.command.map((word) => `'${word}'`).join(' ');
  const script = spawn('script', ['-qfc', `trap '' HUP; ${quoted}; echo $? >code`, '/dev/null'], { cwd: place.directory, env: { PATH: process.env['PATH'], TERM: 'dumb' }, stdio: ['ignore', 'ignore', 'ignore'] });
  await untilServing(place);
  const [shell = 0] = childrenOf(script.pid ?? 0);
  const [proxy = 0] = childrenOf(shell);
  t.teardown(() => {
    try {
      process.kill(proxy, 'SIGKILL');
    } catch {
      // It has ended.
    }
  });
  script.kill('SIGKILL');
  await endOf(script);
  await askMuch(place, 100);
  await untilDropped(place, 'failed', 100);
  t.match(await warningsOf(place), [/it cannot be written \(EIO\)/]);
  process.kill(proxy, 'SIGTERM');
  const code = join(place.directory, 'code');
  while (!existsSync(code) || readFileSync(code, 'utf8') === '') await delay(20);
  t.equal(readFileSync(code, 'utf8'), '0\n');
});
