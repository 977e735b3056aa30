/** Classes in words: what is left out does not matter, and what is said is all of it. */
import { execFileSync } from 'node:child_process';
import t from 'tap';
import type { DestinationConfig, GatewayConfig } from '../../src/config/config.ts';
import { comparePolicyConfigs } from '../../src/policy-diff/compare-policies.ts';
import { describePaths } from '../../src/policy-diff/describe-paths.ts';
import { describeClass, explainArguments, shellLine } from '../../src/policy-diff/describe-class.ts';
import type { PolicyDiff } from '../../src/policy-diff/diff-class.ts';
import type { PolicyConfig } from '../../src/policy/compile.ts';
import { PortRange } from '../../src/targets/port-range.ts';
import { escapeText } from '../../src/telemetry/safe-text.ts';
import { makeClient, makeDestination, makeRule } from '../support/policy.ts';

const PODS = makeClient('pods', { addresses: ['10.8.0.0/14'] });
const MESH = makeClient('mesh', { certificates: ['DNS:pod.example'] });

function policyOf(...destinations: readonly DestinationConfig[]): PolicyConfig {
  return { mode: 'enforce', clients: [PODS], destinations, rules: destinations.length === 0 ? [] : [makeRule(['pods'], destinations.map(({ name }) => name))] };
}

const eco = (more: Partial<DestinationConfig>, hosts: readonly string[] = ['eco.example']): DestinationConfig => makeDestination('eco', hosts, { ports: [443], ...more });
const gateway = (prefix: string, more: Partial<GatewayConfig> = {}): GatewayConfig => ({ prefix, scheme: 'https', host: 'eco.example', port: 443, basePath: '', rewrite: [], encodedSlashes: 'refuse', ...more });

function told(diff: PolicyDiff): string[] {
  return diff.classes.filter(({ change }) => change !== 'refused').map((one) => `${one.change} ${describeClass(diff, one)}`);
}

const HTTP = { forms: ['forward'] } as const;

t.test('in words', async (t) => {
  const rows: readonly (readonly [before: PolicyConfig, after: PolicyConfig, ...expected: string[]])[] = [
    [policyOf(), policyOf(eco({})), 'allowed eco.example, port 443, by any form, for pods'],
    [policyOf(), policyOf(eco({}, ['*.example', 'a.example', 'b.c.example'])), 'allowed any host below *.example, a.example and b.c.example, port 443, by any form, for pods'],
    [policyOf(eco({ ports: [80] }, ['a.example'])), policyOf(eco({ ports: [80] }, ['*.example'])), 'allowed any other host below *.example, port 80, by any form, for pods'],
    [policyOf(eco({})), policyOf(eco({ ports: [new PortRange(1, 65_535)] })), 'allowed eco.example, any port but 443, by connect, forward or host-routed, for pods'],
    [policyOf(eco({})), policyOf(eco({ ports: [443, 80, new PortRange(8000, 8002)] })), 'allowed eco.example, ports 80 and 8000-8002, by connect, forward or host-routed, for pods'],
    [policyOf(eco(HTTP)), policyOf(eco({ ...HTTP, methods: ['GET'] })), 'denied eco.example, port 443, by forward, any method but GET and HEAD, for pods'],
    [policyOf(eco(HTTP)), policyOf(eco({ ...HTTP, paths: ['/a/*'] })), 'denied eco.example, port 443, by forward, any path but /a/*, for pods'],
    [policyOf(eco({ ...HTTP, paths: ['/a/x', '/b/*'] })), policyOf(eco({ ...HTTP, paths: ['/a/*', '/b/*', '/c'] })), 'allowed eco.example, port 443, by forward, paths /a/*, /c but not /a/x, for pods'],
    [policyOf(eco({ ...HTTP, paths: ['/*'] })), policyOf(eco(HTTP)), 'allowed eco.example, port 443, by forward, any path but /*, for pods'],
    [policyOf(eco({ forms: ['gateway'], gateway: gateway('/eco') })), policyOf(eco({ forms: ['gateway'], gateway: gateway('/eco/api') })), 'denied other paths below /eco, for pods', 'otherwise paths below /eco/api, for pods'],
    [policyOf(eco({ forms: ['gateway'], gateway: gateway('/eco') })), policyOf(eco({ forms: ['gateway'], gateway: gateway('/eco', { encodedSlashes: 'allow' }) })), 'allowed paths below /eco, any path with encoded slashes, for pods'],
    [policyOf(eco({ forms: ['host-routed'] })), policyOf(eco({ forms: ['host-routed'], upgradePlainHttp: 443 })), 'allowed eco.example, any port but 443, by host-routed in plain HTTP, for pods', 'otherwise eco.example, port 443, by host-routed in plain HTTP, for pods'],
    [{ ...policyOf(), clients: [MESH] }, { ...policyOf(eco({})), clients: [MESH], rules: [makeRule(['mesh'], ['eco'])] }, 'allowed eco.example, port 443, by connect, forward or host-routed, for mesh'],
    [policyOf(eco({ addresses: ['10.0.0.0/8'] })), policyOf(eco({})), 'allowed eco.example, port 443, by any form, for pods, resolving to public addresses', 'denied eco.example, port 443, by any form, for pods, resolving to 10.0.0.0/8'],
    [policyOf(eco({ addresses: ['0.0.0.0/0'] })), policyOf(eco({})), 'allowed eco.example, port 443, by any form, for pods, resolving to public addresses outside 0.0.0.0/0', 'denied eco.example, port 443, by any form, for pods, resolving to addresses in 0.0.0.0/0 that are not public'],
  ];
  for (const [before, after, ...expected] of rows) t.strictSame(told(comparePolicyConfigs(before, after, 0)).toSorted(), expected.toSorted());
});

