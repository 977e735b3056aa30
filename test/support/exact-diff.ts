/** Holds the comparison of policies to `decide`, over random pairs of policies and random requests. */
import type { Test } from 'tap';
import { compilePolicy } from '../../src/policy/compile.ts';
import { changeText } from '../../src/policy-diff/compare-cell.ts';
import { comparePolicies } from '../../src/policy-diff/compare-policies.ts';
import type { DiffClass } from '../../src/policy-diff/diff-class.ts';
import { makeSides } from '../../src/policy-diff/judge-request.ts';
import { NO_BOUND, runSteps } from '../../src/policy-diff/work.ts';
import { isInClass, observe, type Sides } from './in-class.ts';
import { changePolicy, randomPolicy, randomRequest, randomResolved, START } from './random-policies.ts';
import { seeded } from './random.ts';

const ASKS = 25;
/** Where a class is about every address, some of each kind: one of them has to be decided as it says. */
const ADDRESSES = ['8.8.8.8', '10.8.1.4', '192.168.3.4', '169.254.0.1', '11.0.0.1', '2001:db8::1', 'fd00::1'];

/** @param from the seed of the first pair; a failure names its own: ECO_DIFF_SEED=… ECO_DIFF_PAIRS=1 is that pair again */
export function proveExact(t: Test, from: number, pairs: number): void {
  const counts = { classes: 0, equal: 0, asked: 0, different: 0 };
  for (let seed = from; seed < from + pairs; seed += 1) {
    const random = seeded(seed);
    const before = randomPolicy(random);
    const after = random() < 0.1 ? randomPolicy(random) : changePolicy(random, before);
    const fail = (what: string, more: unknown): never => {
      throw new Error(`seed ${seed}: ${what}\n${JSON.stringify({ before, after, more }, (_, value: unknown) => (typeof value === 'bigint' ? String(value) : value))}`);
    };
    const policies = [compilePolicy(before), compilePolicy(after)] as const;
    const { classes } = runSteps(comparePolicies(...policies, START, NO_BOUND));
    const sides = makeSides(...policies);
    for (const one of classes) checkWitness(sides, one, fail);
    counts.classes += classes.length;
    if (classes.length === 0) counts.equal += 1;
    for (let ask = 0; ask < ASKS; ask += 1) {
      const request = randomRequest(random);
      const resolved = randomResolved(random);
      const seen = observe(sides, request, resolved);
      const found = classes.filter((one) => isInClass(sides, one, request, resolved));
      if (found.length !== (seen === null ? 0 : 1)) fail(seen === null ? 'a request that nothing changes for is in a class' : `a request that is decided differently is in ${found.length} classes`, { request, resolved, seen, found });
      const [one] = found;
      if (one !== undefined && changeText(one) !== seen) fail('a class tells another change than there is', { request, resolved, seen, one });
      counts.asked += 1;
      if (seen !== null) counts.different += 1;
    }
  }
  t.comment(JSON.stringify(counts));
  t.ok(pairs < 1000 || (counts.different > pairs && counts.equal > pairs / 20), 'pairs of both kinds occur', { counts });
}

function checkWitness(sides: Sides, one: DiffClass, fail: (what: string, more: unknown) => never): void {
  const addresses = one.resolved === null ? ADDRESSES : [one.resolved.witness];
  const seen = addresses.map((address) => observe(sides, one.witness, address));
  if (!seen.includes(changeText(one))) fail('a witness is not decided as its class says', { one, seen });
  if (!isInClass(sides, one, one.witness, addresses[0] ?? '')) fail('a witness is not in its class', one);
}
