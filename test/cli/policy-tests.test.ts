/** `test`: what passes and what fails, its outputs, its exit codes, and the tests of the shipped policy. */
import t, { type Test } from 'tap';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { runTest, type TestOptions } from '../../src/cli/test.ts';
import { recordIo } from '../support/command-io.ts';

interface Ended {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

const run = async (options: TestOptions, env: Record<string, string>, ...paths: string[]): Promise<Ended> => {
  const io = recordIo(env);
  const code = await runTest(options, io, ...paths);
  return { code, out: io.out(), err: io.err() };
};

const CONFIG = `version: 1
clients:
  pods: { addresses: [10.8.0.0/14] }
  batch: { addresses: [10.20.0.0/16], basic: [{ user: nightly, hash: "$scrypt$ln=15,r=8,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" }] }
destinations:
  eco: { hosts: [eco.example, "*.sub.example"], ports: [443], addresses: "\${RANGE:-10.40.0.0/16}", gateway: { prefix: /eco, url: "https://eco.example" } }
  tried: { hosts: [tried.example], ports: [443], report: true }
rules:
  - { clients: [pods], destinations: [eco] }
  - { clients: [batch], destinations: [tried], until: "2027-01-01T00:00:00Z" }
`;

/** A directory with the configuration and these tests, one YAML flow mapping each. */
function directory(t: Test, ...tests: readonly string[]): string {
  return t.testdir({ 'egress.yaml': CONFIG, 'egress.test.yaml': `config: egress.yaml\ntests:\n${tests.map((test) => `  - { ${test} }\n`).join('')}` });
}

t.test('what passes', async (t) => {
  const tests = [
    'client: pods, request: "CONNECT eco.example:443", expect: allow, rule: 0, as: pods, destination: eco',
    'client: 10.8.1.1, request: "GET /eco/a?b=c", resolves: [10.40.0.1], expect: allow',
    'client: 10.8.1.1, request: "GET /a", host: "a.sub.example:443", expect: allow',
    'client: 10.8.1.1, request: "TLS eco.example", expect: allow',
    'client: 10.8.1.1, request: "CONNECT eco.example:443", resolves: [10.41.0.1], expect: deny, code: address-not-allowed',
    'client: 10.8.1.1, request: "CONNECT eco.example:443", resolves: [10.41.0.1, 10.40.0.1], expect: allow',
    'client: 10.8.1.1, request: "CONNECT 10.40.0.1:443", expect: deny, code: host-not-allowed',
    'client: 10.9.0.1, request: "CONNECT eco.example:22", expect: deny, code: port-not-allowed',
    'client: 11.0.0.1, request: "CONNECT eco.example:443", expect: deny, code: client-not-allowed',
    'client: { address: 10.20.0.1, user: nightly }, request: "CONNECT tried.example:443", at: 2026-12-31T23:59:59Z, expect: allow, rule: 1, as: batch',
    'client: { address: 10.20.0.1, user: nightly }, request: "CONNECT tried.example:443", at: 2027-01-01T00:00:00Z, expect: report, code: rule-expired',
    'client: { address: 10.20.0.1, user: other }, request: "CONNECT eco.example:443", expect: deny',
    'request: "CONNECT eco.example:443", expect: allow, as: pods',
    'client: 10.8.1.1, request: "GET //x", expect: deny',
  ];
  const { code, out, err } = await run({ coverage: true, minCoverage: '100' }, {}, directory(t, ...tests));
  t.equal(code, 0, out + err);
  t.match(out, `${tests.length} tests, all passed.`);
  t.match(out, /tests touch 9 of 9 rules, clients, destinations and hosts \(100 %\)/);
});

t.test('what fails, and how it is shown', async (t) => {
  const place = directory(
    t,
    'name: "a <b> & \\"c\\" # d\\u0007", client: pods, request: "CONNECT eco.example:443", expect: deny, code: no-rule, as: batch, destination: tried, rule: 1',
    'name: fine, client: pods, request: "CONNECT eco.example:443", expect: allow',
    'client: 10.8.1.1, request: "CONNECT other.example:443", expect: allow, rule: 0',
  );
  const { code, out } = await run({}, {}, place);
  t.equal(code, 1);
  t.match(out, /FAIL {2}a <b> & "c" # d\\u0007\n {8}The verdict is allow, not deny\.\n {8}The code is ok, not no-rule\.\n {8}The client is pods, not batch\.\n {8}The destination is eco, not tried\.\n {8}The rule is rules\[0\], not rules\[1\]\.\n {8}CONNECT eco\.example:443: rules\[0\] lets pods use eco\.\n {8}.+egress\.test\.yaml:3\n/);
  t.match(out, / {2}ok {4}fine\n/);
  t.match(out, /FAIL {2}CONNECT other\.example:443 from 10\.8\.1\.1\n {8}The verdict is deny, not allow\.\n {8}The rule is none, not rules\[0\]\.\n/);
  t.match(out, '3 tests, 2 failed.');

  const tap = await run({ tap: true }, {}, place);
  t.equal(tap.code, 1);
  t.match(tap.out, /^TAP version 14\n1\.\.3\nnot ok 1 - a <b> & "c" \\# d\\u0007\n {2}---\n {2}message: "The verdict is allow, not deny\. /);
  t.match(tap.out, /\nok 2 - fine\nnot ok 3 - /);

  const json = await run({ json: true, coverage: true }, {}, place);
  t.equal(json.code, 1);
  t.match(JSON.parse(json.out), {
    ok: false,
    files: [{ tests: [{ ok: false, line: 3, differences: [{ what: 'verdict', expected: 'deny', actual: 'allow' }, {}, {}, {}, {}], rule: 'rules[0]' }, { ok: true, differences: { length: 0 } }, { ok: false, code: 'host-not-allowed', rule: null }] }],
    coverage: [{ total: 9, touched: 4, untouched: [{ kind: 'client', name: 'batch' }, { kind: 'host', name: '*.sub.example of eco' }, { kind: 'destination', name: 'tried' }, { kind: 'host', name: 'tried.example of tried' }, { kind: 'rule', name: 'rules[1]' }] }],
  });

  const junit = join(place, 'junit.xml');
  t.equal((await run({ junit }, {}, place)).code, 1);
  const xml = readFileSync(junit, 'utf8');
  t.match(xml, /<testsuite name="[^"]+" tests="3" failures="2">/);
  t.match(xml, / name="a &lt;b&gt; &amp; &quot;c&quot; # d " file="[^"]+" line="3">\n {6}<failure message="The verdict is allow, not deny\. /);
  t.match(xml, / name="fine" file="[^"]+" line="4"\/>/);
});

t.test('coverage that is not enough', async (t) => {
  const place = directory(t, 'client: pods, request: "CONNECT eco.example:443", expect: allow');
  t.equal((await run({ minCoverage: '44.4' }, {}, place)).code, 0);
  const { code, err } = await run({ minCoverage: '44.5' }, {}, place);
  t.equal(code, 1);
  t.match(err, /egress\.yaml: 44\.4 % is less than --min-coverage 44\.5\./);
  const twice = t.testdir({
    'egress.yaml': CONFIG,
    'a.test.yaml': 'config: egress.yaml\ntests: [{ client: pods, request: "CONNECT eco.example:443", expect: allow }]\n',
    below: { 'b.test.yml': 'config: ../egress.yaml\ntests: [{ client: pods, request: "CONNECT a.sub.example:443", expect: allow }]\n' },
    '.hidden': { 'c.test.yaml': 'no tests' },
    node_modules: { 'd.test.yaml': 'no tests' },
  });
  const both = await run({ minCoverage: '55' }, {}, twice);
  t.match(both, { code: 0, err: '' });
  t.match(both.out, /touch 5 of 9/, 'the tests of several files together');
});

t.test('variables of the file of tests come before those of the environment', async (t) => {
  const place = t.testdir({ 'egress.yaml': CONFIG, 'a.test.yaml': 'config: egress.yaml\nenv: { RANGE: 10.50.0.0/16 }\ntests: [{ client: pods, request: "CONNECT eco.example:443", resolves: [10.50.0.1], expect: allow }]\n' });
  t.equal((await run({}, { RANGE: '10.60.0.0/16' }, place)).code, 0);
});

t.test('what cannot be run', async (t) => {
  const good = 'client: pods, request: "CONNECT eco.example:443", expect: allow';
  const table: readonly (readonly [what: string, options: TestOptions, place: string | (() => string), said: RegExp])[] = [
    ['no such file', {}, 'nowhere', /^nowhere cannot be read: there is no such file\. Name a file of tests/],
    ['no tests', {}, () => t.testdir({ 'a.yaml': '' }), /There is no file \*\.test\.yaml in .* or below/],
    ['a percentage', { minCoverage: 'much' }, () => directory(t, good), /--min-coverage much is not a percentage/],
    ['an empty percentage', { minCoverage: '' }, () => directory(t, good), /is not a percentage/],
    ['too much', { minCoverage: '101' }, () => directory(t, good), /is not a percentage/],
    ['two outputs', { json: true, tap: true }, () => directory(t, good), /exclude each other/],
    ['a client', {}, () => directory(t, good, 'client: pod, request: "CONNECT eco.example:443", expect: allow'), /:4:15 {2}tests\[1\]\.client\n {2}"pod" is neither an IP address nor a client of the configuration\.\n {2}Did you mean pods\?/],
    ['a method', {}, () => directory(t, 'client: pods, request: "get /", expect: allow'), /tests\[0\]\.request\n {2}Methods are written in capitals: GET\./],
    ['names', {}, () => directory(t, `${good}, as: pod, destination: eci, rule: 2`), /^3 faults: .*no client "pod".*Did you mean pods.*no destination "eci".*no rules\[2\]\.\n {2}Write a number from 0 to 1\./s],
  ];
  for (const [what, options, place, said] of table) {
    const { code, out, err } = await run(options, {}, typeof place === 'string' ? place : place());
    t.equal(code, 2, what);
    t.equal(out, '', what);
    t.match(err, said, what);
  }
  const unwritten = await run({ junit: '/nowhere/junit.xml' }, {}, directory(t, good));
  t.match(unwritten, { code: 2, out: /1 test, all passed/, err: /^\/nowhere\/junit\.xml cannot be written: there is no such/ }, 'the results are shown all the same');
  const lost = t.testdir({ 'a.test.yaml': 'config: egress.yml\ntests: [{ request: "GET /", expect: deny }]\n' });
  t.match((await run({}, {}, lost)).err, /a\.test\.yaml:1:9 {2}config\n {2}.*egress\.yml cannot be read: there is no such file\./);
  const faulty = t.testdir({ 'egress.yaml': 'version: 2\n', 'a.test.yaml': 'config: egress.yaml\ntests: [{ request: "GET /", expect: deny }]\n' });
  t.match((await run({}, {}, faulty)).err, /egress\.yaml:1:10 {2}version/);
});

t.test('files that only serving needs may be missing', async (t) => {
  const place = t.testdir({
    'egress.yaml': `version: 1
listeners: { http: [{ address: "127.0.0.1:3128", forms: [connect] }], tls: ["127.0.0.1:8443"] }
tlsServer: { names: [proxy.example], certFile: nowhere.crt, keyFile: nowhere.key, clientCaFile: nowhere.pem, clientCertificate: request }
clients:
  pods: { addresses: [10.8.0.0/14], tokens: [{ issuer: "https://issuer.example", audience: a, subjects: [s], jwksFile: nowhere.json }] }
hops:
  parent: { url: ["http://parent.example:3128"], credentialsFile: nowhere.txt }
destinations:
  eco: { hosts: [eco.example], ports: [443], gateway: { prefix: /eco, url: "https://eco.example" }, via: [parent], tls: { caFile: nowhere.pem } }
rules:
  - { clients: [pods], destinations: [eco] }
`,
    'a.test.yaml': 'config: egress.yaml\ntests: [{ client: pods, request: "GET /eco/a", expect: allow }, { client: 10.8.0.1, request: "CONNECT eco.example:443", expect: deny }]\n',
  });
  const { code, out, err } = await run({}, {}, place);
  t.equal(code, 0, out + err);
});

t.test('the shipped policy and the examples pass their tests, which touch all of each', async (t) => {
  for (const directory of ['deploy/config', 'examples']) {
    const { code, out, err } = await run({ minCoverage: '100' }, {}, fileURLToPath(new URL(`../../${directory}`, import.meta.url)));
    t.equal(code, 0, out + err);
  }
});
