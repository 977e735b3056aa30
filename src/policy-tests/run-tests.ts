/** Runs the tests of a policy through `explain`, which uses the code that decides on requests. */
import type { Config } from '../config/config.ts';
import type { Complain } from '../config/finding.ts';
import type { ExplainAnswer } from '../explain/answer.ts';
import type { ExplainRequest } from '../explain/explainer.ts';
import type { PolicyTest, PolicyTests } from './read-tests.ts';

/** A difference from the expectation. */
interface Mismatch {
  readonly what: 'verdict' | 'code' | 'client' | 'destination' | 'rule';
  readonly expected: string;
  readonly actual: string;
}

/** The result of one test. */
export interface TestResult {
  readonly test: PolicyTest;
  /** Empty: it has passed. */
  readonly differences: readonly Mismatch[];
  readonly answer: ExplainAnswer;
}

/** As `Explainer.explain`: a sentence if the question is invalid. */
export type Explain = (request: ExplainRequest) => Promise<ExplainAnswer | string>;

/**
 * One after the other, in their order.
 * @param complain called for each test whose request or client is invalid; such a test has no result
 */
export async function runPolicyTests({ tests }: PolicyTests, explain: Explain, complain: Complain): Promise<TestResult[]> {
  const results: TestResult[] = [];
  for (const [index, test] of tests.entries()) {
    const answer = await explain({ ...test.request, propose: false });
    if (typeof answer === 'string') complain(['tests', index, 'request'], answer, '');
    else results.push({ test, answer, differences: compare(test, answer) });
  }
  return results;
}

function compare({ expected }: PolicyTest, answer: ExplainAnswer): Mismatch[] {
  const differences: Mismatch[] = [];
  const check = (what: Mismatch['what'], wanted: string | null, actual: string | null): void => {
    if (wanted !== null && wanted !== actual) differences.push({ what, expected: wanted, actual: actual ?? 'none' });
  };
  check('verdict', expected.verdict, answer.verdict);
  check('code', expected.code, answer.code);
  check('client', expected.as, answer.client);
  check('destination', expected.destination, answer.destination);
  check('rule', expected.rule === null ? null : `rules[${expected.rule}]`, answer.rule);
  return differences;
}

/** Parts of a policy that a test can cover. */
export type CoveredKind = 'rule' | 'client' | 'destination' | 'host';

/** How much of a policy is covered by tests, and what is not. */
export interface Coverage {
  readonly total: number;
  readonly touched: number;
  /** In the order of the file. */
  readonly untouched: readonly { readonly kind: CoveredKind; readonly name: string }[];
}

/** A part is covered by a request for which it was found, with any result; a rule only by one that it permits. */
export function measureCoverage(
  { rules, clients, destinations }: Pick<Config, 'rules' | 'clients' | 'destinations'>,
  results: readonly TestResult[],
): Coverage {
  const parts: { kind: CoveredKind; name: string; touched: boolean }[] = [];
  const answers = results.map(({ answer }) => answer);
  const seen = (pick: (answer: ExplainAnswer) => string | null): Set<string | null> => new Set(answers.map(pick));
  const [seenRules, seenClients, seenDestinations] = [
    seen(({ rule }) => rule),
    seen(({ client }) => client),
    seen(({ destination }) => destination),
  ];
  const seenHosts = new Set(
    answers.flatMap((answer) => answer.destinations.filter(({ chosen }) => chosen).map(({ name, pattern }) => `${name} ${pattern}`)),
  );
  for (const { name } of clients) parts.push({ kind: 'client', name, touched: seenClients.has(name) });
  for (const { name, hosts } of destinations) {
    parts.push({ kind: 'destination', name, touched: seenDestinations.has(name) });
    for (const host of hosts) parts.push({ kind: 'host', name: `${host} of ${name}`, touched: seenHosts.has(`${name} ${host}`) });
  }
  for (const index of rules.keys()) parts.push({ kind: 'rule', name: `rules[${index}]`, touched: seenRules.has(`rules[${index}]`) });
  return {
    total: parts.length,
    touched: parts.filter(({ touched }) => touched).length,
    untouched: parts.filter(({ touched }) => !touched).map(({ kind, name }) => ({ kind, name })),
  };
}
