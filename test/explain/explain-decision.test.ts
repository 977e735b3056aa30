/** An explanation is of the decision that is enforced, says why at each step, and its advice, followed, permits the request. */
import fc from 'fast-check';
import t from 'tap';
import { parse, stringify } from 'yaml';
import { HTTP_FORMS } from '../../src/config/config.ts';
import { compilePolicy, type Policy } from '../../src/policy/compile.ts';
import { decide } from '../../src/policy/decide.ts';
import { explainDecision } from '../../src/explain/explain-decision.ts';
import { proposeChange } from '../../src/explain/suggest-change.ts';
import { NO_BOUND, runSteps } from '../../src/policy-diff/work.ts';
import type { Ask } from '../../src/policy/verdict.ts';
import { configOf } from '../support/load-text.ts';
import { makeAsk, makePeer } from '../support/policy.ts';

const FILE = `version: 1
clients:
  sit:
    addresses: ["10.8.0.0/14"]
  mesh:
    addresses: ["10.20.0.0/16"]
    certificates: ["spiffe://cluster.local/ns/sit/*"]
  people:
    addresses: ["10.30.0.0/16"]
    basic: [{ user: anna, hash: "$scrypt$ln=15,r=8,p=1$${'A'.repeat(22)}$${'A'.repeat(43)}" }]
  idle:
    addresses: ["10.40.0.0/16"]
destinations:
  eco:
    hosts: ["eco-sit.telus.internal"]
    ports: [443]
    forms: [connect, forward, gateway]
    http: { methods: [GET, POST], paths: ["/api/*"] }
  wild:
    hosts: ["*.telus.internal"]
    ports: [443, 80]
    forms: [connect, forward, gateway, host-routed]
  closed:
    hosts: [closed.example]
    ports: [443]
rules:
  - { clients: [sit], destinations: [eco], methods: [GET] }
  - { clients: [mesh], destinations: [eco, wild], until: "2027-01-01T00:00:00Z" }
  - { clients: [people], destinations: [wild], paths: ["/public/**"] }
`;
const policy = compilePolicy(configOf(FILE));
const get: Partial<Ask> = { form: 'forward', method: 'GET', path: '/api/x' };
const mesh = makePeer('10.20.0.1', { sans: ['URI:spiffe://cluster.local/ns/sit/sa/x'] });

const changeFor = (asked: Policy, ask: Ask): { text: string; yaml: string | null } => {
  const found = runSteps(proposeChange(asked, ask, NO_BOUND));
  return 'instead' in found ? { text: found.instead, yaml: null } : found.change;
};

t.test('a permitted request', async (t) => {
  const explanation = explainDecision(policy, makeAsk(get));
  t.match(explanation, {
    verdict: { verdict: 'allow', rule: 'rules[0]' },
    target: { host: 'eco-sit.telus.internal', kind: 'name', port: 443, path: '/api/x', ambiguity: null },
    rules: [{ rule: 'rules[0]', destination: 'eco', applies: true, detail: 'permits it within the method GET' }],
    report: null,
    change: null,
  });
  t.strictSame(explanation.clients[0], { name: 'sit', matches: true, chosen: true, kinds: [{ kind: 'addresses', matches: true, detail: '10.8.1.4 is in 10.8.0.0/14' }] });
  t.strictSame(explanation.destinations, [
    {
      name: 'eco',
      pattern: 'eco-sit.telus.internal',
      chosen: true,
      checks: [
        { check: 'port', passes: true, detail: '443 is among 443' },
        { check: 'form', passes: true, detail: 'forward is among connect, forward, gateway' },
        { check: 'rule', passes: true, detail: 'rules[0] lets sit use eco' },
        { check: 'method', passes: true, detail: 'GET is among GET, POST, HEAD' },
        { check: 'path', passes: true, detail: '/api/x is among /api/*' },
      ],
    },
    {
      name: 'wild',
      pattern: '*.telus.internal',
      chosen: false,
      checks: [
        { check: 'port', passes: true, detail: '443 is among 443, 80' },
        { check: 'form', passes: true, detail: 'forward is among connect, forward, gateway, host-routed' },
        { check: 'rule', passes: false, detail: 'no rule joins sit and wild' },
      ],
    },
  ]);
});

