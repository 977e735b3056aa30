import fc from 'fast-check';
import t from 'tap';
import type { HttpForm } from '../../src/config/config.ts';
import { compilePolicy, type PolicyConfig } from '../../src/policy/compile.ts';
import { decide, identify } from '../../src/policy/decide.ts';
import type { Ask, Peer, Verdict } from '../../src/policy/verdict.ts';
import type { FaultCode } from '../../src/errors.ts';
import { makeAsk, makeClient, makeDestination, makePeer, makeRule } from '../support/policy.ts';

const ECO = 'eco-sit.telus.internal';
const ALL: HttpForm[] = ['connect', 'forward', 'gateway', 'host-routed'];

const destination = makeDestination;
const sit = makeClient('dynatrace-sit', { addresses: ['10.8.0.0/14', 'fd00::/8'] });
const ops = makeClient('ops', { addresses: ['10.0.0.0/8'] });

const config: PolicyConfig = {
  mode: 'enforce',
  clients: [sit, ops],
  destinations: [
    destination('eco-sit', [ECO, '192.0.2.1']),
    destination('eco-api', ['api.telus.internal'], { methods: ['GET', 'POST'], paths: ['/api/*', '/health', '/%7Euser'] }),
    destination('wild', ['*.partner.example'], { ports: [443], forms: ['connect'] }),
    destination('forbidden', ['unused.example']),
    destination('seen', ['seen.example'], { forms: ['sni', 'gateway', 'forward'], paths: ['/a'] }),
  ],
  rules: [
    makeRule(['ops'], ['wild']),
    makeRule(['dynatrace-sit'], ['eco-sit', 'eco-api', 'wild']),
    makeRule(['dynatrace-sit', 'ops'], ['eco-sit']),
  ],
};
const policy = compilePolicy(config);

const base = makeAsk({ peer: makePeer('10.8.1.4') });
const ask = (more: Partial<Ask>): Verdict => decide(policy, { ...base, ...more });

t.test('what is allowed, and by which rule', async (t) => {
  const table: [more: Partial<Ask>, client: string, destination: string, rule: string][] = [
    [{}, 'dynatrace-sit', 'eco-sit', 'rules[1]'],
    [{ peer: makePeer('::ffff:10.11.255.255') }, 'dynatrace-sit', 'eco-sit', 'rules[1]'],
    [{ peer: makePeer('fd00::1') }, 'dynatrace-sit', 'eco-sit', 'rules[1]'],
    [{ peer: makePeer('10.12.0.0') }, 'ops', 'eco-sit', 'rules[2]'],
    [{ peer: makePeer('10.7.255.255'), host: 'a.b.partner.example' }, 'ops', 'wild', 'rules[0]'],
    [{ host: '192.0.2.1', port: 80 }, 'dynatrace-sit', 'eco-sit', 'rules[1]'],
    [{ form: 'forward', method: 'PATCH', path: '/a/../b' }, 'dynatrace-sit', 'eco-sit', 'rules[1]'],
    [{ form: 'gateway', method: 'GET', path: '/a' }, 'dynatrace-sit', 'eco-sit', 'rules[1]'],
    [{ host: 'api.telus.internal', form: 'forward', method: 'GET', path: '/api/' }, 'dynatrace-sit', 'eco-api', 'rules[1]'],
    [{ host: 'api.telus.internal', form: 'forward', method: 'HEAD', path: '/api/%76%31' }, 'dynatrace-sit', 'eco-api', 'rules[1]'],
    [{ host: 'api.telus.internal', form: 'forward', method: 'POST', path: '/healt%68' }, 'dynatrace-sit', 'eco-api', 'rules[1]'],
    [{ host: 'api.telus.internal', form: 'forward', method: 'POST', path: '/~user' }, 'dynatrace-sit', 'eco-api', 'rules[1]'],
    // A tunnel shows neither method nor path.
    [{ host: 'api.telus.internal', method: 'CONNECT', path: '/x' }, 'dynatrace-sit', 'eco-api', 'rules[1]'],
    [{ destination: 'eco-sit' }, 'dynatrace-sit', 'eco-sit', 'rules[1]'],
  ];
  for (const [more, client, name, rule] of table) {
    const verdict = ask(more);
    t.match(verdict, { verdict: 'allow', client: { name: client }, destination: { name }, rule }, JSON.stringify(more));
    t.equal(ask(more), verdict, 'the same object again');
  }
});

