/** `check`: what it prints, where, and its exit code. */
import t, { type Test } from 'tap';
import { relative } from 'node:path';
import { runCheck } from '../../src/cli/check.ts';
import { SHIPPED_CONFIG } from '../../src/cli/open-config.ts';
import { eco } from '../support/eco.ts';
import { recordIo } from '../support/command-io.ts';
import { MINIMAL } from '../support/load-text.ts';

const FULL = `version: 1
listeners:
  http: ["[::]:8080", { address: "127.0.0.1:3128", forms: connect }]
  admin: 127.0.0.1:9090
clients:
  pods: { addresses: [10.8.0.0/14, "fd00::/8"] }
  batch: { addresses: 192.0.2.0/24 }
destinations:
  eco:
    hosts: [eco.example, "*.eco.example"]
    ports: [443, 8443]
    addresses: 10.40.0.0/16
    forms: [forward, gateway]
    gateway: { prefix: /eco, url: "https://eco.example/base" }
    http: { methods: [GET, POST], paths: [/api/*, /health] }
  status: { hosts: status.example, ports: 80 }
rules:
  - { clients: [pods], destinations: [eco] }
  - { clients: [batch, pods], destinations: [status, eco] }
`;

async function check(t: Test, text: string, json = false) {
  const directory = t.testdir({ 'egress.yaml': text });
  const io = recordIo();
  const file = `${directory}/egress.yaml`;
  const exitCode = await runCheck({ config: file, json }, io);
  return { exitCode, file, out: io.out(), err: io.err() };
}

t.test('a valid file is shown as what it permits', async (t) => {
  const { exitCode, file, out, err } = await check(t, FULL);
  t.equal(exitCode, 0);
  t.equal(err, '');
  t.match(out, new RegExp(`^${RegExp.escape(file)} is valid \\([0-9a-f]{16}\\)\\.\n`));
  const by = ['connect', 'forward', 'host-routed', 'sni'];
  const pods = ['10.8.0.0/14', 'fd00::/8'];
  const eco = { hosts: ['eco.example', '*.eco.example'], ports: ['443', '8443'], by: ['forward', 'gateway /eco'], methods: ['GET', 'POST'], paths: ['/api/*', '/health'], resolving: ['to 10.40.0.0/16'] };
  const status = { hosts: ['status.example'], ports: ['80'], by, methods: ['any'], paths: ['any'], resolving: ['to public addresses'] };
  t.strictSame(permitsOf(out), [
    { head: 'pods may reach eco (rules[0])', from: pods, ...eco },
    { head: 'pods may reach status (rules[1])', from: pods, ...status },
    { head: 'batch may reach eco (rules[1])', from: ['192.0.2.0/24'], ...eco },
    { head: 'batch may reach status (rules[1])', from: ['192.0.2.0/24'], ...status },
  ]);
  t.match(out, /Listeners:\n {2}http {3}\[::\]:8080 +connect, forward, gateway, host-routed\n {2}http {3}127\.0\.0\.1:3128 +connect\n {2}tls {4}0\.0\.0\.0:8443 +sni\n {2}admin {2}127\.0\.0\.1:9090 +\/metrics, \/healthz, \/readyz\n/);
  t.notMatch(out, /warning/);
});

t.test('parents on the way', async (t) => {
  const text = `version: 1
clients: { pods: { addresses: 10.8.0.0/14 } }
destinations:
  near: { hosts: near.example, ports: 443, addresses: 10.40.0.0/16, via: [edge, core] }
  far: { hosts: far.example, ports: 443, via: edge, resolve: parent }
rules: [{ clients: pods, destinations: [near, far] }]
hops: { edge: { url: "http://edge.example:3128" }, core: { url: "socks5://core.example" } }
`;
  const { exitCode, out } = await check(t, text);
  t.equal(exitCode, 0);
  t.match(permitsOf(out), [{ resolving: ['to 10.40.0.0/16'], 'by way of': ['edge', 'core'] }, { resolving: ['to what the parent finds'], 'by way of': ['edge'] }]);
  t.match(JSON.parse((await check(t, text, true)).out), { permits: [{ via: ['edge', 'core'], resolve: 'here' }, { via: ['edge'], resolve: 'parent' }] });
});

