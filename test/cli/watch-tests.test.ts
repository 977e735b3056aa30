/** `test --watch`, as a process: it runs again after a change, however an editor writes, and ends with a signal. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { MAIN } from '../support/eco.ts';
import { MINIMAL } from '../support/load-text.ts';

const PASSES = 'config: egress.yaml\ntests:\n  - { name: one, client: pods, request: "CONNECT eco.example:443", expect: allow }\n';
const FAILS = PASSES.replace('expect: allow', 'expect: deny');
const DENIES = MINIMAL.replace('ports: [443]', 'ports: [444]');
const WAITING = /\nWaiting for a change of (\d+|one) files?; Ctrl-C ends\.\n/;
/** Longer than a run and the looks after it take on a machine with other work. */
const LONGEST = 30_000;

interface Watching {
  readonly directory: string;
  readonly child: ChildProcess;
  /** What the next run prints, and how many files are watched after it. */
  readonly next: () => Promise<{ readonly text: string; readonly files: string }>;
  /** Sends a signal, and gives the exit code. */
  readonly end: (signal?: NodeJS.Signals) => Promise<number | null>;
}

function watch(t: Test, files: Record<string, string>, ...args: string[]): Watching {
  const directory = t.testdir(files);
  // Both outputs in one, in their order.
  const child = spawn('sh', ['-c', 'exec "$@" 2>&1', 'sh', process.execPath, MAIN, 'test', '--watch', ...args], { cwd: directory, env: { PATH: process.env['PATH'] }, stdio: ['ignore', 'pipe', 'inherit'] });
  let told = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (told += text));
  const closed = once(child, 'close');
  t.teardown(async () => {
    child.kill('SIGKILL');
    await closed;
  });
  return {
    directory,
    child,
    next: async () => {
      const signal = AbortSignal.timeout(LONGEST);
      for (;;) {
        const [line, files = ''] = WAITING.exec(told) ?? [];
        if (line !== undefined) {
          const text = told.slice(0, told.indexOf(line));
          told = told.slice(text.length + line.length);
          return { text, files };
        }
        await once(child.stdout, 'data', { signal });
        await nextTurn();
      }
    },
    end: async (signal = 'SIGINT') => {
      child.kill(signal);
      const [code] = (await closed) as [number | null];
      return code;
    },
  };
}

const files = { 'egress.yaml': MINIMAL, 'egress.test.yaml': PASSES };

t.test('again after a change of a test, of the configuration, and by the code of the last run', async (t) => {
  const { directory, next, end } = watch(t, files);
  t.match(await next(), { text: /1 test, all passed\.\n$/, files: '2' });
  writeFileSync(join(directory, 'egress.test.yaml'), FAILS);
  t.match(await next(), { text: /FAIL {2}one[^]*1 test, 1 failed\.\n$/ });
  // As most editors write: another file takes its place.
  writeFileSync(join(directory, 'egress.yaml.swp'), DENIES);
  renameSync(join(directory, 'egress.yaml.swp'), join(directory, 'egress.yaml'));
  t.match(await next(), { text: /all passed/ }, 'what is expected to be denied is');
  writeFileSync(join(directory, 'egress.yaml'), MINIMAL);
  t.match(await next(), { text: /1 failed/ }, 'one run for each change');
  t.equal(await end(), 1);
});

t.test('a faulty file ends nothing: it waits for the next change', async (t) => {
  const { directory, next, end } = watch(t, files);
  await next();
  writeFileSync(join(directory, 'egress.yaml'), 'version: 2\n');
  t.match(await next(), { text: /One fault: fix it and try again\./, files: '2' });
  rmSync(join(directory, 'egress.yaml'));
  t.match(await next(), { text: /egress\.yaml cannot be read/ });
  writeFileSync(join(directory, 'egress.yaml'), MINIMAL);
  t.match(await next(), { text: /all passed/ });
  t.equal(await end('SIGTERM'), 0);
});

t.test('several writes at once are one change', async (t) => {
  const { directory, next, end } = watch(t, files);
  await next();
  for (let count = 0; count <= 50; count += 1) {
    writeFileSync(join(directory, 'egress.test.yaml'), FAILS.replace('name: one', `name: write-${count}`));
    await nextTurn();
  }
  let runs = 0;
  for (let text = ''; !text.includes('FAIL  write-50'); runs += 1) ({ text } = await next());
  t.ok(runs <= 2, `${runs} runs`);
  t.equal(await end(), 1);
});

t.test('files that come and go in a directory', async (t) => {
  const { directory, next, end } = watch(t, files, '.');
  t.match(await next(), { text: /^egress\.test\.yaml: 1 test of/ });
  mkdirSync(join(directory, 'more'));
  writeFileSync(join(directory, 'more/other.test.yaml'), FAILS.replace('egress.yaml', '../egress.yaml'));
  t.match(await next(), { text: /2 tests, 1 failed/, files: '3' });
  rmSync(join(directory, 'more'), { recursive: true });
  t.match(await next(), { text: /1 test, all passed/ });
  rmSync(join(directory, 'egress.test.yaml'));
  t.match(await next(), { text: /There is no file \*\.test\.yaml/, files: '0' });
  writeFileSync(join(directory, 'egress.test.yaml'), PASSES);
  t.match(await next(), { text: /1 test, all passed/ });
  rmSync(join(directory, 'egress.test.yaml'));
  await next();
  t.equal(await end(), 2);
});

t.test('what is wrong with the arguments ends it at once', async (t) => {
  for (const args of [['none'], ['--min-coverage', 'x'], ['--tap', '--json']]) {
    const { child } = watch(t, files, ...args);
    t.equal((await once(child, 'exit'))[0], 2, args.join(' '));
  }
});

t.test('one JSON document for each run', async (t) => {
  const { directory, next, end } = watch(t, files, '--json', 'egress.test.yaml');
  t.match(JSON.parse((await next()).text), { ok: true });
  writeFileSync(join(directory, 'egress.test.yaml'), FAILS);
  t.match(JSON.parse((await next()).text), { ok: false });
  t.equal(await end(), 1);
});
