/** The programs for developers say what they take, and do nothing for what they do not know. */
import t from 'tap';
import { spawnSync } from 'node:child_process';
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from '../support/lock-file.ts';

const PROGRAMS = globSync('{test,bench,deploy}/**/*.ts', { cwd: ROOT, exclude: ['**/node_modules/**'] }).filter((file) => /^import .*\/command-line\.ts'/m.test(readFileSync(join(ROOT, file), 'utf8')));

t.test('an unknown option ends a program with 2 and its usage', async (t) => {
  t.ok(PROGRAMS.length >= 12, PROGRAMS.join(' '));
  for (const file of PROGRAMS) {
    const { status, stdout, stderr } = spawnSync(process.execPath, [file, '--nosuch'], { cwd: ROOT, encoding: 'utf8' });
    t.match({ status, stdout, stderr }, { status: 2, stdout: '', stderr: /^Unknown option '--nosuch'.*\n.*(?:npm run|bin\/node) \S+.*\n+ {2}(?:--)?\w+/ }, file);
  }
});

t.test('--help is the usage alone', async (t) => {
  for (const file of ['test/soak/main.ts']) {
    const { status, stdout, stderr } = spawnSync(process.execPath, [file, '--help'], { cwd: ROOT, encoding: 'utf8' });
    t.match({ status, stdout, stderr }, { status: 0, stdout: /^npm run \w+ -- \[/, stderr: '' }, file);
  }
});

t.test('a name that nothing has does not look like a run without findings', async (t) => {
  for (const [file, more] of [['test/fuzz/main.ts', 'hellos'], ['test/chaos/main.ts', 'partner-resets']] as const) {
    const { status, stderr } = spawnSync(process.execPath, [file, '--only', 'nosuch'], { cwd: ROOT, encoding: 'utf8' });
    t.match({ status, stderr }, { status: 2, stderr: new RegExp(`^--only nosuch: not found\\. There are .*${more}`) }, file);
  }
});

t.test('a number is one', async (t) => {
  for (const [file, option, value] of [['test/soak/main.ts', '--minutes', '0'], ['test/fuzz/main.ts', '--runs', '1e3']] as const) {
    const { status, stderr } = spawnSync(process.execPath, [file, `${option}=${value}`], { cwd: ROOT, encoding: 'utf8' });
    t.match({ status, stderr }, { status: 2, stderr: new RegExp(`^${option} ${value}: a (whole )?number of \\d+ or more\n`) }, `${file} ${option}`);
  }
});
