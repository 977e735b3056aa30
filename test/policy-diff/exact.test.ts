/**
 * The comparison is exact: over random pairs of policies every witness is
 * decided differently, in the way that its class says, and every random request
 * that is decided differently is in exactly one class, every other in none.
 */
import t from 'tap';
import { compilePolicy } from '../../src/policy/compile.ts';
import { changeText } from '../../src/policy-diff/compare-cell.ts';
import { comparePolicies } from '../../src/policy-diff/compare-policies.ts';
import { makeSide, nameRules } from '../../src/policy-diff/judge-request.ts';
import { NO_BOUND, runSteps } from '../../src/policy-diff/work.ts';
import { isInClass, observe, type Sides } from '../support/in-class.ts';
import { changePolicy, randomPolicy, randomRequest, randomResolved, START } from '../support/random-policies.ts';
import { seeded } from '../support/random.ts';

const PAIRS = Number(process.env['ECO_DIFF_PAIRS'] ?? 20_000);
const SEED = Number(process.env['ECO_DIFF_SEED'] ?? 1);
const ASKS = 25;

t.test(`${PAIRS} pairs of policies`, async (t) => {
  const counts = { classes: 0, equal: 0, asked: 0, different: 0 };
  for (let pair = 0; pair < PAIRS; pair += 1) {
    const seed = SEED * 1_000_003 + pair;
    const random = seeded(seed);
    const before = randomPolicy(random);
    const after = random() < 0.1 ? randomPolicy(random) : changePolicy(random, before);
    const policies = [compilePolicy(before), compilePolicy(after)] as const;
    const { classes } = runSteps(comparePolicies(...policies, START, NO_BOUND));
    const names = nameRules(before.rules, after.rules);
    const sides: Sides = [makeSide(policies[0], names[0]), makeSide(policies[1], names[1])];
    const fail = (what: string, more: unknown): never => {
      t.fail(`${what}, ECO_DIFF_SEED=${seed / 1_000_003}`, { seed, before, after, more });
      throw new Error(`${what}: seed ${seed}\n${JSON.stringify({ before, after, more }, (_, value: unknown) => (typeof value === 'bigint' ? String(value) : value))}`);
    };
    for (const one of classes) {
      const resolved = one.resolved?.witness ?? '8.8.8.8';
      const seen = one.resolved === null ? [randomResolved(random), '8.8.8.8', '10.8.1.4', '192.168.3.4', '169.254.0.1', '11.0.0.1'].map((address) => observe(sides, one.witness, address)) : [observe(sides, one.witness, resolved)];
      if (!seen.includes(changeText(one))) fail('a witness is not decided as its class says', { one, seen });
      if (!isInClass(sides, one, one.witness, resolved)) fail('a witness is not in its class', one);
    }
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
  t.ok(counts.different > PAIRS / 2 && counts.equal > PAIRS / 20, 'both kinds of pairs occur', { counts });
});