t.test('what is denied, why, and what would permit it', async (t) => {
  const api: Partial<Ask> = { host: 'api.telus.internal', form: 'forward', method: 'GET', path: '/api/x' };
  const table: [more: Partial<Ask>, code: FaultCode, client: string | null, destination: string | null, detail: RegExp, remedy: RegExp][] = [
    [{ peer: makePeer('11.0.0.0') }, 'client-not-allowed', null, null, /11\.0\.0\.0/, /^if 11\.0\.0\.0 should be a client by its address alone, add it to clients/],
    [{ peer: makePeer('fe00::1') }, 'client-not-allowed', null, null, /fe00::1/, /fe00::1/],
    [{ peer: makePeer('fe00::1'), form: 'sni' }, 'client-not-allowed', null, null, /fe00::1/, /; a client that has a certificate has to show it, in another form than sni$/],
    [{ peer: makePeer('x"\n') }, 'client-not-allowed', null, null, /\\u000a/, /\\u000a/],
    [{ host: 'evil.example' }, 'host-not-allowed', 'dynatrace-sit', null, /evil\.example/, /^add a destination with evil\.example and port 443, and a rule that lets dynatrace-sit use it$/],
    [{ host: `${ECO}.evil.example` }, 'host-not-allowed', 'dynatrace-sit', null, /evil/, /add/],
    [{ host: `evil${ECO}` }, 'host-not-allowed', 'dynatrace-sit', null, /evil/, /add/],
    [{ host: `x.${ECO}` }, 'host-not-allowed', 'dynatrace-sit', null, /x\.eco/, /add/],
    [{ host: 'partner.example' }, 'host-not-allowed', 'dynatrace-sit', null, /\*\.partner\.example matches only the names below it/, /^add a destination with partner\.example/],
    [{ host: 'xpartner.example' }, 'host-not-allowed', 'dynatrace-sit', null, /no destination$/, /add/],
    [{ host: '10.40.1.9' }, 'host-not-allowed', 'dynatrace-sit', null, /10\.40\.1\.9 is in no destination; a client that looks up a name by itself asks for its address: let the proxy look it up$/, /^add a destination with 10\.40\.1\.9 under hosts and addresses and port 443, and a rule/],
    [{ host: '8.8.8.8' }, 'host-not-allowed', 'dynatrace-sit', null, /let the proxy look it up$/, /^add a destination with 8\.8\.8\.8 and port 443/],
    [{ host: '2606:4700::1' }, 'host-not-allowed', 'dynatrace-sit', null, /let the proxy look it up$/, /^add a destination with 2606:4700::1 and port 443/],
    [{ host: '8.8.8.8.example' }, 'host-not-allowed', 'dynatrace-sit', null, /no destination$/, /add/],
    [{ host: '192.0.2.2' }, 'host-not-allowed', 'dynatrace-sit', null, /192/, /add/],
    [{ host: '169.254.169.254', port: 80 }, 'host-not-allowed', 'dynatrace-sit', null, /169/, /add/],
    [{ host: '' }, 'host-not-allowed', 'dynatrace-sit', null, /""/, /add/],
    [{ host: ECO.toUpperCase() }, 'host-not-allowed', 'dynatrace-sit', null, /ECO/, /add/],
    [{ port: 22 }, 'port-not-allowed', 'dynatrace-sit', 'eco-sit', /eco-sit\.telus\.internal:22.*443, 80/, /^add 22 to destinations\.eco-sit\.ports, for all of its hosts and clients$/],
    [{ port: 444 }, 'port-not-allowed', 'dynatrace-sit', 'eco-sit', /444/, /444/],
    [{ host: 'a.partner.example', port: 80 }, 'port-not-allowed', 'dynatrace-sit', 'wild', /80/, /^add 80 to destinations\.wild\.ports, for all of its hosts and clients$/],
    [{ host: 'a.partner.example', form: 'forward' }, 'form-not-allowed', 'dynatrace-sit', 'wild', /no forward requests/, /^add forward to destinations\.wild\.forms, for all of its clients$/],
    [{ host: 'seen.example' }, 'form-not-allowed', 'dynatrace-sit', 'seen', /no connect requests/, /^use a form in which paths can be seen: forward; connect would go round the limits of seen$/],
    [{ peer: makePeer('10.12.0.0'), host: 'api.telus.internal' }, 'no-rule', 'ops', 'eco-api', /no rule lets ops use eco-api/, /^add a rule for ops and eco-api$/],
    [{ host: 'unused.example' }, 'no-rule', 'dynatrace-sit', 'forbidden', /no rule/, /forbidden/],
    [{ ...api, method: 'DELETE' }, 'method-not-allowed', 'dynatrace-sit', 'eco-api', /DELETE/, /^add DELETE to destinations\.eco-api\.http\.methods, for all of its clients$/],
    [{ ...api, method: 'get' }, 'method-not-allowed', 'dynatrace-sit', 'eco-api', /get/, /^ask with another method: no list can have get, since methods are in capitals$/],
    [{ ...api, method: 'OPTIONS', path: '*' }, 'method-not-allowed', 'dynatrace-sit', 'eco-api', /OPTIONS/, /no pattern can name/],
    [{ ...api, path: '*' }, 'path-not-allowed', 'dynatrace-sit', 'eco-api', /\*/, /^no pattern can name the path \*$/],
    [{ ...api, path: '/api' }, 'path-not-allowed', 'dynatrace-sit', 'eco-api', /the path \/api$/, /^add \/api to destinations\.eco-api\.http\.paths, for all of its clients$/],
    [{ ...api, path: '/apix/' }, 'path-not-allowed', 'dynatrace-sit', 'eco-api', /apix/, /apix/],
    [{ ...api, path: '/API/x' }, 'path-not-allowed', 'dynatrace-sit', 'eco-api', /API/, /API/],
    [{ ...api, path: '/health/' }, 'path-not-allowed', 'dynatrace-sit', 'eco-api', /health/, /health/],
    [{ ...api, path: '/api/../admin' }, 'path-ambiguous', 'dynatrace-sit', 'eco-api', /dot segment/, /plain form/],
    [{ ...api, path: '/api/%2e%2e/admin' }, 'path-ambiguous', 'dynatrace-sit', 'eco-api', /dot segment/, /plain form/],
    [{ form: 'gateway', method: 'GET', path: '/a%2fb%23' }, 'path-ambiguous', 'dynatrace-sit', 'eco-sit', /encoded slash/, /plain form/],
    [{ form: 'gateway', method: 'GET', path: '//evil.example/' }, 'path-ambiguous', 'dynatrace-sit', 'eco-sit', /empty segment/, /plain form/],
    [{ destination: 'wild' }, 'host-not-allowed', 'dynatrace-sit', null, /eco-sit/, /add/],
  ];
  for (const [more, code, client, name, detail, remedy] of table) {
    const verdict = ask(more);
    const title = JSON.stringify(more);
    if (verdict.verdict !== 'deny') {
      t.fail(`${title}: was allowed`);
      continue;
    }
    t.equal(verdict.code, code, title);
    t.equal(verdict.client?.name ?? null, client, `${title}: client`);
    t.equal(verdict.destination?.name ?? null, name, `${title}: destination`);
    t.match(verdict.detail, detail, title);
    t.match(verdict.remedy, remedy, title);
  }
});