t.test('who has to show what, limits of rules, and report mode', async (t) => {
  const hash = `$scrypt$ln=15,r=8,p=1$${'A'.repeat(22)}$${'A'.repeat(43)}`;
  const { exitCode, out } = await check(
    t,
    `version: 1
mode: report
clients:
  people: { addresses: 10.8.0.0/14, basic: [{ user: anna, hash: "${hash}" }] }
  mesh: { certificates: "spiffe://cluster.local/*" }
  jobs: { tokens: [{ issuer: i, audience: a, subjects: "ns:*", jwksUrl: "https://i.example/keys" }] }
destinations:
  eco: { hosts: eco.example, ports: 443, forms: [connect, forward], http: { methods: [GET, PUT], paths: [/api/*] } }
  tunnels: { hosts: t.example, ports: 443, forms: [connect] }
rules:
  - { clients: people, destinations: [eco, tunnels], methods: [GET, POST], paths: /api/a, from: 2027-01-01T00:00Z, until: 2028-01-01T00:00:30Z }
  - { clients: [people, mesh, jobs], destinations: eco }
  - { clients: mesh, destinations: eco, methods: [GET] }
`,
  );
  t.equal(exitCode, 0);
  t.match(out, 'Report mode denies nothing; enforced, it would permit this alone:\n');
  const all = { hosts: ['eco.example'], ports: ['443'] };
  const rest = { by: ['connect', 'forward'], methods: ['GET', 'PUT'], paths: ['/api/*'], resolving: ['to public addresses'] };
  const people = { from: ['10.8.0.0/14'], 'as user': ['anna'] };
  t.strictSame(permitsOf(out), [
    { head: 'people may reach eco (rules[0])', ...people, ...all, by: ['forward'], methods: ['GET'], paths: ['/api/a'], 'and within': ['/api/*'], resolving: ['to public addresses'], when: ['from 2027-01-01T00:00Z', 'until 2028-01-01T00:00Z'] },
    { head: 'people may reach eco (rules[1])', ...people, ...all, ...rest },
    { head: 'mesh may reach eco (rules[1])', from: ['anywhere'], certificate: ['URI:spiffe://cluster.local/*'], ...all, ...rest },
    { head: 'jobs may reach eco (rules[1])', from: ['anywhere'], 'token of': ['ns:*'], ...all, ...rest },
  ]);
  t.notMatch(out, hash);
});

t.test('raw TLS is not listed for a client that needs credentials', async (t) => {
  const { out } = await check(t, MINIMAL.replace('clients:', 'clients:\n  mesh: { certificates: "spiffe://cluster.local/*" }').replace('rules:', 'rules:\n  - { clients: [mesh], destinations: [eco] }'));
  t.strictSame(permitsOf(out).map(({ head, by }) => [head, by?.includes('sni')]), [['mesh may reach eco (rules[0])', false], ['pods may reach eco (rules[1])', true]]);
});

t.test("destinations that get the client's address", async (t) => {
  const { out } = await check(t, MINIMAL.replace('ports: [443]', 'ports: [443]\n    proxyProtocol: v2'));
  t.match(permitsOf(out), [{ sends: ["the client's address", 'by PROXY v2'] }]);
});

t.test('--json gives the same as data', async (t) => {
  const { exitCode, file, out, err } = await check(t, FULL, true);
  t.equal(exitCode, 0);
  t.equal(err, '');
  const report = JSON.parse(out) as { permits: { client: string; destination: string; rule: string; gateway: string | null }[] };
  t.match(report, { ok: true, file, hash: /^[0-9a-f]{16}$/, warnings: { length: 0 }, listeners: { admin: { port: 9090 } } });
  t.strictSame(report.permits.map(({ client, destination, rule }) => `${client} ${destination} ${rule}`), ['pods eco rules[0]', 'pods status rules[1]', 'batch eco rules[1]', 'batch status rules[1]']);
  t.equal(report.permits[0]?.gateway, '/eco -> https://eco.example:443/base');
});

