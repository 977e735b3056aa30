/** The work of a comparison, counted: it grows with what differs, not with the product of the files. bench/policy-diff.ts has the time. */
import t from 'tap';
import { comparePolicyConfigs } from '../../src/policy-diff/compare-policies.ts';
import { BoundedMeter } from '../../src/policy-diff/work.ts';
import type { PolicyConfig } from '../../src/policy/compile.ts';
import { makeClient, makeDestination, makeRule } from '../support/policy.ts';

function policyOf(count: number, clients: number, ports: (index: number) => readonly number[]): PolicyConfig {
  const indexes = Array.from({ length: count }, (_, index) => index);
  return {
    mode: 'enforce',
    clients: Array.from({ length: clients }, (_, index) => makeClient(`c${index}`, { addresses: [`10.${index >> 8}.${index & 255}.0/24`] })),
    destinations: indexes.map((index) => makeDestination(`d${index}`, [`d${index}.example`, `*.d${index}.example`], { ports: ports(index) })),
    rules: indexes.map((index) => makeRule([`c${index % clients}`], [`d${index}`])),
  };
}

function stepsOf(before: PolicyConfig, after: PolicyConfig): { readonly steps: number; readonly classes: number } {
  const meter = new BoundedMeter(Infinity);
  const { classes } = comparePolicyConfigs(before, after, 0, meter);
  return { steps: meter.spent, classes: classes.length };
}

const https = (): readonly number[] => [443];

t.test('a thousand destinations against a thousand', async (t) => {
  const plain = policyOf(1000, 1, https);
  const same = stepsOf(plain, plain);
  t.equal(same.classes, 0);
  t.ok(same.steps < 40_000, `${same.steps} steps where nothing has changed`);
  const one = stepsOf(plain, policyOf(1000, 1, (index) => (index === 7 ? [443, 8443] : [443])));
  t.equal(one.classes, 1);
  t.ok(one.steps - same.steps < 1000, `${one.steps - same.steps} more for one port`);
  const all = stepsOf(plain, policyOf(1000, 1, () => [443, 8443]));
  t.equal(all.classes, 1000);
  t.ok(all.steps < 200_000, `${all.steps} where every destination has`);
});

t.test('ten times as many destinations take some ten times as many steps', async (t) => {
  const steps = [100, 1000].map((count) => stepsOf(policyOf(count, 10, https), policyOf(count, 10, () => [443, 8443])).steps);
  const [few = 0, many = 0] = steps;
  t.ok(many < 15 * few, `${few} and ${many}`);
});

t.test('clients with certificates and ranges: not each name with each other, in files that have them in the same order', async (t) => {
  const policy = (count: number, destinations: number): PolicyConfig => ({
    ...policyOf(destinations, 1, https),
    clients: Array.from({ length: count }, (_, index) => makeClient(`c${index}`, { addresses: [`10.${index >> 8}.${index & 255}.0/24`], certificates: [`DNS:c${index}.example`] })),
  });
  const [few = 0, many = 0] = [30, 300].map((count) => stepsOf(policy(count, 1), policy(count, 2)).steps);
  t.ok(many < 15 * few, `${few} and ${many}`);
});

t.test('users and certificates in another order: not each user with each two certificates', async (t) => {
  const policy = (count: number, reversed: boolean): PolicyConfig => {
    const clients = Array.from({ length: count }, (_, index) => [makeClient(`u${index}`, { basic: [{ user: `u${index}`, hash: '' }] }), makeClient(`c${index}`, { certificates: [`DNS:c${index}.example`] })]).flat();
    return { ...policyOf(1, 1, https), clients: reversed ? clients.reverse() : clients, rules: [makeRule(clients.map(({ name }) => name), ['d0'])] };
  };
  const [few = 0, many = 0] = [15, 45].map((count) => stepsOf(policy(count, false), policy(count, true)).steps);
  t.ok(many < 12 * few, `${few} and ${many}`);
});

t.test('a bound holds', async (t) => {
  t.throws(() => comparePolicyConfigs(policyOf(100, 1, https), policyOf(100, 1, () => [80]), 0, new BoundedMeter(500)), { message: 'more than 500 steps' });
});
