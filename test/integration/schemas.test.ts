/** What the program prints for other programs, held to its JSON Schemas: real outputs of commands, of a running proxy and of its admin port. */
import t, { type Test } from 'tap';
import { createAccessLog, createLineFormat } from '../../src/telemetry/logger.ts';
import { makeRecord } from '../support/access-record.ts';
import { eco } from '../support/eco.ts';
import { type Draft, ECO, startLab } from '../support/lab.ts';
import { MINIMAL } from '../support/load-text.ts';
import { schemaFaults } from '../support/schemas.ts';
import { openWire } from '../support/wire.ts';

const HASH = `$scrypt$ln=15,r=8,p=1$${'A'.repeat(22)}$${'A'.repeat(43)}`;

/** Clients of every kind, destinations of every kind, rules that end. */
const RICH = `version: 1
name: "\${NAME:-door-1}"
clients:
  people: { addresses: 10.20.0.0/16, basic: [{ user: anna, hash: "${HASH}" }] }
  mesh: { certificates: "spiffe://cluster.local/*" }
  jobs: { tokens: [{ issuer: i, audience: a, subjects: "ns:*", jwksUrl: "https://i.example/keys" }] }
  pods: { addresses: [10.8.0.0/14, "fd00::/8"] }
destinations:
  eco:
    hosts: [eco.example, "*.eco.example"]
    ports: [443, 8000-8100]
    addresses: [10.40.0.0/16]
    gateway: { prefix: /eco, url: "https://eco.example/base" }
    http: { methods: [GET, POST], paths: [/api/*] }
  far: { hosts: far.example, ports: 443, via: edge, resolve: parent, proxyProtocol: v2, report: true }
  near: { hosts: 10.40.1.9, ports: 443, addresses: 10.40.0.0/16, via: edge }
hops: { edge: { url: "http://10.0.0.1:3128", addresses: 10.0.0.1 } }
rules:
  - { clients: [people, mesh, jobs, pods], destinations: [eco, near], until: "2020-01-01T00:00:00Z", owner: ops }
  - { clients: [people, mesh, jobs, pods], destinations: [eco, far, near], until: "2999-01-01T00:00:00Z", owner: payments, ticket: CHG-1, reason: why }
`;

const TESTS = `config: egress.yaml
tests:
  - { client: pods, request: "CONNECT far.example:443", expect: allow }
  - { client: pods, request: "CONNECT other.example:443", expect: allow, as: mesh }
`;

async function run(t: Test, files: Record<string, string>, ...args: string[]): Promise<unknown> {
  const { out, err } = await eco(args, { cwd: t.testdir(files) });
  if (out === '') throw new Error(err);
  return JSON.parse(out);
}

/** Valid, and not any more with a field that the schema does not know, wherever that is. */
function hold(t: Test, name: string, value: unknown, what: string): void {
  t.strictSame(schemaFaults(name, value), [], what);
  t.not(schemaFaults(name, { ...(value as object), another: 1 }).length, 0, `${what}: no field is unknown`);
}

t.test('check --json', async (t) => {
  const files = { 'egress.yaml': RICH, 'faulty.yaml': 'version: 2\nclients: 7\n' };
  const check = (...args: string[]) => run(t, files, 'check', '--json', '--config', ...args);
  hold(t, 'check', await check('egress.yaml'), 'with permits and warnings');
  hold(t, 'check', await check('egress.yaml', '--effective'), '--effective');
  hold(t, 'check', await check('egress.yaml', '--expired'), '--expired');
  hold(t, 'check', await check('faulty.yaml'), 'faulty');
  const whole = (await check('egress.yaml')) as { permits: object[] };
  t.not(schemaFaults('check', { ...whole, permits: [{ ...whole.permits[0], another: 1 }] }).length, 0, 'nor inside');
});

t.test('explain --json', async (t) => {
  const explain = (...args: string[]) => run(t, { 'egress.yaml': RICH }, 'explain', '--json', '--no-resolve', '--config', 'egress.yaml', ...args);
  const questions: string[][] = [
    ['--client', 'pods', 'CONNECT', '10.40.1.9:443'],
    ['--client', 'pods', 'GET', '/eco/api/x'],
    ['--client', 'pods', 'GET', 'http://eco.example:8000/none'],
    ['--client', 'pods', 'CONNECT', 'far.example:22'],
    ['--client', 'pods', 'CONNECT', 'evil.example:443'],
    ['--client', '192.0.2.1', 'CONNECT', 'eco.example:443'],
    ['--client', '10.20.0.1', '--user', 'anna', 'CONNECT', 'eco.example:443'],
    ['--client', 'jobs', '--subject', 'ns:x', 'CONNECT', 'far.example:443'],
    ['--client', '192.0.2.1', '--san', 'URI:spiffe://cluster.local/x', 'TLS', 'far.example'],
    ['--client', 'pods', 'GET', '//'],
    ['--client', 'pods', 'CONNECT', 'no port'],
  ];
  for (const question of questions) hold(t, 'explain', await explain(...question), question.join(' '));
});