t.test('why a peer is not a client', async (t) => {
  const kindsOf = (name: string, ask: Partial<Ask>): string[] => explainDecision(policy, makeAsk(ask)).clients.find((client) => client.name === name)?.kinds.map(({ kind, matches, detail }) => `${kind} ${matches ? 'yes' : 'no'}: ${detail}`) ?? [];
  t.strictSame(kindsOf('mesh', {}), ['addresses no: 10.8.1.4 is not in 10.20.0.0/16', 'certificates no: no certificate was shown']);
  t.strictSame(kindsOf('mesh', { peer: mesh }), ['addresses yes: 10.20.0.1 is in 10.20.0.0/16', 'certificates yes: URI:spiffe://cluster.local/ns/sit/sa/x is URI:spiffe://cluster.local/ns/sit/*']);
  t.strictSame(kindsOf('mesh', { peer: makePeer('10.20.0.1', { sans: ['DNS:x'] }) })[1], 'certificates no: DNS:x is not URI:spiffe://cluster.local/ns/sit/*');
  t.strictSame(kindsOf('people', { peer: makePeer('10.30.0.1') })[1], 'basic no: no password was shown');
  t.strictSame(kindsOf('people', { peer: makePeer('10.30.0.1', { rejected: 'it is wrong' }) })[1], 'basic no: no password was accepted: it is wrong');
  t.strictSame(kindsOf('people', { peer: makePeer('10.30.0.1', { user: 'bert' }) })[1], 'basic no: bert is not among its users');
});

t.test('why a token belongs to no client', async (t) => {
  const tokens = compilePolicy(
    configOf(`version: 1
clients:
  jobs:
    tokens:
      - { issuer: a, audience: eco, subjects: "ns:x:*", jwksUrl: "https://a.example/keys" }
      - { issuer: b, audience: other, subjects: s, jwksUrl: "https://b.example/keys" }
`),
  );
  const detailOf = (issuer: string, audience: string, subject: string) => explainDecision(tokens, makeAsk({ peer: makePeer('10.0.0.1', { token: { issuer, audiences: [audience], subject } }) })).clients[0]?.kinds[0]?.detail;
  t.equal(detailOf('c', 'eco', 'ns:x:1'), 'the issuer c is not a, b');
  t.equal(detailOf('a', 'other', 'ns:x:1'), 'the audience other is not eco');
  t.equal(detailOf('a', 'eco', 'ns:y:1'), 'the subject ns:y:1 is not ns:x:*');
  t.equal(detailOf('a', 'eco', 'ns:x:1'), 'the subject ns:x:1 is ns:x:*');
});