t.test('the proxy itself, requested through the proxy: the remedy does not add it as a destination', async (t) => {
  const gateway = { prefix: '/eco', scheme: 'https', host: ECO, port: 443, basePath: '', rewrite: [], encodedSlashes: 'refuse' } as const;
  const gated = compilePolicy({ ...config, destinations: [makeDestination('eco-sit', [ECO], { gateway }), ...config.destinations.slice(1)] });
  const remedyOf = (more: Partial<Ask>): string => {
    const verdict = decide(gated, { ...base, host: 'eco-egress.eco-egress', port: 8080, form: 'forward', method: 'GET', ...more });
    return verdict.verdict === 'deny' ? verdict.remedy : verdict.verdict;
  };
  const added = 'add a destination with eco-egress.eco-egress and port 8080, and a rule that lets dynatrace-sit use it';
  for (const path of ['/eco', '/eco/', '/eco/api/x']) {
    t.equal(remedyOf({ path }), `if eco-egress.eco-egress is this proxy, list it in the client's NO_PROXY: requests below /eco go to the proxy directly; if not, ${added}`, path);
  }
  for (const more of [{ path: '/economy' }, { path: '/' }, { form: 'connect', path: null }] as const) t.equal(remedyOf(more), added);
});

t.test('credentials: asked for only where they would help', async (t) => {
  const hash = 'x';
  const strict = compilePolicy({
    ...config,
    clients: [
      makeClient('people', { addresses: ['10.20.0.0/16'], basic: [{ user: 'anna', hash }] }),
      makeClient('jobs', { addresses: ['10.20.0.0/17'], tokens: [{ issuer: 'i', audience: 'a', subjects: ['s'], jwks: { kind: 'file', path: '/x' } }] }),
      makeClient('ops', { addresses: ['10.30.0.0/16'] }),
    ],
    rules: [makeRule(['people'], ['eco-sit'])],
  });
  const basic = 'Basic realm="eco-egress", charset="UTF-8"';
  const bearer = 'Bearer realm="eco-egress"';
  const token = { issuer: 'i', audiences: ['a'], subject: 'other' };
  const table: [peer: Peer, expected: object][] = [
    [makePeer('10.20.0.1', { user: 'anna' }), { verdict: 'allow', client: { name: 'people' } }],
    [makePeer('10.20.0.1'), { code: 'credentials-missing', detail: /10\.20\.0\.1 need credentials/, remedy: /\(Basic\) or a token \(Bearer\)/, challenges: [basic, bearer] }],
    [makePeer('10.20.128.1'), { code: 'credentials-missing', remedy: /\(Basic\) of a client/, challenges: [basic] }],
    [makePeer('10.20.0.1', { rejected: 'the token has expired' }), { code: 'credentials-wrong', detail: /not accepted: the token has expired$/, challenges: [basic, bearer] }],
    [makePeer('10.20.0.1', { user: 'bert' }), { code: 'credentials-wrong', detail: /the user bert matches no client from 10\.20\.0\.1/, challenges: [basic, bearer] }],
    [makePeer('10.20.128.1', { token }), { code: 'credentials-wrong', detail: /the token subject other matches no client/, challenges: [basic] }],
    [makePeer('192.0.2.1'), { code: 'client-not-allowed', challenges: [] }],
    [makePeer('192.0.2.1', { user: 'anna' }), { code: 'client-not-allowed', detail: /192\.0\.2\.1 belongs to no client, nor does the user anna$/, challenges: [] }],
    [makePeer('192.0.2.1', { token, sans: ['DNS:x'] }), { code: 'client-not-allowed', detail: /the token subject other of i, nor does the certificate of DNS:x$/ }],
    [makePeer('10.30.0.1', { rejected: 'no such user' }), { code: 'no-rule', detail: /no rule lets ops use eco-sit; the credentials were not accepted: no such user$/, challenges: [] }],
  ];
  for (const [peer, expected] of table) t.match(decide(strict, { ...base, peer }), expected, JSON.stringify(peer));
});