t.test('warnings come with it, and do not fail it', async (t) => {
  const { exitCode, out } = await check(t, MINIMAL.replace('10.8.0.0/14', '0.0.0.0/0'));
  t.equal(exitCode, 0);
  t.match(out, /\nOne warning:\n\n.*egress\.yaml:4:17 {2}clients\.pods\.addresses\[0\]\n {2}0\.0\.0\.0\/0 makes every address/);
});

t.test('a file that permits nothing says so', async (t) => {
  const { exitCode, out } = await check(t, 'version: 1\n');
  t.equal(exitCode, 0);
  t.match(out, /It permits nothing: every request is denied\./);
  t.match((await check(t, MINIMAL.replace('[eco] }', '[eco], methods: [GET] }').replace('[443]', '[443]\n    forms: [forward]\n    http: { methods: [POST] }'))).out, /It permits nothing: every request is denied\.[^]*None of these methods is among those of eco/);
});

t.test('methods that rule and destination both permit, and HEAD with GET', async (t) => {
  for (const [rule, destination, methods] of [['[HEAD]', '[GET, POST]', ['HEAD']], ['[GET]', '[HEAD]', ['HEAD']], ['[GET, PUT]', '[POST, GET]', ['GET']], ['[HEAD, GET]', '[GET]', ['HEAD', 'GET']]] as const) {
    const { out } = await check(t, MINIMAL.replace('[eco] }', `[eco], methods: ${rule} }`).replace('[443]', `[443]\n    forms: [forward]\n    http: { methods: ${destination} }`));
    t.match(permitsOf(out), [{ methods }], `${rule} ${destination}`);
  }
});

t.test('every fault of a faulty file goes to stderr, with exit code 2', async (t) => {
  const { exitCode, file, out, err } = await check(t, MINIMAL.replace('[443]', '[443, 0]').replace('[eco] }', '[ecco] }'));
  t.equal(exitCode, 2);
  t.equal(out, '');
  t.match(err, `2 faults in ${file}: fix them and try again.\n\n${file}:8:18  destinations.eco.ports[1]\n  0 is not a port.`);
  t.match(err, 'Did you mean eco?');
});

t.test('--json of a faulty file goes to stdout, for programs', async (t) => {
  const { exitCode, file, out, err } = await check(t, MINIMAL.replace('[443]', '[0]'), true);
  t.equal(exitCode, 2);
  t.equal(err, '');
  t.strictSame(JSON.parse(out), {
    ok: false,
    file,
    faults: [{ file, line: 8, column: 13, path: 'destinations.eco.ports[0]', problem: '0 is not a port.', instead: 'Write a whole number from 1 to 65535, or a range of them: 8000-8100.' }],
  });
});

t.test('which file is checked', async (t) => {
  const directory = t.testdir({ 'from-option.yaml': MINIMAL, 'from-env.yaml': MINIMAL });
  const env = { ECO_EGRESS_CONFIG: `${directory}/from-env.yaml` };
  const checked = async (options: { config?: string }, environment: Record<string, string>) => {
    const io = recordIo(environment);
    t.equal(await runCheck(options, io), 0);
    return io.out().split(' is valid')[0];
  };
  t.equal(await checked({ config: `${directory}/from-option.yaml` }, env), `${directory}/from-option.yaml`);
  t.equal(await checked({}, env), `${directory}/from-env.yaml`);
  t.equal(await checked({}, { ECO_EGRESS_CONFIG: '' }), relative('', SHIPPED_CONFIG));
});

