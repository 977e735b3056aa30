/** Files of policy tests: what they say, and every fault of them with its place. */
import t from 'tap';
import type { TestsReading } from '../../src/policy-tests/read-tests.ts';
import { readPolicyTests } from '../../src/policy-tests/read-tests.ts';

const read = (text: string, env: Record<string, string> = {}): TestsReading => readPolicyTests('a.test.yaml', env, () => text);

function faultsOf(text: string): [place: string, problem: string, instead: string][] {
  const reading = read(text);
  return reading.ok ? [] : reading.faults.map(({ line, column, path, problem, instead }) => [`${line}:${column} ${path}`, problem, instead]);
}

t.test('every key', async (t) => {
  const reading = read(
    `config: \${DIRECTORY:-here}/egress.yaml
env: { PORT: 443, ON: true, TEXT: "a, b" }
tests:
  - { request: "GET  /eco/a b", expect: allow }
  -
    name: all
    client: { address: pods, user: u, subject: s, sans: ["DNS:a", "URI:b"] }
    request: CONNECT eco.example:443
    host: eco.example
    resolves: 10.0.0.1, ::ffff:10.0.0.2
    at: 2026-12-01T10:00:00+01:00
    expect: report
    code: no-rule
    as: pods
    destination: eco
    rule: 2
`,
    { DIRECTORY: 'there' },
  );
  t.match(reading, { ok: true });
  if (!reading.ok) return;
  const { config, env, tests } = reading.tests;
  t.equal(config, 'there/egress.yaml');
  t.strictSame(env, { PORT: '443', ON: 'true', TEXT: 'a, b' });
  t.strictSame(tests, [
    { name: 'GET /eco/a b', line: 4, request: { client: null, user: null, subject: null, sans: [], method: 'GET', target: '/eco/a b', host: null, resolve: false }, expected: { verdict: 'allow', code: null, as: null, destination: null, rule: null } },
    {
      name: 'all',
      line: 6,
      request: { client: 'pods', user: 'u', subject: 's', sans: ['DNS:a', 'URI:b'], method: 'CONNECT', target: 'eco.example:443', host: 'eco.example', resolve: false, resolves: ['10.0.0.1', '10.0.0.2'], at: Date.parse('2026-12-01T09:00:00Z') },
      expected: { verdict: 'report', code: 'no-rule', as: 'pods', destination: 'eco', rule: 2 },
    },
  ]);
  t.match(read('config: a\ntests: [{ client: 10.0.0.1, request: "GET /", expect: deny }]'), { tests: { tests: [{ name: 'GET / from 10.0.0.1' }] } });
});

t.test('faults', async (t) => {
  const table: readonly (readonly [text: string, ...found: readonly RegExp[]])[] = [
    ['', /^1:1  The file is empty\. Start from docs\/policy-tests\.md\./],
    ['config: [', /not valid YAML/],
    ['config: a', /^1:1  tests is missing at the top of the file\. Add tests: and below it a list of tests/],
    ['tests: [{ request: "GET /", expect: deny }]', /config is missing.*Add config: egress\.yaml/],
    ['config: a\ntests: []', /^2:1 tests The list is empty\./],
    ['config: a\nvars: {}\ntests: [{ request: "GET /", expect: deny }]', /^2:1 vars There is no key "vars"/],
    ['config: a\ntests: [{}]', /request is missing in tests\[0\]\. Add request: GET https/, /expect is missing in tests\[0\]\. Add expect: allow, deny or report/],
    ['config: a\ntests: [{ request: GET, expect: allow }]', /^2:20 tests\[0\]\.request "GET" is not a request\. Write METHOD and URL/],
    ['config: a\ntests: [{ request: 7, expect: allow }]', /7 is not a request/],
    ['config: a\ntests: [{ request: "GET /", expect: alow }]', /^2:37 tests\[0\]\.expect "alow" is not possible here\. Did you mean allow\?/],
    ['config: a\ntests: [{ request: "GET /", expect: deny, code: host-not-alowed }]', /tests\[0\]\.code "host-not-alowed" is not a code of docs\/errors\.md\. Did you mean host-not-allowed\?/],
    ['config: a\ntests: [{ request: "GET /", expect: deny, code: 404 }]', /404 is not a code.*Write the code of a refusal/],
    ['config: a\ntests: [{ request: "GET /", expect: deny, resolves: [eco] }]', /resolves\[0\] "eco" is not an IP address/],
    ['config: a\ntests: [{ request: "GET /", expect: deny, at: 2026-12-01 }]', /is a date without a time/],
    ['config: a\ntests: [{ request: "GET /", expect: deny, rule: -1 }]', /rule -1 is not possible here\. Write a whole number from 0/],
    ['config: a\ntests: [{ request: "GET /", expect: deny, client: { adress: 10.0.0.1 } }]', /client\.adress There is no key "adress" in tests\[0\]\.client\. Did you mean address\?/],
    ['config: a\nenv: { A: [1] }\ntests: [{ request: "GET /", expect: deny }]', /env\.A A list is not a value of a variable/],
    ['config: ${NOWHERE}\ntests: [{ request: "GET /", expect: deny }]', /The environment variable NOWHERE is not set/],
  ];
  for (const [text, ...found] of table) {
    const faults = faultsOf(text).map((fault) => fault.join(' '));
    t.equal(faults.length, found.length, `${text}\n${faults.join('\n')}`);
    for (const [index, pattern] of found.entries()) t.match(faults[index], pattern, text);
  }
  const unreadable = readPolicyTests('a.test.yaml', {}, () => {
    throw Object.assign(new Error('no'), { code: 'EACCES' });
  });
  t.match(unreadable, { ok: false, faults: [{ problem: /cannot be read/, instead: /Name another file, or a directory/ }] });
  t.match(read('a\0b'), { ok: false, faults: [{ problem: /control character U\+0000/ }] });
});
