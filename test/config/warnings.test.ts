/** What is valid, and told as a warning. */
import t from 'tap';
import { loadText, MINIMAL } from '../support/load-text.ts';

function warningsOf(text: string): string[] {
  const result = loadText(text, {}, { now: () => Date.UTC(2026, 0) });
  if (!result.ok) throw new Error(result.faults.map(({ problem }) => problem).join(' '));
  return result.warnings.map(({ line, path, problem }) => `${line} ${path}: ${problem}`);
}

const BASIC = `    basic: [{ user: sit, hash: '$scrypt$ln=15,r=8,p=1$${'A'.repeat(22)}$${'A'.repeat(43)}' }]`;
const CERTIFICATES = MINIMAL.replace('addresses: ["10.8.0.0/14"]', 'certificates: pods.example');
const rule = (text: string): string => MINIMAL.replace('[eco] }', `[eco], ${text} }`);
const add = (line: string, more: string): string => MINIMAL.replace(line, () => line + more);

t.test('each warning, at its place', async (t) => {
  const table: [what: string, text: string, warnings: RegExp[]][] = [
    ['nothing at all', 'version: 1\n', [/^1 : There are no clients, no destinations, no rules: no rule permits a request/]],
    ['no rules', MINIMAL.replace(/rules:.*/s, ''), [/^1 : There are no rules: no rule permits a request/]],
    ['unused client', add('clients:\n', '  idle: { addresses: 192.0.2.0/24 }\n'), [/^3 clients\.idle: No rule names client idle/]],
    ['unused destination', add('destinations:\n', '  idle: { hosts: idle.example, ports: 80 }\n'), [/^6 destinations\.idle: No rule names destination idle: none permits a request to it/]],
    ['report mode without a rule', `${MINIMAL.replace(/rules:.*/s, '')}mode: report\n`, [/There are no rules: no rule permits a request\.$/, /Report mode: every peer/]],
    ['everybody', MINIMAL.replace('10.8.0.0/14', '0.0.0.0/0'), [/^4 clients\.pods\.addresses\[0\]: 0\.0\.0\.0\/0 makes every address the client pods/]],
    [
      'covered by an earlier client',
      MINIMAL.replace('destinations:', '  few:\n    addresses: [192.0.2.1, 10.9.0.0/16]\ndestinations:').replace('clients: [pods]', 'clients: [pods, few]'),
      [/^6 clients\.few\.addresses\[1\]: 10\.9\.0\.0\/16 lies inside 10\.8\.0\.0\/14 of client pods/],
    ],
    ['an address that no rule can permit', MINIMAL.replace('hosts: [eco.example]', 'hosts: [eco.example, 10.40.1.9, "fd00::1"]'), [/^7 destinations\.eco\.hosts\[1\]: 10\.40\.1\.9 is not a public address, and others have to be permitted: it cannot be reached/]],
    ['an address that is permitted', MINIMAL.replace('hosts: [eco.example]', 'hosts: 10.40.1.9\n    addresses: 10.40.0.0/16'), []],
    ['a public address', MINIMAL.replace('hosts: [eco.example]', 'hosts: 198.41.0.4'), []],
    ['YAML as it is read', `%YAML 1.2\n---\n${MINIMAL}`, []],
    ['paths in a tunnel', add('    ports: [443]\n', '    http: { paths: [/api/*] }\n'), [/^9 destinations\.eco\.http: Paths of eco are not checked inside a tunnel/]],
    ['both in a tunnel', add('    ports: [443]\n', '    http: { methods: [GET], paths: [/api/*] }\n'), [/^9 destinations\.eco\.http: Methods and paths of eco/]],
    ['no listener for its forms', add('    ports: [443]\n', '    forms: [connect]\n') + 'listeners: { http: [{ address: "0.0.0.0:1", forms: forward }] }\n', [/^9 destinations\.eco\.forms: No listener takes a form that eco accepts/]],
    ['the form gateway without a gateway', add('    ports: [443]\n', '    forms: gateway\n'), [/^9 destinations\.eco\.forms: eco accepts only the form gateway, and has no gateway: it cannot be reached/]],
    ['the form gateway beside another, without a gateway', add('    ports: [443]\n', '    forms: [gateway, connect]\n'), [/^9 destinations\.eco\.forms: eco accepts the form gateway, and has no gateway\.$/]],
    [
      'no listener for its gateway',
      add('    ports: [443]\n', '    gateway: { prefix: /eco, url: "https://eco.example" }\n') + 'listeners: { http: [{ address: "0.0.0.0:1", forms: forward }] }\n',
      [/^9 destinations\.eco\.gateway: No listener takes the gateway form: \/eco is not served/],
    ],
    ['more connections than ports', `${MINIMAL}nat: { ports: 2255 }\n`, [/^11 nat\.ports: 2000 tunnels and 256 pooled connections may be open towards one address, and there are 2255 ports/]],
    ['as many as ports', `${MINIMAL}nat: { ports: 2256 }\n`, []],
    ['shared by replicas', `${MINIMAL}nat: { ports: 4511, replicasPerNode: 2 }\n`, [/^11 nat\.ports: .*, and a replica has 2255 ports/]],
    ['more replicas than ports', `${MINIMAL}nat: { ports: 2, replicasPerNode: 3 }\n`, [/^11 nat\.replicasPerNode: 3 replicas cannot share 2 ports: each gets none/]],
    ['report mode', `${MINIMAL}mode: report\n`, [/^11 mode: Report mode: every peer that reaches the proxy may use any public host/]],
    ['report mode for a destination', add('    ports: [443]\n', '    report: true\n'), [/^9 destinations\.eco\.report: Report mode: every peer that reaches the proxy may use eco/]],
    ['report mode for a rule', rule('report: true'), [/^10 rules\[0\]\.report: Report mode: the clients of this rule/]],
    ['report mode for a rule that has not begun', rule('report: true, from: 2026-01-02T00:00Z'), [/^10 rules\[0\]\.report: Report mode from 2026-01-02T00:00:00\.000Z on: the clients of this rule/]],
    ['a rule that has just ended', rule('until: 2026-01-01T00:00:00Z, owner: payments, ticket: CHG-1, reason: The old way'), [/^10 rules\[0\]\.until: The rule has ended: .* Owner: payments\. Ticket: CHG-1\. Reason: The old way\.$/]],
    ['a rule that ends in a second', rule('until: 2026-01-01T00:00:01Z'), [/^10 rules\[0\]\.until: The rule ends at 2026-01-01T00:00:01\.000Z: from then on it permits nothing, and its tunnels are closed\.$/]],
    ['a rule that ends in 14 days', rule('until: 2026-01-15T00:00Z, owner: payments'), [/^10 rules\[0\]\.until: The rule ends at 2026-01-15T00:00:00\.000Z: .* Owner: payments\.$/]],
    ['a rule that has ended', rule('until: 2026-01-01T00:00Z'), [/^10 rules\[0\]\.until: The rule has ended: it permits nothing since 2026-01-01T00:00:00\.000Z/]],
    ['paths for tunnels', rule('paths: /api/*').replace('    ports: [443]\n', '    ports: [443]\n    forms: connect\n'), [/^11 rules\[0\]\.paths: A rule with paths permits no tunnel, and eco takes nothing else/]],
    ['a rule behind one without limits', rule('methods: [GET]').replace('rules:\n', 'rules:\n  - { clients: [pods], destinations: [eco] }\n'), [/^11 rules\[1\]: rules\[0\] comes first, and permits all that this rule does/]],
    ['a rule twice', rule('owner: x').replace('rules:\n', 'rules:\n  - { clients: [pods], destinations: [eco] }\n'), [/^11 rules\[1\]: rules\[0\] comes first/]],
    ['methods that the destination does not have', rule('methods: [GET]').replace('    ports: [443]\n', '    ports: [443]\n    forms: [forward]\n    http: { methods: [POST] }\n'), [/^12 rules\[0\]\.methods: None of these methods is among those of eco: the rule permits no request to it/]],
    ['nothing to cut', rule('rate: { perAddress: { requests: 50/s }, whenExhausted: cut }'), [/^10 rules\[0\]\.rate\.whenExhausted: The rule limits no bytes, so nothing is cut/]],
    ['a rate behind a rule without', rule('rate: { perAddress: { requests: 50/s } }').replace('rules:\n', 'rules:\n  - { clients: [pods], destinations: [eco], methods: [GET] }\n  - { clients: [pods], destinations: [eco] }\n'), [/^12 rules\[2\]\.rate: rules\[1\] comes first, and lets pods use eco without limits/]],
    ['a rate behind another one', rule('rate: { perAddress: { requests: 50/s } }').replace('rules:\n', 'rules:\n  - { clients: [pods], destinations: [eco], rate: { perClient: { requests: 9/s } } }\n'), [/^11 rules\[1\]\.rate: rules\[0\] comes first, and lets pods use eco at a rate of its own/]],
    ['tunnels of a rule that permits none', rule('methods: GET, rate: { perAddress: { requests: 50/s, tunnels: 1/s } }'), [/^10 rules\[0\]\.rate\.perAddress\.tunnels: A rule with methods or paths permits no tunnel/]],
    ['a certificate that nobody can show', CERTIFICATES, [/^4 clients\.pods\.certificates: No listener receives client certificates: no request matches client pods/]],
    ['trusted with nothing', `${MINIMAL}listeners: { http: [{ address: "0.0.0.0:1", trustedPeers: 10.0.0.1 }] }\n`, [/^11 listeners\.http\[0\]\.trustedPeers: trustedPeers has no effect/]],
    ['everybody trusted', `${MINIMAL}listeners: { http: [{ address: "0.0.0.0:1", trustedPeers: "::/0", believe: x-forwarded-for }] }\n`, [/^11 listeners\.http\[0\]\.trustedPeers: ::\/0 lets every peer claim any client address/]],
  ];
  for (const [what, text, warnings] of table) {
    const told = warningsOf(text);
    t.equal(told.length, warnings.length, `${what}: ${told.join(' | ')}`);
    t.match(told, warnings, what);
  }
});

