/** Which parent is asked first, by an injected clock. */
import t from 'tap';
import type { HopConfig } from '../../src/config/config.ts';
import { CoolDowns } from '../../src/dial/cool-downs.ts';
import { makeHop, parentAt } from '../support/way.ts';

const PARENTS = [parentAt(1), parentAt(2), parentAt(3)] as const;
const [ONE, TWO, THREE] = PARENTS;

function open() {
  const clock = { now: 0 };
  const told: string[] = [];
  const coolDowns = new CoolDowns({
    now: () => clock.now,
    onFailed: ({ name }, parent, reason) => told.push(`${name} failed: ${parent}: ${reason}`),
    onBack: ({ name }, parent) => told.push(`${name} back: ${parent}`),
  });
  const order = (hop: HopConfig): number[] => coolDowns.order(hop).map(({ port }) => port);
  return { coolDowns, clock, told, order };
}

const hop = makeHop('edge', PARENTS);

t.test('those that failed come last until their time is over, and each in order', async (t) => {
  const { coolDowns, clock, order } = open();
  t.strictSame(order(hop), [1, 2, 3]);
  coolDowns.failed(hop, ONE, 'x');
  t.strictSame(order(hop), [2, 3, 1]);
  clock.now = 10_000;
  coolDowns.failed(hop, THREE, 'x');
  t.strictSame(order(hop), [2, 1, 3]);
  coolDowns.failed(hop, TWO, 'x');
  t.strictSame(order(hop), [1, 2, 3], 'all of them: in order again');
  clock.now = 29_999;
  t.strictSame(order(hop), [1, 2, 3]);
  clock.now = 30_000;
  t.strictSame(order(hop), [1, 2, 3]);
  coolDowns.failed(hop, ONE, 'x');
  t.strictSame(order(hop), [1, 2, 3]);
  clock.now = 40_000;
  t.strictSame(order(hop), [2, 3, 1], 'failed again, passed over again');
  clock.now = 60_000;
  t.strictSame(order(hop), [1, 2, 3]);
});

t.test('reported once when it fails, and once when it is back', async (t) => {
  const { coolDowns, clock, told } = open();
  coolDowns.worked(hop, ONE);
  coolDowns.failed(hop, ONE, 'refused');
  coolDowns.failed(hop, ONE, 'refused');
  coolDowns.worked(hop, ONE);
  t.strictSame(told, ['edge failed: hop edge (parent.test:1): refused'], 'it works for some: not back yet');
  clock.now = 29_999;
  coolDowns.failed(hop, ONE, 'refused');
  clock.now = 30_000;
  coolDowns.worked(hop, ONE);
  t.equal(told.length, 1, 'its time began anew');
  clock.now = 59_999;
  coolDowns.worked(hop, ONE);
  coolDowns.worked(hop, TWO);
  coolDowns.worked(hop, ONE);
  t.strictSame(told.slice(1), ['edge back: hop edge (parent.test:1)']);
});

t.test('a reload: unchanged hops stay as they are, changed ones begin anew', async (t) => {
  const { coolDowns, told, order } = open();
  coolDowns.failed(hop, ONE, 'x');
  const same = makeHop('edge', PARENTS);
  t.strictSame(order(same), [2, 3, 1]);
  coolDowns.failed(same, ONE, 'x');
  t.equal(told.length, 1);
  const changed = makeHop('edge', PARENTS, { credentials: { kind: 'bearer', token: 'new' } });
  t.strictSame(order(changed), [1, 2, 3]);
  const other = makeHop('other', PARENTS);
  t.strictSame(order(other), [1, 2, 3], 'a hop of another name');
});

t.test('without a cool-down nothing is skipped, and nothing reported', async (t) => {
  const { coolDowns, told, order } = open();
  const never = makeHop('edge', PARENTS, { coolDown: 0 });
  coolDowns.failed(never, ONE, 'x');
  coolDowns.worked(never, ONE);
  t.strictSame(order(never), [1, 2, 3]);
  t.strictSame(told, []);
});
