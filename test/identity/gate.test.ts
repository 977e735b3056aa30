/** How much is verified at once, and who is turned away. */
import t from 'tap';
import { Fault } from '../../src/errors.ts';
import { Gate } from '../../src/identity/gate.ts';

/** Tasks that end when they are told to. */
function createTasks() {
  const begun: (() => void)[] = [];
  let running = 0;
  return {
    task: () => {
      running += 1;
      const { promise, resolve } = Promise.withResolvers<undefined>();
      begun.push(() => {
        running -= 1;
        resolve(undefined);
      });
      return promise;
    },
    begun,
    running: () => running,
  };
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

t.test('so many run, so many wait, no more', async (t) => {
  const gate = new Gate({ running: 2, waiting: 3, perAddress: 99 });
  const { task, begun, running } = createTasks();
  const all = Array.from({ length: 5 }, () => gate.run('10.0.0.1', task));
  t.throws(() => gate.run('10.0.0.2', task), { code: 'limit-reached', retryAfter: 1 });
  t.equal(gate.size, 5);
  await turn();
  for (let ended = 0; ended < 5; ended += 1) {
    t.equal(running(), Math.min(2, 5 - ended));
    begun[ended]?.();
    await turn();
  }
  await Promise.all(all);
  t.equal(gate.size, 0);
  const again = gate.run('10.0.0.2', task);
  await turn();
  begun[5]?.();
  await again;
});

t.test('one address has its share, others still come in', async (t) => {
  const gate = new Gate({ running: 1, waiting: 10, perAddress: 2 });
  const { task, begun } = createTasks();
  const first = gate.run('10.0.0.1', task);
  const second = gate.run('10.0.0.1', task);
  t.throws(() => gate.run('10.0.0.1', task), Fault);
  const other = gate.run('10.0.0.2', task);
  await turn();
  begun[0]?.();
  await first;
  const third = gate.run('10.0.0.1', task);
  for (let i = 1; i < 4; i += 1) {
    await turn();
    begun[i]?.();
  }
  await Promise.all([second, other, third]);
  t.equal(gate.size, 0);
});

t.test('a task that fails gives its place back', async (t) => {
  const gate = new Gate({ running: 1, waiting: 1, perAddress: 1 });
  for (let i = 0; i < 3; i += 1) await t.rejects(gate.run('10.0.0.1', () => Promise.reject(new Error('no'))), /no/);
  for (let i = 0; i < 3; i += 1) {
    await t.rejects(gate.run('10.0.0.1', () => {
      throw new Error('at once');
    }), /at once/);
  }
  t.equal(gate.size, 0);
  t.equal(await gate.run('10.0.0.1', () => Promise.resolve(7)), 7);
});