t.test('report mode of a part is shown at that part, and not as denied', async (t) => {
  const { out } = await check(t, MINIMAL.replace('destinations: [eco] }', 'destinations: [eco], report: true }'));
  t.match(out, 'It permits this, and denies everything else but what passes in report mode:\n');
  t.match(permitsOf(out), [{ 'report mode': ['every other request for it passes too', 'and is reported'] }]);
  t.match(JSON.parse((await check(t, MINIMAL.replace('ports: [443]', 'ports: [443]\n    report: true'), true)).out), { permits: [{ report: true }] });
});

t.test('report mode is shown where it is in effect, regardless of the rules beside it', async (t) => {
  const rule = (more: string): string => MINIMAL.replace('destinations: [eco] }', `destinations: [eco] }\n  - { clients: [pods], destinations: [eco], report: true${more} }`);
  const EXCEPT = 'It permits this, and denies everything else but what passes in report mode:\n';
  const ALONE = 'It permits this, and denies everything else:\n';
  const beside = (await check(t, rule(''))).out;
  t.match(beside, EXCEPT);
  t.match(permitsOf(beside).at(-1), { head: 'pods may reach eco (rules[1])', 'report mode': [String, String] }, 'a rule without limits stands before it');
  t.match((await check(t, rule(', until: "2026-01-01T00:00:00Z"'))).out, ALONE, 'it has ended');
  t.notMatch((await check(t, MINIMAL.replace('destinations: [eco] }', 'destinations: [eco], report: true, until: "2026-01-01T00:00:00Z" }'))).out, 'report mode');
  const hidden = MINIMAL.replace('ports: [443]', 'ports: [443]\n    forms: [connect]').replace('destinations: [eco] }', 'destinations: [eco], methods: [GET], report: true }');
  t.match((await check(t, hidden)).out, EXCEPT, 'it can permit no request of this form');
  const unnamed = MINIMAL.replace('destinations:\n', 'destinations:\n  trial: { hosts: trial.example, ports: 443, report: true }\n');
  t.match((await check(t, unnamed)).out, EXCEPT, 'no rule names the destination');
  t.match((await check(t, unnamed.replace(/rules:[^]*/, 'rules: []\n'))).out, 'It permits nothing, and denies everything but what passes in report mode.\n');
});

t.test('a form that cannot show what the client has to show is not listed', async (t) => {
  const hash = `$scrypt$ln=15,r=8,p=1$${'A'.repeat(22)}$${'A'.repeat(43)}`;
  const { out } = await check(t, MINIMAL.replace('addresses: ["10.8.0.0/14"]', `basic: [{ user: anna, hash: "${hash}" }]`));
  t.strictSame(permitsOf(out).map(({ by }) => by), [['connect', 'forward', 'host-routed']]);
});

t.test('no line is longer than 100 columns, and a long list is cut and counted', async (t) => {
  const hosts = Array.from({ length: 500 }, (_, index) => `host-number-${index}.example`);
  const { out } = await check(t, MINIMAL.replace('[eco.example]', JSON.stringify(hosts)));
  t.ok(out.includes('host-number-7.example') && !out.includes('host-number-499.example'));
  t.match(out, / and \d+ more, which --json shows\n/);
  const [, ...lines] = out.split('\n');
  t.strictSame(lines.filter((line) => line.length > 100), []);
});