interface Difference {
  readonly equivalent: boolean;
  readonly classes: readonly { readonly change: string; readonly witness: { readonly peer: object } }[];
}

/** With clients that show two things at once, rules that end later, and a gateway that leads to a permitted path. */
const COMPARED = RICH.replace('2020', '2600').replace('/base', '/api/v1').replace(
  'clients:\n',
  `clients:
  staff: { basic: [{ user: bert, hash: "${HASH}" }], certificates: "spiffe://staff/*" }
  robots: { addresses: 10.60.0.0/16, tokens: [{ issuer: r, audience: a, subjects: "robot:*", jwksUrl: "https://r.example/keys" }], certificates: "spiffe://robots/*" }
`,
);

t.test('diff --json', async (t) => {
  const compare = async (from: string | RegExp, to: string): Promise<Difference> => {
    const files = { 'before.yaml': COMPARED, 'after.yaml': COMPARED.replace(from, to) };
    return (await run(t, files, 'diff', '--json', '--at', '2500-01-01T00:00:00Z', 'before.yaml', 'after.yaml')) as Difference;
  };
  const rule = 'pods], destinations: [eco, near]';
  const table: [what: string, from: string | RegExp, to: string, changes: string[]][] = [
    ['equivalent, written in another way', 'ports: [443, 8000-8100]', 'ports: ["443-443", 8000-8050, 8051-8100]', []],
    ['widened, for a user with a certificate', rule, rule.replace('pods', 'pods, staff'), ['allowed', 'refused']],
    ['widened, for a token with a certificate', rule, rule.replace('pods', 'pods, robots'), ['allowed', 'refused']],
    ['narrowed', 'methods: [GET, POST]', 'methods: [GET]', ['denied', 'refused']],
    ['out of report mode', ', report: true', '', ['denied']],
    ['to another place', 'https://eco.example/api/v1', 'https://eco.example/api/v2', ['otherwise']],
    ['another code', /(?=far: \{)/, 'new: { hosts: new.example, ports: 443 }\n  ', ['refused']],
    ['other changes', /$/, 'timeouts: { connect: 5s }\nlog: { level: warn }\nlimits: { headerBytes: 8KiB }\n', []],
  ];
  const found = new Map<string, Difference>();
  for (const [what, from, to, changes] of table) {
    const value = await compare(from, to);
    found.set(what, value);
    hold(t, 'diff', value, what);
    t.strictSame(new Set(value.classes.map(({ change }) => change)), new Set(changes), `${what}: what changes`);
    t.equal(value.equivalent, changes.length === 0, `${what}: equivalent`);
  }
  t.match(found.get('equivalent, written in another way'), { policyKeys: ['destinations.eco.ports'], others: { length: 0 } });
  t.match(found.get('other changes'), { others: [{ path: 'limits.headerBytes', needsRestart: true }, { path: 'timeouts.connect', needsRestart: false }, { path: 'log.level', needsRestart: false }] });
  t.match(found.get('widened, for a user with a certificate')?.classes[0]?.witness.peer, { user: 'bert', token: null, sans: ['URI:spiffe://staff/'] });
  t.match(found.get('widened, for a token with a certificate')?.classes[0]?.witness.peer, { user: null, token: { issuer: 'r', audiences: ['a'] }, sans: ['URI:spiffe://robots/'] });

  const whole = found.get('narrowed');
  const [first] = whole?.classes ?? [];
  const inside = (one: object): string[] => schemaFaults('diff', { ...whole, classes: [{ ...first, ...one }] });
  t.strictSame(inside({}), []);
  t.not(inside({ another: 1 }).length, 0, 'nor in a class');
  t.not(inside({ witness: { ...first?.witness, another: 1 } }).length, 0, 'nor in a witness');
  t.not(inside({ witness: { ...first?.witness, peer: { ...first?.witness.peer, another: 1 } } }).length, 0, 'nor in a peer');
});

t.test('test --json', async (t) => {
  const files = { 'egress.yaml': RICH, 'egress.test.yaml': TESTS };
  hold(t, 'test', await run(t, files, 'test', '--json'), 'plain');
  hold(t, 'test', await run(t, files, 'test', '--json', '--coverage'), '--coverage');
});

t.test('doctor --json', async (t) => {
  const files = { 'egress.yaml': MINIMAL.replace('eco.example', '127.0.0.1').replace('[443]', '[9]\n    addresses: [127.0.0.0/8]'), 'faulty.yaml': 'version: 2\n' };
  hold(t, 'doctor', await run(t, files, 'doctor', '--json', '--config', 'faulty.yaml'), 'faulty');
  hold(t, 'doctor', await run(t, files, 'doctor', '--json', '--config', 'egress.yaml', '--timeout', '300ms'), 'from the proxy');
  hold(t, 'doctor', await run(t, files, 'doctor', '--json', '--client', '--target', 'http://127.0.0.1:9', '--proxy', 'http://127.0.0.1:9', '--timeout', '300ms'), 'from a client');
});

t.test('lines of the log, refusals, and answers of the admin port', async (t) => {
  const lab = await startLab(t, {
    configure: (draft: Draft) => {
      draft.destinations['reported'] = { hosts: ['reported.example'], ports: [NOBODY], addresses: ['127.0.0.0/8'], report: true };
    },
  });
  const refused = await fetch(`${lab.url}/nowhere`);
  t.equal(refused.headers.get('content-type'), 'application/problem+json');
  hold(t, 'problem', await refused.json(), 'to a client');
  hold(t, 'problem', await (await fetch(`${lab.adminUrl}/nowhere`)).json(), 'by the admin port');
  hold(t, 'problem', await (await fetch(`${lab.adminUrl}/explain`)).json(), 'of a question');
  hold(t, 'explain', await (await fetch(`${lab.adminUrl}/explain?client=pods&target=${ECO}:443`)).json(), '/explain');
  t.equal((await fetch(`${lab.url}/eco/x`, { headers: { traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01' } })).status, 200);
  t.equal((await fetch(`${lab.url}/eco/x`)).status, 200, 'on a pooled connection');
  for (const request of [`CONNECT ${ECO}:${lab.upstream.httpsPort} HTTP/1.1\r\nHost: x\r\n\r\n`, `CONNECT reported.example:${NOBODY} HTTP/1.1\r\nHost: x\r\n\r\n`, 'nonsense\r\n\r\n', 'GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n']) {
    const wire = await openWire(t, lab.port);
    wire.send(request);
    await wire.until(/^HTTP\/1\.1 \d{3} /);
    wire.socket.destroy();
  }
  await lab.reload((draft) => void draft.rules.splice(0));
  await lab.logged(({ msg }) => msg === 'reload applied');
  const access = lab.log.filter((line) => 'durationMs' in line);
  t.ok(access.length >= 6, String(access.length));
  for (const line of lab.log) t.strictSame(schemaFaults('log-line', line), [], JSON.stringify(line));
  for (const line of access) t.not(schemaFaults('log-line', { ...line, another: 1 }).length, 0, 'an access line has no other field');
});

/** Nobody listens there. */
const NOBODY = 9;

t.test('an access line with every field, in every profile', async (t) => {
  const record = makeRecord({
    user: 'anna',
    subject: 'ns:x',
    san: 'DNS:a',
    wouldDeny: 'no-rule',
    verdict: 'report',
    upstreamStatus: 200,
    localAddress: '10.0.0.1',
    localPort: 4000,
    via: 'edge (proxy.example:3128)',
    attempts: 2,
    dials: 2,
    dnsMs: 1,
    tcpMs: 1,
    hopMs: 1,
    tlsMs: 1,
    firstByteMs: 1,
    traceId: '0af7651916cd43dd8448eb211c80319c',
    spanId: 'b7ad6b7169203331',
    detail: 'why',
  });
  for (const profile of ['plain', 'google', 'dynatrace'] as const) {
    const lines: string[] = [];
    const format = createLineFormat({ format: 'json', profile }, false);
    createAccessLog({ level: 'debug', format: 'json', profile }, (line) => lines.push(format(line)))(record);
    hold(t, 'log-line', JSON.parse(lines.join('')), profile);
  }
});