t.test('a host in several destinations: the first that permits port, form and client', async (t) => {
  const several = compilePolicy({
    mode: 'enforce',
    clients: [sit, ops],
    destinations: [
      destination('eco-wild', ['*.telus.internal'], { ports: [8443] }),
      destination('eco-https', [ECO], { ports: [443] }),
      destination('eco-http', [ECO], { ports: [80], forms: ['forward'] }),
      destination('eco-gateway', [ECO], { ports: [80], forms: ['gateway'] }),
      destination('eco-ops', [ECO], { ports: [443, 8443] }),
    ],
    rules: [
      makeRule(['dynatrace-sit'], ['eco-wild', 'eco-https', 'eco-http', 'eco-gateway']),
      makeRule(['ops'], ['eco-ops']),
    ],
  });
  const table: [more: Partial<Ask>, code: string, destination: string][] = [
    [{ port: 443 }, 'rules[0]', 'eco-https'],
    [{ port: 80, form: 'forward' }, 'rules[0]', 'eco-http'],
    [{ port: 80, form: 'gateway' }, 'rules[0]', 'eco-gateway'],
    [{ port: 80, form: 'connect' }, 'form-not-allowed', 'eco-http'],
    [{ port: 8443 }, 'rules[0]', 'eco-wild'],
    [{ port: 443, peer: makePeer('10.12.0.0') }, 'rules[1]', 'eco-ops'],
    [{ port: 80, form: 'forward', peer: makePeer('10.12.0.0') }, 'no-rule', 'eco-http'],
    [{ port: 22 }, 'port-not-allowed', 'eco-https'],
    [{ port: 22, host: 'x.telus.internal' }, 'port-not-allowed', 'eco-wild'],
    [{ port: 443, destination: 'eco-ops' }, 'no-rule', 'eco-ops'],
    [{ port: 8443, destination: 'eco-https' }, 'port-not-allowed', 'eco-https'],
  ];
  for (const [more, expected, name] of table) {
    const verdict = decide(several, { ...base, ...more });
    t.equal(verdict.verdict === 'deny' ? verdict.code : verdict.rule, expected, JSON.stringify(more));
    t.equal(verdict.destination?.name, name, JSON.stringify(more));
  }
});

