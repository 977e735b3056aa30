/** What becomes of a mutant, tried with a small project that has one guard. */
import t, { type Test } from 'tap';
import { readFileSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Copy, judge, type Outcome } from './copy.ts';
import { type Mutant, mutate } from './mutant.ts';

const SOURCE = 'export function isAllowed(port: number): boolean {\n  return port === 443;\n}\n';
const GUARD: Mutant = { name: 'any-port', file: 'src/guard.ts', text: 'port === 443', becomes: 'port > 0', tests: [] };

const testing = (body: string): string => `import t from 'tap';\nimport { isAllowed } from '../src/guard.ts';\n${body}\n`;

/** Not that of a zombie: nothing runs in it any more. */
function isRunning(pid: number): boolean {
  try {
    return !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

/** Runs one of the tests of the project, with a mutant or without. */
function openProject(t: Test): { root: string; directory: string; run: (test: string, mutant: Partial<Mutant> | null) => Promise<Outcome> } {
  const base = t.testdir({
    project: {
      src: { 'guard.ts': SOURCE },
      test: {
        'notices.test.ts': testing("t.test('no other port', async (t) => { t.ok(isAllowed(443)); t.notOk(isAllowed(80), 'port 80'); });"),
        'sleeps.test.ts': testing("t.test('the port', async (t) => { t.ok(isAllowed(443)); });"),
        'leaves.test.ts': testing("import { appendFileSync } from 'node:fs';\nappendFileSync('src/guard.ts', '// spoilt');\nappendFileSync('test/leaves.test.ts', '// spoilt');\nt.ok(isAllowed(443));"),
        'talks.test.ts': testing("for (let i = 0; i < 5000; i += 1) t.pass(`assertion ${i}`);\nt.fail('the last word');"),
        'starts.test.ts': testing("import { spawn } from 'node:child_process';\nimport { writeFileSync } from 'node:fs';\nconst child = spawn('sleep', ['600'], { stdio: 'inherit' });\nwriteFileSync('started', String(child.pid));\nt.notOk(isAllowed(80), 'port 80');\nprocess.exit(1);"),
      },
    },
  });
  const root = join(base, 'project');
  symlinkSync(join(import.meta.dirname, '../../node_modules'), join(root, 'node_modules'));
  const directory = join(base, 'copy');
  const copy = new Copy(root, directory);
  return { root, directory, run: (test, mutant) => copy.run(`test/${test}.test.ts`, mutant === null ? null : { ...GUARD, ...mutant }) };
}

t.test('a test that notices kills, and one that does not lets live', async (t) => {
  const { run } = openProject(t);
  t.match(await run('notices', null), { result: 'passed' });
  t.match(await run('notices', {}), { result: 'failed', title: 'port 80' });
  t.match(await run('sleeps', {}), { result: 'passed' });
  t.match(await run('notices', null), { result: 'passed' }, 'the source is what it was');
});

t.test('a mutant that is no program proves nothing', async (t) => {
  const { run } = openProject(t);
  t.match(await run('notices', { becomes: 'port === (443' }), { result: 'broken' });
  t.match(await run('notices', { becomes: 'ports === 443' }), { result: 'broken' });
  t.match(await run('notices', { text: 'isAllowed', becomes: 'isPermitted' }), { result: 'broken' });
});

t.test('nothing that a test writes reaches the project', async (t) => {
  const { root, run } = openProject(t);
  t.match(await run('leaves', null), { result: 'passed' });
  t.equal(readFileSync(join(root, 'src/guard.ts'), 'utf8'), SOURCE);
  t.notMatch(readFileSync(join(root, 'test/leaves.test.ts'), 'utf8'), /^\/\/ spoilt/m);
});

t.test('what a test has started ends with it', async (t) => {
  const { directory, run } = openProject(t);
  t.match(await run('starts', {}), { result: 'failed', title: 'port 80' });
  const pid = Number(readFileSync(join(directory, 'started'), 'utf8'));
  // A process that was killed is there until its parent, or whoever takes it over, has heard of it.
  while (isRunning(pid)) await delay(10);
  t.pass('it is gone');
});

t.test('all that it wrote is read, however much', async (t) => {
  const { run } = openProject(t);
  t.match(await run('talks', null), { result: 'failed', title: 'the last word' });
});

t.test('a stale mutant is an error that says what is missing', async (t) => {
  const { run } = openProject(t);
  const stale: [Partial<Mutant>, RegExp][] = [
    [{ text: 'port === 80' }, /^mutant any-port is stale: src\/guard\.ts has its text 0 times, and must have it once:\nport === 80$/],
    [{ text: 'port' }, /has its text 3 times/],
    [{ text: '' }, /has its text 0 times/],
    [{ becomes: 'port === 443' }, /^mutant any-port changes nothing$/],
  ];
  for (const [mutant, message] of stale) await t.rejects(run('notices', mutant), { name: 'StaleMutant', message });
  t.equal(mutate('a', { ...GUARD, text: 'a', becomes: '$&$1' }), '$&$1', 'what is put in is put in as it is');
  t.equal(mutate('f(\n  a &&\n    b,\n);', { ...GUARD, text: 'f(a && b)', becomes: 'f(a)' }), 'f(a);', 'its layout does not matter');
});

t.test('how a test ended', async (t) => {
  const table: [code: number | null, output: string, errors: string, result: string, title: string][] = [
    [0, 'ok 1 - a\n', '', 'passed', ''],
    [1, '    not ok 2 - should be equal\n', '', 'failed', 'should be equal'],
    [1, 'not ok 1 - a # time=3.2ms {\n', '', 'failed', 'a'],
    [1, 'not ok\n', '', 'failed', ''],
    [1, 'not ok 1 - later # TODO\nok 2 - a\n', 'out of memory\n', 'broken', 'out of memory'],
    [1, '    not ok 1 - timeout!\nnot ok 1 - a\n', '', 'timeout', 'timeout!'],
    [1, '# says: not ok 1 - a\n', '', 'broken', '# says: not ok 1 - a'],
    [null, 'ok 1 - a\n', '', 'broken', 'ok 1 - a'],
    [1, 'not ok 1 - port is not defined\n', '', 'broken', 'port is not defined'],
  ];
  for (const [code, output, errors, result, title] of table) t.strictSame(judge(code, output, errors), { result, title }, output);
});