t.test('the same, asked of explain', async (t) => {
  const diff = comparePolicyConfigs(policyOf(), policyOf(eco({ forms: ['host-routed'], methods: ['GET'] }, ['2001:4860::9'])), 0);
  const [one] = diff.classes;
  t.equal(one === undefined ? '' : shellLine(explainArguments(diff, one)), "--client 10.8.0.1 --host '[2001:4860::9]:443' GET /", 'zsh takes brackets for a pattern');
  const whole = comparePolicyConfigs(policyOf(eco({ ...HTTP, paths: ['/*'] })), policyOf(eco(HTTP)), 0);
  t.strictSame(whole.classes.map((each) => explainArguments(whole, each).slice(-2)), [['OPTIONS', 'https://eco.example']]);
  t.equal(shellLine(['a b', '$x', 'plain']), "'a b' '$x' plain");
  t.strictSame(execFileSync('sh', ['-c', `printf '%s\\n' ${escapeText(shellLine(["it's", 'a"b']))}`], { encoding: 'utf8' }).trimEnd().split('\n'), ["it's", 'a"b'], 'as it is printed');
});

t.test('what four times as many lists of paths take', (t) => {
  const work = (count: number): number => {
    const lists = Array.from({ length: count }, (_, index) => ({ side: 0, patterns: [`/p${index}`], before: '' }) as const);
    const atoms = [...lists, null].map((_, index) => ({ kind: 'plain', vector: `${'0'.repeat(index)}1${'0'.repeat(count)}`.slice(0, count), text: `/p${index}` }) as const);
    const before = process.cpuUsage();
    const text = describePaths({ cut: { lists, atoms }, atoms: [count - 1] }, null);
    const { user, system } = process.cpuUsage(before);
    t.equal(text, `path /p${count - 1}`);
    return user + system;
  };
  work(300);
  const [one, four] = [work(300), work(1_200)];
  // Each of the lists is compared with each, which is 16 times as much; it was 64 times.
  t.ok(four < 40 * one, `${four} of ${one} microseconds`);
  t.end();
});
