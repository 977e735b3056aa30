/** Report mode of the policy, of a destination and of a rule: what passes, as what, and what never does. */
import t from 'tap';
import { compilePolicy, type PolicyConfig } from '../../src/policy/compile.ts';
import { decide } from '../../src/policy/decide.ts';
import type { Ask } from '../../src/policy/verdict.ts';
import { makeAsk, makeClient, makeDestination, makePeer, makeRule } from '../support/policy.ts';

const ECO = 'eco-sit.telus.internal';
const config: PolicyConfig = {
  mode: 'enforce',
  clients: [
    makeClient('sit', { addresses: ['10.8.0.0/14'] }),
    makeClient('people', { addresses: ['10.20.0.0/16'], basic: [{ user: 'anna', hash: 'x' }] }),
    makeClient('idle', { addresses: ['10.30.0.0/16'] }),
  ],
  destinations: [
    makeDestination('eco', [ECO], { ports: [443], forms: ['connect', 'forward', 'gateway'], methods: ['GET'], paths: ['/api/*'] }),
    makeDestination('other', ['other.example']),
  ],
  rules: [makeRule(['sit'], ['eco'], { until: 1000 }), makeRule(['sit'], ['other'])],
};

/** `report CODE DESTINATION CLIENT RULE`, `deny CODE`, or `allow RULE`. */
function outcome(changes: Partial<PolicyConfig>, more: Partial<Ask>): string {
  const verdict = decide(compilePolicy({ ...config, ...changes }), makeAsk(more));
  if (verdict.verdict === 'deny') return `deny ${verdict.code}`;
  if (verdict.verdict === 'allow') return `allow ${verdict.rule}`;
  return `report ${verdict.would.code} ${verdict.destination?.name ?? 'none'} ${verdict.client?.name ?? 'nobody'} ${verdict.rule}`;
}

const reportRule: Partial<PolicyConfig> = { rules: config.rules.map((rule, index) => (index === 0 ? { ...rule, report: true } : rule)) };
const reportDestination: Partial<PolicyConfig> = { destinations: config.destinations.map((entry) => (entry.name === 'eco' ? { ...entry, report: true } : entry)) };
const forward: Partial<Ask> = { form: 'forward', method: 'GET', path: '/api/x' };

t.test('what each level lets pass', async (t) => {
  // What is asked; then as the policy, the destination and the rule are in report mode.
  const table: [more: Partial<Ask>, policy: string, destination: string, rule: string][] = [
    [{}, 'allow rules[0]', 'allow rules[0]', 'allow rules[0]'],
    [{ port: 22 }, 'report port-not-allowed eco sit rules[0]', 'report port-not-allowed eco sit rules[0]', 'report port-not-allowed eco sit rules[0]'],
    [{ form: 'host-routed', method: 'GET', path: '/' }, 'report form-not-allowed eco sit rules[0]', 'report form-not-allowed eco sit rules[0]', 'report form-not-allowed eco sit rules[0]'],
    [{ now: 1000 }, 'report rule-expired eco sit -', 'report rule-expired eco sit -', 'deny rule-expired'],
    [{ ...forward, method: 'PUT' }, 'report method-not-allowed eco sit rules[0]', 'report method-not-allowed eco sit rules[0]', 'report method-not-allowed eco sit rules[0]'],
    [{ ...forward, path: '/x' }, 'report path-not-allowed eco sit rules[0]', 'report path-not-allowed eco sit rules[0]', 'report path-not-allowed eco sit rules[0]'],
    [{ peer: makePeer('10.30.0.1') }, 'report no-rule eco idle -', 'report no-rule eco idle -', 'deny no-rule'],
    [{ peer: makePeer('192.0.2.1') }, 'report client-not-allowed eco nobody -', 'report client-not-allowed eco nobody -', 'deny client-not-allowed'],
    [{ peer: makePeer('10.20.0.1') }, 'report credentials-missing eco nobody -', 'report credentials-missing eco nobody -', 'deny credentials-missing'],
    [{ peer: makePeer('10.20.0.1', { rejected: 'no' }) }, 'report credentials-wrong eco nobody -', 'report credentials-wrong eco nobody -', 'deny credentials-wrong'],
    [{ host: 'evil.example' }, 'report host-not-allowed none sit -', 'deny host-not-allowed', 'deny host-not-allowed'],
    [{ host: 'evil.example', peer: makePeer('192.0.2.1') }, 'report client-not-allowed none nobody -', 'deny client-not-allowed', 'deny client-not-allowed'],
    [{ host: 'other.example', port: 22 }, 'report port-not-allowed other sit rules[1]', 'deny port-not-allowed', 'deny port-not-allowed'],
    [{ host: 'other.example', peer: makePeer('192.0.2.1') }, 'report client-not-allowed other nobody -', 'deny client-not-allowed', 'deny client-not-allowed'],
  ];
  for (const [more, policy, destination, rule] of table) {
    const title = JSON.stringify(more);
    t.equal(outcome({ mode: 'report' }, more), policy, `policy: ${title}`);
    t.equal(outcome(reportDestination, more), destination, `destination: ${title}`);
    t.equal(outcome(reportRule, more), rule, `rule: ${title}`);
    t.match(outcome({}, more), policy.startsWith('allow') ? /^allow/ : /^deny/, `enforced: ${title}`);
  }
});

