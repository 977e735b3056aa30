/** Rules with methods, paths and times: which one applies, and what is said when none does. */
import t from 'tap';
import { compilePolicy, type PolicyConfig } from '../../src/policy/compile.ts';
import { decide } from '../../src/policy/decide.ts';
import type { Ask } from '../../src/policy/verdict.ts';
import { makeAsk, makeClient, makeDestination, makeRule } from '../support/policy.ts';

const ECO = 'eco-sit.telus.internal';
const NEW_YEAR = Date.UTC(2027, 0);
const base: PolicyConfig = {
  mode: 'enforce',
  clients: [makeClient('sit', { addresses: ['10.8.0.0/14'] })],
  destinations: [makeDestination('eco', [ECO]), makeDestination('wild', ['*.telus.internal'])],
  rules: [],
};
const withRules = (...rules: Partial<PolicyConfig['rules'][number]>[]) => compilePolicy({ ...base, rules: rules.map((rule) => makeRule(['sit'], ['eco'], rule)) });
const get: Partial<Ask> = { form: 'forward', method: 'GET', path: '/api/x', now: NEW_YEAR };
const outcome = (policy: ReturnType<typeof compilePolicy>, more: Partial<Ask>): string => {
  const verdict = decide(policy, makeAsk({ ...get, ...more }));
  return verdict.verdict === 'deny' ? `${verdict.code}: ${verdict.detail}; ${verdict.remedy}` : `${verdict.verdict} ${verdict.rule}`;
};

t.test('the first that applies', async (t) => {
  const policy = withRules({ methods: ['GET'], paths: ['/api/*'] }, { methods: ['POST'] }, { until: NEW_YEAR }, { from: NEW_YEAR, paths: ['/late/**/x'] });
  const table: [more: Partial<Ask>, outcome: string | RegExp][] = [
    [{}, 'allow rules[0]'],
    [{ method: 'HEAD' }, 'allow rules[0]'],
    [{ path: '/ap%69/x' }, 'allow rules[0]'],
    [{ method: 'POST' }, 'allow rules[1]'],
    [{ method: 'DELETE', now: NEW_YEAR - 1 }, 'allow rules[2]'],
    [{ form: 'connect', method: null, path: null, now: NEW_YEAR - 1 }, 'allow rules[2]'],
    [{ path: '/late/a/b/x' }, 'allow rules[3]'],
    [{ path: '/other' }, /^path-not-allowed: rules\[0\] lets sit use eco, but does not list the path \/other; ask npx eco-egress explain for a change: other destinations have hosts of eco too$/],
    [{ method: 'DELETE' }, /^path-not-allowed: rules\[3\] .*the path \/api\/x/],
    [{ path: '/api/../x' }, /^path-ambiguous: /],
  ];
  for (const [more, expected] of table) t.match(outcome(policy, more), expected, JSON.stringify(more));
});

t.test('what is said when none applies', async (t) => {
  const table: [rule: Partial<PolicyConfig['rules'][number]>, more: Partial<Ask>, outcome: RegExp][] = [
    [{ until: NEW_YEAR }, {}, /^rule-expired: eco-sit\.telus\.internal:443: rules\[0\] lets sit use eco only until 2027-01-01T00:00:00Z, and it is 2027-01-01T00:00:00Z; ask npx eco-egress explain for a change: other destinations have hosts of eco too$/],
    [{ from: NEW_YEAR + 1000 }, {}, /^rule-expired: .* only from 2027-01-01T00:00:01Z, and it is 2027-01-01T00:00:00Z; ask npx eco-egress explain for a change: other destinations have hosts of eco too$/],
    [{ methods: ['POST', 'PUT'] }, {}, /^method-not-allowed: rules\[0\] lets sit use eco, but does not list the method GET; ask npx eco-egress explain for a change: other destinations have hosts of eco too$/],
    [{ methods: ['POST'] }, { method: 'HEAD' }, /^method-not-allowed: /],
    [{ methods: ['GET'] }, { form: 'connect', method: null, path: null }, /^form-not-allowed: .*rules\[0\] lets sit use eco for the methods that it lists, which a tunnel hides; use a form in which methods can be seen: forward or host-routed$/],
    [{ methods: ['GET'], paths: ['/a'] }, { form: 'connect', method: 'CONNECT', path: '/a' }, /^form-not-allowed: .* for the methods and paths/],
    [{ paths: ['/a'] }, { path: null }, /^form-not-allowed: /],
    [{ paths: ['/a'] }, { path: '/%2e%2e/a' }, /^path-ambiguous: The path "\/%2e%2e\/a" has a dot segment/],
  ];
  for (const [rule, more, expected] of table) t.match(outcome(withRules(rule), more), expected, JSON.stringify(rule));
});

t.test('what a tunnel hides: only forms that the destination takes are advised', async (t) => {
  const advised = (change: Parameters<typeof makeDestination>[2]): string => outcome(compilePolicy({ ...base, destinations: [makeDestination('eco', [ECO], change)], rules: [makeRule(['sit'], ['eco'], { methods: ['GET'] })] }), { form: 'connect', method: null, path: null });
  t.match(advised({ forms: ['connect', 'forward'] }), /; use a form in which methods can be seen: forward$/);
  t.match(advised({ forms: ['connect', 'gateway'] }), /; use a form in which methods can be seen, such as forward: destinations\.eco\.forms has none$/, 'it has no gateway');
});

t.test('the rule that came furthest is blamed', async (t) => {
  t.match(outcome(withRules({ until: 0 }, { methods: ['PUT'] }), {}), /^method-not-allowed: rules\[1\]/);
  t.match(outcome(withRules({ methods: ['PUT'] }, { until: 0 }), {}), /^method-not-allowed: rules\[0\]/);
  t.match(outcome(withRules({ until: 0 }, { until: 1 }), {}), /^rule-expired: .*rules\[0\]/, 'of equals, the first');
});

t.test('what the rule permits, the destination may still refuse', async (t) => {
  const policy = compilePolicy({ ...base, destinations: [makeDestination('eco', [ECO], { methods: ['GET'], paths: ['/api/*'] })], rules: [makeRule(['sit'], ['eco'], { methods: ['POST', 'GET'] })] });
  t.match(outcome(policy, {}), 'allow rules[0]');
  t.match(outcome(policy, { method: 'POST' }), /^method-not-allowed: The destination eco/);
  t.match(outcome(policy, { path: '/x' }), /^path-not-allowed: The destination eco/);
});

t.test('a rule that does not apply leaves the other destinations of the host', async (t) => {
  const policy = compilePolicy({ ...base, rules: [makeRule(['sit'], ['eco'], { methods: ['POST'] }), makeRule(['sit'], ['wild'])] });
  t.match(decide(policy, makeAsk(get)), { verdict: 'allow', destination: { name: 'wild' }, rule: 'rules[1]' });
  t.match(decide(policy, makeAsk({ ...get, method: 'POST' })), { verdict: 'allow', destination: { name: 'eco' }, rule: 'rules[0]' });
});