t.test('with few ports, what is advised leaves no warning', async (t) => {
  for (const [ports, tunnels, pooled, told] of [[1, 1, 1, /there is 1 port: .* Lower limits\.tunnels and limits\.upstreamConnections,/], [3, 3, 2, /there are 3 ports: .* Lower limits\.tunnels,/], [3, 1, 2, null]] as const) {
    const result = loadText(`${MINIMAL}nat: { ports: ${ports} }\nlimits: { tunnels: ${tunnels}, upstreamConnections: ${pooled} }\n`);
    const warnings = result.ok ? result.warnings.map(({ problem, instead }) => `${problem} ${instead}`) : null;
    t.match(warnings, told === null ? { length: 0 } : [told]);
  }
});

t.test('neighbours that need no warning', async (t) => {
  const table: [what: string, text: string][] = [
    ['rates of two rules', rule('rate: { perAddress: { requests: 50/s, received: 1GiB/h }, whenExhausted: cut }').replace('rules:\n', 'rules:\n  - { clients: [pods], destinations: [eco], methods: [GET], rate: { perClient: { requests: 5/s } } }\n')],
    ['the minimal file', MINIMAL],
    ['a rule before one without limits', rule('owner: x').replace('rules:\n', 'rules:\n  - { clients: [pods], destinations: [eco], methods: [GET] }\n')],
    ['a rule behind one that ends', rule('owner: x').replace('rules:\n', 'rules:\n  - { clients: [pods], destinations: [eco], until: 2027-01-01T00:00Z }\n')],
    ['a rule with another client too', rule('methods: [GET]').replace('[pods], destinations: [eco], methods', '[pods, more], destinations: [eco], methods').replace('destinations:\n', '  more: { addresses: 192.0.2.0/24 }\ndestinations:\n').replace('rules:\n', 'rules:\n  - { clients: [pods], destinations: [eco] }\n')],
    ['a method that both have', rule('methods: [GET, POST]').replace('    ports: [443]\n', '    ports: [443]\n    forms: [forward]\n    http: { methods: [POST] }\n')],
    ['HEAD, which a destination with GET permits', rule('methods: [HEAD]').replace('    ports: [443]\n', '    ports: [443]\n    forms: [forward]\n    http: { methods: [GET] }\n')],
    ['GET, where the destination permits HEAD', rule('methods: [GET]').replace('    ports: [443]\n', '    ports: [443]\n    forms: [forward]\n    http: { methods: [HEAD] }\n')],
    ['all forms, without a gateway', add('    ports: [443]\n', '    forms: [connect, forward, gateway, host-routed, sni]\n')],
    ['half of everybody', MINIMAL.replace('10.8.0.0/14', '0.0.0.0/1')],
    ['a wide range after a narrow one', MINIMAL.replace('destinations:', '  all:\n    addresses: [10.0.0.0/8]\ndestinations:').replace('clients: [pods]', 'clients: [pods, all]')],
    ['the range beside it', MINIMAL.replace('destinations:', '  next:\n    addresses: [10.12.0.0/14]\ndestinations:').replace('clients: [pods]', 'clients: [pods, next]')],
    ['paths without tunnels', add('    ports: [443]\n', '    forms: [forward]\n    http: { paths: [/api/*] }\n')],
    ['a certificate that a trusted peer tells', `${CERTIFICATES}listeners: { http: [{ address: "0.0.0.0:1", trustedPeers: 10.0.0.1, believe: x-forwarded-client-cert }] }\n`],
    ['a rule that has begun', rule('from: 2026-01-01T00:00Z')],
    ['a rule that ends in more than 14 days', rule('until: 2026-01-15T00:00:01Z')],
    ['everybody with a password', MINIMAL.replace('["10.8.0.0/14"]', `["0.0.0.0/0"]\n${BASIC}`)],
    ['a range inside that of a stricter client', MINIMAL.replace('destinations:', '  few:\n    addresses: 10.9.0.0/16\ndestinations:').replace('["10.8.0.0/14"]', `["10.8.0.0/14"]\n${BASIC}`).replace('clients: [pods]', 'clients: [pods, few]')],
    ['paths where not everything is a tunnel', rule('paths: /api/*')],
  ];
  for (const [what, text] of table) t.strictSame(warningsOf(text), [], what);
});

t.test('the forms that are advised in place of tunnels leave no warning', async (t) => {
  const text = (more: string): string => add('    ports: [443]\n', `    http: { methods: [GET] }\n${more}`);
  for (const [more, forms] of [['', 'forward, host-routed'], ['    forms: connect\n', 'forward, host-routed'], ['    gateway: { prefix: /eco, url: "https://eco.example" }\n', 'forward, gateway, host-routed']] as const) {
    const result = loadText(text(more));
    t.match(result.ok && result.warnings, [{ instead: `Write forms: [${forms}] under eco to hold every request to them.` }], forms);
    t.strictSame(warningsOf(text(`${more.replace('    forms: connect\n', '')}    forms: [${forms}]\n`)), [], forms);
  }
});