t.test('an empty policy permits nothing', async (t) => {
  const empty = compilePolicy({ mode: 'enforce', clients: [], destinations: [], rules: [] });
  t.match(decide(empty, base), { verdict: 'deny', code: 'client-not-allowed' });
  t.equal(identify(empty, makePeer('10.8.1.4')), null);
  t.notOk(empty.hasHost(ECO));
  const noRules = compilePolicy({ ...config, rules: [] });
  t.match(decide(noRules, base), { verdict: 'deny', code: 'no-rule' });
});

t.test('who asks, and which hosts are known', async (t) => {
  t.equal(identify(policy, makePeer('10.8.1.4')), sit);
  t.equal(identify(policy, makePeer('10.12.0.0')), ops);
  t.equal(identify(policy, makePeer('11.0.0.0')), null);
  t.ok(policy.hasHost(ECO));
  t.ok(policy.hasHost('a.partner.example'));
  t.notOk(policy.hasHost('partner.example'));
  t.notOk(policy.hasHost('eco-egress'));
});

t.test('a configuration that was not checked is not compiled', async (t) => {
  t.throws(() => compilePolicy({ ...config, rules: [makeRule(['nobody'], ['eco-sit'])] }), /clients\.nobody/);
  t.throws(() => compilePolicy({ ...config, rules: [makeRule(['ops'], ['nothing'])] }), /destinations\.nothing/);
  t.throws(() => compilePolicy({ ...config, destinations: [destination('x', ['X'])] }), TypeError);
  t.throws(() => compilePolicy({ ...config, clients: [makeClient('x', { addresses: ['10.0.0.0/40'] })] }), TypeError);
});

t.test('no string is allowed that is not in the list, and every denial fits on a line', async (t) => {
  const text = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 400 }),
    fc.string({ unit: fc.constantFrom(ECO, 'eco-sit', 'telus', 'internal', 'partner.example', '.', '*', 'x', '\0', '@', ':', '%2e', '/'), maxLength: 5 }),
    fc.domain(),
  );
  const forms = fc.constantFrom(...ALL);
  const hosts = new Set([ECO, '192.0.2.1', 'api.telus.internal']);
  fc.assert(
    fc.property(fc.oneof(text, fc.ipV4()), text, fc.integer(), forms, text, text, (address, host, port, form, method, path) => {
      for (const address_ of [address, base.peer.address]) {
        const verdict = decide(policy, { ...base, form, peer: makePeer(address_), host, port, method, path });
        if (verdict.verdict !== 'deny') {
          if (!hosts.has(host) && !/^.*\.partner\.example$/s.test(host)) throw new Error(`allowed ${host}`);
          if (port !== 443 && port !== 80) throw new Error(`allowed port ${port}`);
          continue;
        }
        for (const words of [verdict.detail, verdict.remedy]) {
          if (words.length > 600 || /[^\x20-\x7e]/.test(words)) throw new Error(`not fit to print: ${words}`);
        }
      }
    }),
    { numRuns: 5_000 },
  );
  t.pass('held in 5000 cases');
});