t.test('a path with two readings never passes where paths are judged or rewritten', async (t) => {
  const table: [changes: Partial<PolicyConfig>, more: Partial<Ask>, expected: string][] = [
    [{ mode: 'report' }, { ...forward, path: '/api/../x' }, 'deny path-ambiguous'],
    [{ mode: 'report' }, { ...forward, path: '/api/../x', peer: makePeer('192.0.2.1') }, 'deny path-ambiguous'],
    [{ mode: 'report' }, { ...forward, path: '/api/../x', port: 22 }, 'deny path-ambiguous'],
    [reportDestination, { ...forward, path: '/api/../x', now: 1000 }, 'deny path-ambiguous'],
    [reportRule, { form: 'gateway', method: 'PUT', path: '/a%2fb', destination: 'eco' }, 'deny path-ambiguous'],
    [{ mode: 'report' }, { form: 'gateway', method: 'GET', path: '//x', host: 'other.example', peer: makePeer('192.0.2.1') }, 'deny path-ambiguous'],
    [{ mode: 'report', rules: [makeRule(['sit'], ['other'], { paths: ['/a'] })] }, { ...forward, host: 'other.example', path: '/a/../b', port: 22 }, 'deny path-ambiguous'],
    [{ mode: 'report' }, { ...forward, host: 'other.example', path: '/a/../b', port: 22 }, 'report port-not-allowed other sit rules[1]'],
    [{ mode: 'report' }, { ...forward, host: 'evil.example', path: '/a/../b' }, 'report host-not-allowed none sit -'],
  ];
  for (const [changes, more, expected] of table) t.equal(outcome(changes, more), expected, `${JSON.stringify(Object.keys(changes))} ${JSON.stringify(more)}`);
});

t.test('a rule is in report mode only while it is in effect', async (t) => {
  const policy = compilePolicy({ ...config, rules: [makeRule(['sit'], ['eco']), makeRule(['sit'], ['eco'], { from: 500, until: 1000, report: true }), makeRule(['sit'], ['eco'], { from: 2000, report: true })] });
  const table: [now: number, put: string, lenient: boolean][] = [
    [499, 'deny', false],
    [500, 'report until 1000', true],
    [999, 'report until 1000', true],
    [1000, 'deny', false],
    [1999, 'deny', false],
    [2000, 'report until Infinity', true],
  ];
  // Each moment twice, back and forth: verdicts are kept.
  for (const [now, put, lenient] of [...table, ...table.toReversed()]) {
    const denied = decide(policy, makeAsk({ ...forward, method: 'PUT', now }));
    t.equal(denied.verdict === 'report' ? `report until ${denied.until}` : denied.verdict, put, `PUT at ${now}`);
    t.match(decide(policy, makeAsk({ ...forward, now })), { verdict: 'allow', rule: 'rules[0]', lenient }, `GET at ${now}`);
  }
  for (const changes of [{ mode: 'report' as const }, reportDestination]) {
    const verdict = decide(compilePolicy({ ...config, ...reportRule, ...changes }), makeAsk({ port: 22 }));
    t.match(verdict, { verdict: 'report', until: Infinity }, 'more than the rule is');
  }
});

t.test('the denial that was not enforced is reported completely', async (t) => {
  const verdict = decide(compilePolicy({ ...config, mode: 'report' }), makeAsk({ port: 22 }));
  t.match(verdict, { verdict: 'report', would: { verdict: 'deny', code: 'port-not-allowed', detail: /eco-sit\.telus\.internal:22/, remedy: 'add 22 to destinations.eco.ports' } });
  const enforced = decide(compilePolicy(config), makeAsk({ port: 22 }));
  t.strictSame(verdict.verdict === 'report' ? verdict.would : null, enforced);
});

t.test('of several destinations of a host, the one that is blamed decides', async (t) => {
  const destinations = [makeDestination('exact', [ECO], { ports: [443] }), makeDestination('wild', ['*.telus.internal'], { ports: [8443], report: true })];
  const changes = { destinations, rules: [makeRule(['sit'], ['exact', 'wild'])] };
  t.equal(outcome(changes, { port: 22 }), 'deny port-not-allowed');
  t.equal(outcome(changes, { port: 8443, peer: makePeer('192.0.2.1') }), 'report client-not-allowed wild nobody -');
  t.equal(outcome(changes, { port: 443, peer: makePeer('192.0.2.1') }), 'deny client-not-allowed');
  t.equal(outcome(changes, { port: 22, destination: 'wild' }), 'report port-not-allowed wild sit rules[0]');
});
