/**
 * What it costs to compare two policies of a thousand destinations, in CPU time
 * and steps: bin/node bench/policy-diff.ts
 */
import type { ClientConfig, DestinationConfig, RuleConfig } from '../src/config/config.ts';
import { ANONYMOUS } from '../src/policy/client-table.ts';
import type { PolicyConfig } from '../src/policy/compile.ts';
import { comparePolicyConfigs } from '../src/policy-diff/compare-policies.ts';
import { BoundedMeter } from '../src/policy-diff/work.ts';

const COUNT = 1000;
const NOW = Date.UTC(2027, 0, 1);

function makePolicy({ destination = () => ({}), rule = () => ({}), clients = 1 }: { readonly destination?: (index: number) => Partial<DestinationConfig>; readonly rule?: (index: number) => Partial<RuleConfig>; readonly clients?: number }): PolicyConfig {
  const names = Array.from({ length: COUNT }, (_, index) => `partner-${index}`);
  const groups = Array.from({ length: clients }, (_, index) => `pods-${index}`);
  return {
    mode: 'enforce',
    clients: groups.map((name, index): ClientConfig => ({ name, addresses: [`10.${index >> 8}.${index & 255}.0/24`], basic: null, tokens: null, certificates: null })),
    destinations: names.map((name, index): DestinationConfig => ({
      ...ANONYMOUS,
      name,
      hosts: [`api.${name}.example`, `*.cdn.${name}.example`],
      ports: [443],
      report: false,
      ...destination(index),
    })),
    rules: names.map((name, index): RuleConfig => ({ clients: [groups[index % clients] ?? ''], destinations: [name], methods: null, paths: null, from: null, until: null, owner: null, reason: null, ticket: null, report: false, rate: null, ...rule(index) })),
  };
}

const plain = makePolicy({});
const pathed = (more: readonly string[]): PolicyConfig => makePolicy({ destination: (index) => ({ forms: ['forward', 'host-routed'], paths: ['/api/*', `/v${index}/**/status`, ...more], methods: ['GET'] }) });
const CASES: readonly (readonly [what: string, before: PolicyConfig, after: PolicyConfig])[] = [
  ['the same', plain, plain],
  ['one port of one', plain, makePolicy({ destination: (index) => (index === 500 ? { ports: [443, 8443] } : {}) })],
  ['another port for all', plain, makePolicy({ destination: () => ({ ports: [443, 8443] }) })],
  ['ranges for all', plain, makePolicy({ destination: (index) => ({ addresses: [`10.40.${index & 255}.0/24`] }) })],
  ['all renamed', plain, { ...plain, destinations: plain.destinations.map((one) => ({ ...one, name: `x-${one.name}` })), rules: plain.rules.map((one) => ({ ...one, destinations: one.destinations.map((name) => `x-${name}`) })) }],
  ['none before', { ...plain, destinations: [], rules: [] }, plain],
  ['another path for all', pathed([]), pathed(['/health'])],
  ['an end for all rules', plain, makePolicy({ rule: (index) => ({ until: NOW + index }) })],
  ['1,000 clients, another port for all', makePolicy({ clients: COUNT }), makePolicy({ clients: COUNT, destination: () => ({ ports: [443, 8443] }) })],
  ['1,000 clients, none before', { ...plain, clients: [], destinations: [], rules: [] }, makePolicy({ clients: COUNT })],
];

process.stdout.write(`${COUNT} destinations with 2,000 hosts in each of two policies\n`);
for (const [what, before, after] of CASES) {
  const meter = new BoundedMeter(Infinity);
  const start = process.cpuUsage();
  const { classes } = comparePolicyConfigs(before, after, NOW, meter);
  const { user, system } = process.cpuUsage(start);
  process.stdout.write(`${what.padEnd(40)} ${((user + system) / 1000).toFixed(0).padStart(6)} ms CPU ${String(meter.spent).padStart(9)} steps ${String(classes.length).padStart(6)} classes\n`);
}
