/** What differs besides decisions: keys by what they mean, files by their names, and notes on rules by the rule. */
import t from 'tap';
import type { Loaded } from '../../src/config/load.ts';
import { compareOthers } from '../../src/reload/other-changes.ts';
import { loadText } from '../support/load-text.ts';

const TEXT = `version: 1
clients: { pods: { addresses: 10.0.0.0/8 } }
destinations:
  eco: { hosts: eco.example, ports: 443 }
  other: { hosts: other.example, ports: 443 }
rules: [{ clients: pods, destinations: eco }, { clients: pods, destinations: other }]
`;

function load(text: string): Loaded {
  const loaded = loadText(text);
  if (!loaded.ok) throw new Error(JSON.stringify(loaded.faults));
  return loaded;
}

/** The same with a field on which no decision depends. */
function annotate(loaded: Loaded, notes: readonly (string | undefined)[]): Loaded {
  const { config } = loaded;
  return { ...loaded, config: { ...config, rules: config.rules.map((rule, index) => ({ ...rule, reason: notes[index] ?? null })) } };
}

t.test('keys', async (t) => {
  const rows: readonly (readonly [from: string, to: string, changes: readonly string[], policyKeys: readonly string[]])[] = [
    ['', '', [], []],
    ['rules:', 'timeouts: { connect: 3s }\nrules:', ['timeouts.connect'], []],
    ['rules:', 'timeouts: { connect: 10000ms }\nrules:', [], []],
    ['rules:', 'log: { level: warn }\nlimits: { headerBytes: 8KiB }\nrules:', ['limits.headerBytes restart', 'log.level'], []],
    ['ports: 443', 'ports: 8443', [], ['destinations.eco.ports']],
    ['eco: {', 'eco: { tunnelSni: require, ', ['destinations.eco.tunnelSni'], []],
    ['other.example', 'another.example', [], ['destinations.other.hosts']],
    ['rules:', '  third: { hosts: third.example, ports: 443, tunnelSni: off }\nrules:', [], ['destinations.third.hosts', 'destinations.third.ports', 'destinations.third.tunnelSni']],
    ['version: 1', 'version: 1\nmode: report', [], ['mode']],
    ['{ clients: pods, destinations: eco }', '{ clients: pods, destinations: eco, rate: { perAddress: { requests: 50/s burst 50 }, perClient: { sent: 1GiB/day } } }', ['rules[0].rate.perAddress.requests', 'rules[0].rate.perClient.sent', 'rules[0].rate.whenExhausted'], []],
    ['{ clients: pods, destinations: eco }', '{ clients: pods, destinations: eco, methods: GET }', [], ['rules[0].methods']],
  ];
  for (const [from, to, changes, policyKeys] of rows) {
    const found = compareOthers(load(TEXT), load(TEXT.replace(from, to)));
    t.strictSame(found.changes.map(({ path, needsRestart }) => `${path}${needsRestart ? ' restart' : ''}`), changes, to);
    for (const key of policyKeys) t.ok(found.policyKeys.includes(key), key, { found: found.policyKeys });
    t.equal(found.policyKeys.length === 0, policyKeys.length === 0, to);
  }
});

t.test('what is noted of a rule goes with the rule', async (t) => {
  const [before, moved] = [load(TEXT), load(TEXT.replace('[{ clients: pods, destinations: eco }, { clients: pods, destinations: other }]', '[{ clients: pods, destinations: other }, { clients: pods, destinations: eco }]'))];
  t.strictSame(compareOthers(annotate(before, ['one', 'two']), annotate(moved, ['two', 'one'])).changes, []);
  t.strictSame(compareOthers(annotate(before, ['one', 'two']), annotate(moved, ['two', 'three'])).changes, [{ path: 'rules[1].reason', before: 'one', after: 'three', needsRestart: false }]);
});

t.test('rates: each limit by itself, by what it means', async (t) => {
  const rated = (rate: string): Loaded => load(TEXT.replace('destinations: eco }', `destinations: eco, rate: ${rate} }`));
  const before = rated('{ perAddress: { requests: 50/s, received: 1GiB/day } }');
  t.strictSame(compareOthers(before, rated('{ perAddress: { requests: 50/s burst 50, received: 1024MiB/day }, whenExhausted: refuse }')), { changes: [], policyKeys: [] });
  t.strictSame(compareOthers(before, rated('{ perAddress: { requests: 50/s burst 51 }, perClient: { sent: 20MiB/s }, whenExhausted: cut }')).changes, [
    { path: 'rules[0].rate.perAddress.requests', before: '50/s', after: '50/s burst 51', needsRestart: false },
    { path: 'rules[0].rate.perClient.sent', before: null, after: '20MiB/s', needsRestart: false },
    { path: 'rules[0].rate.whenExhausted', before: 'refuse', after: 'cut', needsRestart: false },
    { path: 'rules[0].rate.perAddress.received', before: '1GiB/day', after: null, needsRestart: false },
  ]);
});