t.test('twice the configuration takes about twice the work', async (t) => {
  const many = (count: number): string => {
    const names = Array.from({ length: count }, (_, index) => `d-${index}`);
    const ports = Array.from({ length: count }, (_, index) => index + 1).join(', ');
    return `version: 1\nclients: { pods: { addresses: 10.8.0.0/14 } }\ndestinations:\n${names.map((name) => `  ${name}: { hosts: [${name}.example], ports: [443] }\n`).join('')}  all: { hosts: [all.example], ports: [${ports}] }\nrules: [{ clients: [pods], destinations: [${names.join(', ')}, all] }]\n`;
  };
  const work = async (text: string): Promise<number> => {
    const before = process.cpuUsage();
    t.equal((await check(t, text)).exitCode, 0);
    const { user, system } = process.cpuUsage(before);
    return user + system;
  };
  const clients = (count: number): string => {
    const names = Array.from({ length: count }, (_, index) => `c-${index}`);
    return `version: 1\nclients:\n${names.map((name, index) => `  ${name}: { addresses: 10.${index >> 8}.${index & 255}.0/24 }\n`).join('')}destinations: { eco: { hosts: [eco.example], ports: [443] } }\nrules: [{ clients: [${names.join(', ')}], destinations: [eco] }]\n`;
  };
  const rules = (count: number): string => {
    const places = Array.from({ length: count }, (_, index) => index);
    return `version: 1\nclients:\n  pods: { addresses: 10.128.0.0/9 }\n${places.map((index) => `  c-${index}: { addresses: 10.${index >> 8}.${index & 255}.0/24 }\n`).join('')}destinations:\n${places.map((index) => `  d-${index}: { hosts: [d-${index}.example], ports: [443] }\n`).join('')}rules:\n${places.map((index) => `  - { clients: [pods, c-${index}], destinations: [d-${index}] }\n`).join('')}`;
  };
  for (const [what, text, least] of [['destinations and ports', many, 1_000], ['clients', clients, 250], ['rules', rules, 1_000]] as const) {
    await work(text(least));
    const [one, eight] = [await work(text(least)), await work(text(8 * least))];
    // What is quadratic takes 64 times as much; the collector of garbage takes its share of what is not.
    t.ok(eight < 28 * one, `${what}: ${eight} of ${one} microseconds`);
  }
});

