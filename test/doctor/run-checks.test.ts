/** The order in which checks run, what --only shows, and what becomes of one that throws. */
import t from 'tap';
import { type Check, fail, type DoctorFinding, ok, runChecks } from '../../src/doctor/finding.ts';
import { takeTurns } from '../../src/turns.ts';
import { Fault } from '../../src/errors.ts';

type Log = string[];

const check = (name: string, needs: string[], findings: () => DoctorFinding[]): Check<Log> => ({
  name,
  title: name.toUpperCase(),
  needs,
  run: async (log) => {
    await Promise.resolve();
    log.push(name);
    return findings();
  },
});

const CHECKS = [
  check('a', [], () => [ok('x', 'seen')]),
  check('b', ['a'], () => [fail('y', 'loop', 'seen', null), ok('z', 'seen')]),
  check('c', ['b'], () => {
    throw new Fault('unreachable', 'thrown', { remedy: 'fix it' });
  }),
  check('d', [], () => []),
];

t.test('each after those it needs, shown in the order of the table; nothing found, nothing shown', async (t) => {
  const log: Log = [];
  const results = await runChecks(CHECKS, log, []);
  t.ok(log.indexOf('a') < log.indexOf('b') && log.indexOf('b') < log.indexOf('c'));
  t.equal(log.length, 4, 'each once');
  t.strictSame(results.map(({ name }) => name), ['a', 'b', 'c']);
  t.strictSame(results[2]?.findings, [{ state: 'fail', subject: '', code: 'unreachable', seen: 'thrown', advice: 'fix it' }]);
});

t.test('only some: what they need runs, and shows only what is broken', async (t) => {
  const log: Log = [];
  const results = await runChecks(CHECKS, log, ['c']);
  t.strictSame(log, ['a', 'b', 'c']);
  t.strictSame(results.map(({ name, findings }) => [name, findings.length]), [['b', 1], ['c', 1]]);
  await t.rejects(runChecks(CHECKS, log, ['nothing']), /there is no check nothing/);
});

t.test('so many at once, in the order in which they came, failures included', async (t) => {
  const turns = takeTurns(2);
  let running = 0;
  let most = 0;
  const order: number[] = [];
  const outcomes = await Promise.allSettled(
    Array.from({ length: 7 }, (_, index) =>
      turns(async () => {
        running += 1;
        most = Math.max(most, running);
        order.push(index);
        await Promise.resolve();
        running -= 1;
        if (index === 3) throw new Error('one fails');
        return index;
      }),
    ),
  );
  t.equal(most, 2);
  t.strictSame(order, [0, 1, 2, 3, 4, 5, 6]);
  t.strictSame(outcomes.map(({ status }) => status).filter((status) => status === 'rejected').length, 1);
});