t.test('what almost applied, and the smallest change', async (t) => {
  const table: [what: string, ask: Partial<Ask>, rule: RegExp | null, text: RegExp, yaml: string | null][] = [
    ['port, then rule', { ...get, port: 22, host: 'closed.example' }, null, /^add 22 to destinations\.closed\.ports, for all of its hosts and clients; add a rule for sit and closed$/, 'destinations:\n  closed:\n    ports: [443, 22]\nrules:\n  - { clients: [sit], destinations: [closed] }\n'],
    ['form', { form: 'sni', host: 'a.telus.internal', peer: mesh }, null, /^add sni to destinations\.wild\.forms, for all of its clients$/, 'destinations:\n  wild:\n    forms: [connect, forward, gateway, host-routed, sni]\n'],
    ['a form that would take over from a wildcard', { ...get, form: 'host-routed', host: 'eco-sit.telus.internal', peer: makePeer('10.40.0.1'), destination: 'eco' }, null, /^no change is proposed: it would deny eco-sit\.telus\.internal, port 443, by /, null],
    ['a tunnel past methods and paths', { form: 'sni', host: 'eco-sit.telus.internal', destination: 'eco', method: null }, null, /sni would go round the limits of eco/, null],
    ['a host that no policy can name', { host: '*.evil.example' }, null, /not a host that a policy can name/, null],
    ['host', { host: 'e-vil.example' }, null, /vil/, 'destinations:\n  e-vil-example:\n    hosts: ["e-vil.example"]\n    ports: [443]\nrules:\n  - { clients: [sit], destinations: [e-vil-example] }\n'],
    ['a private address as host', { host: '10.40.1.9' }, null, /10\.40\.1\.9/, 'destinations:\n  host-10-40-1-9:\n    hosts: ["10.40.1.9"]\n    ports: [443]\n    addresses: ["10.40.1.9/32"]\nrules:\n  - { clients: [sit], destinations: [host-10-40-1-9] }\n'],
    ['the metadata address as host', { host: '169.254.169.254' }, null, /is a metadata address, where no partner is/, null],
    ['rule', { host: 'closed.example' }, null, /^add a rule for sit and closed$/, 'rules:\n  - { clients: [sit], destinations: [closed] }\n'],
    ['client', { peer: makePeer('::ffff:192.0.2.1') }, null, /192\.0\.2\.1/, 'clients:\n  new-client: { addresses: ["192.0.2.1/32"] }\nrules:\n  - { clients: [new-client], destinations: [eco] }\n'],
    ['a client that has shown a certificate', { peer: makePeer('192.0.2.1', { sans: ['DNS:x'] }) }, null, /as well as the address/, null],
    ['a client whose credentials were not accepted', { peer: makePeer('192.0.2.1', { rejected: 'the password is wrong' }) }, null, /credentials/, null],
    ['no address', { peer: makePeer('x') }, null, /x is not an address/, null],
    ['hidden method', { destination: 'eco' }, /lists methods, which connect hides/, /^use a form in which methods can be seen/, null],
    ['method of the rule', { ...get, method: 'PUT' }, /lists the method GET, not PUT/, /^add a rule for sit and eco and the method PUT; add PUT to destinations\.eco\.http\.methods, for all of its clients$/, 'destinations:\n  eco:\n    http:\n      methods: [GET, POST, PUT]\nrules:\n  - { clients: [sit], destinations: [eco], methods: [PUT] }\n'],
    ['method of the rule alone', { ...get, method: 'POST' }, null, /^add a rule for sit and eco and the method POST$/, 'rules:\n  - { clients: [sit], destinations: [eco], methods: [POST] }\n'],
    ['path of the destination', { ...get, path: '/x' }, /permits it/, /^add \/x to destinations\.eco\.http\.paths, for all of its clients$/, 'destinations:\n  eco:\n    http:\n      paths: ["/api/*", "/x"]\n'],
    ['time', { ...get, host: 'a.telus.internal', peer: mesh, now: Date.UTC(2027, 0) }, /ended at 2027-01-01T00:00:00Z/, /^if it is still needed, write a later until in rules\[1\], or add a rule for mesh and wild$/, 'rules:\n  - { clients: [mesh], destinations: [wild] }\n'],
    ['credentials', { peer: makePeer('10.30.0.1') }, null, /Basic/, null],
    ['credentials in raw TLS', { form: 'sni', peer: makePeer('10.30.0.1') }, null, /^use another form than sni, which cannot carry/, null],
    ['a path no pattern can name', { ...get, path: '/x*' }, /permits it/, /no pattern can name/, null],
  ];
  for (const [what, ask, rule, text, yaml] of table) {
    const explanation = explainDecision(policy, makeAsk(ask));
    const change = changeFor(policy, makeAsk(ask));
    t.match(change.text, text, what);
    t.equal(change.yaml ?? null, yaml, what);
    if (rule !== null) t.match(explanation.rules[0]?.detail, rule, what);
  }
  t.match(changeFor(policy, makeAsk({ ...get, path: '/api/../x' })), { text: /plain form/, yaml: null }, 'nothing permits this');
  t.match(explainDecision(policy, makeAsk({ ...get, path: '/api/../x' })), { target: { path: '/api/../x', ambiguity: 'has a dot segment' } });
});

