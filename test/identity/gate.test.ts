/** How much is verified at once, and who is turned away. */
import t from 'tap';
import { Gate, type GateLimits } from '../../src/identity/gate.ts';
import { createClock } from '../support/issuer.ts';

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
const never = (): boolean => false;
const always = (): boolean => true;

function createGate(limits: Partial<GateLimits> = {}) {
  const clock = createClock();
  return { clock, gate: new Gate({ running: 2, suspects: 1, waiting: 3, perAddress: 99, failures: 5, forgiveAfter: 1_000, now: clock.now, ...limits }) };
}

/** Has an address fail so often. */
async function fail(gate: Gate, address: string, times = 1): Promise<void> {
  for (let i = 0; i < times; i += 1) await gate.run(address, () => Promise.resolve(), always);
}

t.test('so many run, so many wait, no more', async (t) => {
  const { gate } = createGate();
  const { task, begun, running } = createTasks();
  const all = Array.from({ length: 5 }, (_, i) => gate.run(`10.0.0.${i}`, task, never));
  t.throws(() => gate.run('10.0.1.0', task, never), { code: 'limit-reached', retryAfter: 1 });
  t.equal(gate.size, 5);
  await turn();
  for (let ended = 0; ended < 5; ended += 1) {
    t.equal(running(), Math.min(2, 5 - ended));
    begun[ended]?.();
    await turn();
  }
  await Promise.all(all);
  t.equal(gate.size, 0);
  const again = gate.run('10.0.0.2', task, never);
  await turn();
  begun[5]?.();
  await again;
});

t.test('one address has its share, and takes turns with the others', async (t) => {
  const { gate } = createGate({ running: 1, waiting: 10, perAddress: 4 });
  const { task, begun } = createTasks();
  const order: string[] = [];
  const run = (name: string): Promise<void> => gate.run(name.slice(0, -1), () => (order.push(name), task()), never);
  const all = ['a1', 'a2', 'a3', 'a4'].map(run);
  t.throws(() => gate.run('a', task, never), { code: 'limit-reached' });
  all.push(...['b1', 'b2', 'c1'].map(run));
  for (let i = 0; i < 7; i += 1) {
    await turn();
    begun[i]?.();
  }
  await Promise.all(all);
  t.strictSame(order, ['a1', 'b1', 'c1', 'a2', 'b2', 'a3', 'a4']);
  t.equal(gate.size, 0);
});

t.test('who has failed comes last, and leaves a place to the others', async (t) => {
  const { gate } = createGate({ waiting: 10 });
  const { task, begun, running } = createTasks();
  await fail(gate, 'bad', 2);
  await fail(gate, 'worse', 3);
  const order: string[] = [];
  const run = (name: string): Promise<void> => gate.run(name, () => (order.push(name), task()), never);
  const all = ['worse', 'worse', 'bad', 'bad'].map(run);
  await turn();
  t.equal(running(), 1, 'one of two places');
  all.push(...['good', 'new', 'bad'].map(run));
  await turn();
  t.equal(running(), 2, 'the other is for who has not failed, at once');
  for (let i = 0; i < 7; i += 1) {
    begun[i]?.();
    await turn();
  }
  await Promise.all(all);
  t.strictSame(order, ['worse', 'good', 'new', 'bad', 'bad', 'bad', 'worse']);
});

t.test('too many failures: refused until they have expired, and only that address', async (t) => {
  const { gate, clock } = createGate();
  await fail(gate, '10.0.0.1', 5);
  t.throws(() => gate.run('10.0.0.1', () => Promise.resolve(), never), { code: 'limit-reached', retryAfter: 1, message: /5 credentials from 10\.0\.0\.1 were wrong/ });
  await gate.run('10.0.0.2', () => Promise.resolve(), never);
  clock.pass(1);
  await fail(gate, '10.0.0.1');
  t.throws(() => gate.run('10.0.0.1', () => Promise.resolve(), never), { code: 'limit-reached' });
  clock.pass(999);
  t.throws(() => gate.run('10.0.0.1', () => Promise.resolve(), never), { code: 'limit-reached' });
  clock.pass(1);
  t.equal(gate.debt('10.0.0.1') < 5, true);
  await gate.run('10.0.0.1', () => Promise.resolve(), never);
  clock.pass(10_000);
  t.equal(gate.debt('10.0.0.1'), 0);
});

t.test('where no more may wait, the one with most failures gives way, then the longest queue', async (t) => {
  const { gate } = createGate({ running: 1, waiting: 3 });
  const { task, begun } = createTasks();
  await fail(gate, 'bad');
  const first = gate.run('first', task, never);
  const bad = gate.run('bad', task, never);
  const mine = [gate.run('mine', task, never), gate.run('mine', task, never)];
  const other = gate.run('other', task, never);
  await t.rejects(bad, { code: 'limit-reached' }, 'the guesser');
  const another = gate.run('another', task, never);
  await t.rejects(mine[1] ?? first, { code: 'limit-reached' }, 'the last of two');
  t.throws(() => gate.run('one-more', task, never), { code: 'limit-reached' }, 'all have one');
  t.throws(() => gate.run('bad', task, never), { code: 'limit-reached' }, 'nor does a guesser push anybody out');
  t.equal(gate.size, 4);
  for (let i = 0; i < 4; i += 1) {
    await turn();
    begun[i]?.();
  }
  await Promise.all([first, mine[0], other, another]);
  t.equal(gate.size, 0);
});

t.test('a task that fails gives its place back', async (t) => {
  const { gate } = createGate({ running: 1, waiting: 1, perAddress: 1 });
  for (let i = 0; i < 3; i += 1) await t.rejects(gate.run('10.0.0.1', () => Promise.reject(new Error('no')), never), /no/);
  for (let i = 0; i < 3; i += 1) {
    await t.rejects(gate.run('10.0.0.1', () => {
      throw new Error('at once');
    }, never), /at once/);
  }
  t.equal(gate.size, 0);
  t.equal(await gate.run('10.0.0.1', () => Promise.resolve(7), never), 7);
});
