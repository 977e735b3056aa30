/** `schema`, as a process: the names, one schema, and a name that there is not. */
import t from 'tap';
import { readFileSync } from 'node:fs';
import { eco } from '../support/eco.ts';

const text = (name: string): string => readFileSync(new URL(`../../schemas/${name}.json`, import.meta.url), 'utf8');

t.test('all names, each with what it is of', async (t) => {
  const { code, out, err } = await eco(['schema']);
  t.match([code, err], [0, '']);
  t.strictSame(out.trimEnd().split('\n').map((line) => line.split(/ {2,}/)[0]), ['check.v1', 'config-in-force.v1', 'config.v1', 'denials.v1', 'destinations.v1', 'diff.v1', 'doctor.v1', 'drain.v1', 'explain.v1', 'incident.v1', 'log-line.v1', 'policy-tests.v1', 'problem.v1', 'reload.v1', 'source-ip.v1', 'status.v1', 'suggest.v1', 'test.v1', 'tunnels.v1', 'verify-ip.v1']);
  t.match(out, /^config\.v1 {11}The configuration of eco-egress$/m);
});

t.test('one of them, from wherever it is asked', async (t) => {
  const cwd = t.testdir();
  t.strictSame(await eco(['schema', 'config'], { cwd }), { code: 0, err: '', out: text('config.v1') });
  t.strictSame(await eco(['schema', 'log-line.v1'], { cwd }), { code: 0, err: '', out: text('log-line.v1') });
});

t.test('none of that name', async (t) => {
  t.strictSame(await eco(['schema', 'confg']), { code: 2, out: '', err: 'There is no schema "confg". Did you mean config?\n' });
  for (const name of ['config.v2', '../package', 'config.v1.json']) t.match(await eco(['schema', name]), { code: 2, out: '', err: /^There is no schema / }, name);
});