/** Each permit as its lists. */
function permitsOf(out: string): Record<string, string | string[]>[] {
  const paragraphs = out.split('\n\n').filter((text) => / may reach .* \(rules\[/.test(text));
  return paragraphs.map((text) => {
    const [head = '', ...lines] = text.trimEnd().split('\n');
    const lists: Record<string, string | string[]> = { head };
    let label = '';
    for (const line of lines) {
      label = line.slice(2, 13).trim() || label;
      const before = lists[label];
      lists[label] = [...(Array.isArray(before) ? before : []), ...line.slice(15).split(', ').map((entry) => entry.replace(/,$/, ''))];
    }
    return lists;
  });
}

t.test('with the settings of the Deployment, which decide before the environment', async (t) => {
  const directory = t.testdir({ 'egress.yaml': MINIMAL.replace(/addresses: [^}\n]*/, 'addresses: "${PODS:-10.8.0.0/14}"'), 'settings.env': 'PODS=10.20.0.0/16\n', 'quoted.env': 'PODS="10.20.0.0/16"\n' });
  const run = async (settings: string, json = false) => {
    const io = recordIo({ PODS: '10.30.0.0/16' });
    return { code: await runCheck({ config: `${directory}/egress.yaml`, settings: `${directory}/${settings}`, json }, io), out: io.out(), err: io.err() };
  };
  t.match(await run('settings.env'), { code: 0, out: /from +10\.20\.0\.0\/16\n/ });
  t.match(JSON.parse((await run('settings.env', true)).out), { permits: [{ clientAddresses: ['10.20.0.0/16'] }] });
  t.match(await run('quoted.env'), { code: 2, out: '', err: /^--settings: .*quoted\.env:1: The quotes would be part of the value of PODS/ });
  t.match(await run('none.env'), { code: 2, out: '', err: /^--settings: .*none\.env cannot be read/ });
});

t.test('whose a rule is, and why it is there', async (t) => {
  const text = MINIMAL.replace('[eco] }', `[eco], until: "2999-01-01T00:00Z", owner: "team <a> & b", ticket: CHG-1, reason: "${'many words '.repeat(25).trim()}" }`);
  const { out } = await check(t, text);
  t.match(out, / {2}owner {8}team <a> & b\n {2}ticket {7}CHG-1\n {2}reason {7}many words many /);
  t.strictSame(out.split('\n').slice(1).filter((line) => line.length > 100), [], 'a long reason is wrapped');
  t.match(JSON.parse((await check(t, text, true)).out), { permits: [{ owner: 'team <a> & b', ticket: 'CHG-1', reason: /^many words .* words$/, until: '2999-01-01T00:00:00.000Z' }] });
  t.match(JSON.parse((await check(t, MINIMAL, true)).out), { permits: [{ owner: null, ticket: null, reason: null }] });
});

t.test('the rates of a rule', async (t) => {
  const text = MINIMAL.replace('[eco] }', '[eco], rate: { perAddress: { requests: 50/s burst 100, tunnels: 5/s }, perClient: { received: 10GiB/day }, whenExhausted: cut } }');
  const { out } = await check(t, text);
  t.match(out, / {2}at most {6}requests 50\/s burst 100 for each address, tunnels 5\/s for each address,\n {15}received 10GiB\/day for the client,\n {15}what is under way is cut when its bytes are used up\n/);
  const rate = ['requests 50/s burst 100 for each address', 'tunnels 5/s for each address', 'received 10GiB/day for the client', 'what is under way is cut when its bytes are used up'];
  t.match(JSON.parse((await check(t, text, true)).out), { permits: [{ rate }] });
  t.match(JSON.parse((await check(t, MINIMAL, true)).out), { permits: [{ rate: { length: 0 } }] });
});

t.test('--expired: rules that have ended, and those that soon will', async (t) => {
  const at = (days: number): string => `${new Date(Date.now() + days * 86_400_000).toISOString().slice(0, 19)}Z`;
  const file = (...rules: string[]): string => MINIMAL.replace(/rules:.*/s, `rules:\n  - { clients: [pods], destinations: [eco] }\n${rules.map((rule) => `  - { clients: [pods], destinations: [eco], ${rule} }\n`).join('')}`);
  const run = async (text: string, ...more: string[]) => eco(['check', '--config', 'egress.yaml', '--expired', ...more], { cwd: t.testdir({ 'egress.yaml': text }) });
  const [ended, soon, later] = [`until: "${at(-1)}", owner: payments, ticket: CHG-1042, reason: The old way`, `until: "${at(13)}", owner: ops`, `until: "${at(15)}"`];
  t.match(await run(file(later)), { code: 0, err: '', out: 'egress.yaml: no rule has ended, and no rule ends within 14 days.\n' });
  t.match(await run(file(soon, later)), { code: 0, err: '', out: /^egress\.yaml: no rule has ended, and one rule ends within 14 days\.\n\nrules\[1\] ends soon, at [^\n]*Z\n {2}clients {6}pods\n {2}to {11}eco\n {2}owner {8}ops\n$/ });
  t.match(await run(file(ended, soon, later, ended)), {
    code: 1,
    err: '',
    out: /^egress\.yaml: 2 rules have ended, and one rule ends within 14 days\.\n\nrules\[1\] has ended, at .*Z\n.*\n.*\n {2}owner {8}payments\n {2}ticket {7}CHG-1042\n {2}reason {7}The old way\n\nrules\[4\] has ended[^]*rules\[2\] ends soon/,
  });
  const json = await run(file(ended, soon, later), '--json');
  t.equal(json.code, 1);
  t.match(JSON.parse(json.out), { ok: false, file: 'egress.yaml', hash: /^[0-9a-f]{16}$/, ended: [{ rule: 'rules[1]', owner: 'payments', ticket: 'CHG-1042', reason: 'The old way', clients: ['pods'], destinations: ['eco'], until: /Z$/ }], soon: [{ rule: 'rules[2]', owner: 'ops', ticket: null }] });
  const fine = await run(file(later), '--json');
  t.match([fine.code, JSON.parse(fine.out)], [0, { ok: true, ended: { length: 0 }, soon: { length: 0 } }]);
  t.match(await run('version: 2\n'), { code: 2, out: '', err: /^One fault/ });
  const faulty = await run('version: 2\n', '--json');
  t.match([faulty.code, JSON.parse(faulty.out)], [2, { ok: false, faults: [{ path: 'version' }] }]);
  t.match(await run(file(), '--effective'), { code: 2, out: '', err: /--expired and --effective exclude each other/ });
});