t.test('what report mode does', async (t) => {
  const withMode = (text: string): Policy => compilePolicy(configOf(text));
  const reportOf = (asked: Policy, more: Partial<Ask>) => explainDecision(asked, makeAsk({ ...get, ...more })).report;
  const all = withMode(`${FILE}mode: report\n`);
  t.equal(reportOf(all, { port: 22 }), 'It passes because of mode: report. Enforced, it would be denied: port-not-allowed.');
  t.equal(reportOf(all, {}), null);
  t.match(reportOf(all, { path: '/api/../x' }), /never lets a path pass/);
  t.equal(reportOf(policy, { port: 22 }), null);
  t.match(reportOf(withMode(FILE.replace('forms:', 'report: true\n    forms:')), { method: 'PUT' }), /because of destinations\.eco\.report/);
  t.match(reportOf(withMode(FILE.replace('methods: [GET] }', 'methods: [GET], report: true }')), { method: 'PUT' }), /because of rules\[0\]\.report/);
  for (const reporting of [FILE.replace('forms:', 'report: true\n    forms:'), FILE.replace('methods: [GET] }', 'methods: [GET], report: true }')]) {
    t.match(reportOf(withMode(reporting), { method: 'PUT', path: '/api/../x' }), /never lets a path pass/);
  }
});

interface Document {
  clients: Record<string, object>;
  destinations: Record<string, { http?: object }>;
  rules: object[];
}

/** The file after the advice, as a person would edit it. */
function follow(file: string, advice: string): string {
  const document = parse(file) as Document;
  const change = parse(advice) as Partial<Document>;
  for (const [name, entry] of Object.entries(change.clients ?? {})) document.clients[name] = entry;
  for (const [name, entry] of Object.entries(change.destinations ?? {})) {
    const old = document.destinations[name];
    document.destinations[name] = old === undefined ? entry : { ...old, ...entry, http: { ...old.http, ...entry.http } };
  }
  document.rules.push(...(change.rules ?? []));
  return stringify(document);
}

t.test('the same verdict, consistent reasons, and advice that leads to permission', async (t) => {
  const asks = fc.record({
    form: fc.constantFrom(...HTTP_FORMS),
    peer: fc.constantFrom(makePeer('10.8.1.4'), mesh, makePeer('10.30.0.1', { user: 'anna' }), makePeer('10.40.0.1'), makePeer('192.0.2.1')),
    host: fc.constantFrom('eco-sit.telus.internal', 'a.telus.internal', 'closed.example', 'evil.example', '192.0.2.7', 'fd00::7'),
    port: fc.constantFrom(443, 80, 22),
    method: fc.constantFrom('GET', 'PUT', 'M-SEARCH'),
    path: fc.constantFrom('/api/x', '/public/a/b', '/other', '/%7euser', '/a b'.replace(' ', '%20')),
    now: fc.constantFrom(0, Date.UTC(2030, 0)),
  });
  let followed = 0;
  fc.assert(
    fc.property(asks, (drawn) => {
      const ask: Ask = drawn.form === 'connect' ? { ...drawn, method: null, path: null } : drawn;
      let file = FILE;
      for (let step = 0; ; step += 1) {
        const asked = compilePolicy(configOf(file));
        const explanation = explainDecision(asked, ask);
        const { verdict, clients, destinations } = explanation;
        const change = verdict.verdict === 'allow' ? null : changeFor(asked, ask);
        if (JSON.stringify(verdict) !== JSON.stringify(decide(asked, ask))) throw new Error('another verdict than that of decide');
        if ((clients.find(({ matches }) => matches)?.name ?? null) !== (verdict.client?.name ?? null)) throw new Error('another client than that of decide');
        if (verdict.verdict === 'allow') {
          const chosen = destinations.find((destination) => destination.chosen);
          if (chosen?.checks.every(({ passes }) => passes) !== true) throw new Error(`allowed with ${JSON.stringify(chosen)}`);
          break;
        }
        if (change === null) throw new Error('no words for what is denied');
        if (change.yaml === null) break;
        if (step === 1) throw new Error(`still denied: ${JSON.stringify(verdict)}\n${file}`);
        file = follow(file, change.yaml);
        followed += 1;
      }
    }),
    { numRuns: 300 },
  );
  t.ok(followed > 100, `${followed} pieces of advice followed`);
});
