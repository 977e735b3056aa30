/** Changes that are proposed from denials permit what was seen, nothing else, and take nothing away. */
import fc from 'fast-check';
import t from 'tap';
import { type DestinationConfig, FORMS } from '../../src/config/config.ts';
import { compilePolicy, type PolicyConfig } from '../../src/policy/compile.ts';
import { decide } from '../../src/policy/decide.ts';
import { matchesPath, compilePaths } from '../../src/policy/patterns.ts';
import type { Ask } from '../../src/policy/verdict.ts';
import { NO_BOUND } from '../../src/policy-diff/work.ts';
import { type Suggestions, suggestChanges, type SuggestTerms } from '../../src/suggest/propose-changes.ts';
import type { SeenDenial } from '../../src/suggest/seen-denials.ts';
import { canonicalPath } from '../../src/targets/path.ts';
import { makeAsk, makeClient, makeDestination, makePeer, makeRule } from '../support/policy.ts';
import { casesOf } from '../support/full.ts';
import { holds } from '../support/property.ts';

const TERMS: SuggestTerms = { least: 2, generalise: false, now: 0 };

const seen = (more: Partial<SeenDenial> = {}): SeenDenial => ({
  client: 'pods',
  user: null,
  subject: null,
  sans: [],
  form: 'connect',
  method: null,
  path: null,
  host: 'new.example',
  port: 443,
  destination: null,
  code: 'host-not-allowed',
  addresses: new Set(['10.8.0.1']),
  upstreamAddresses: new Set(),
  count: 5,
  first: 0,
  last: 1000,
  ...more,
});

const get = (path: string, more: Partial<SeenDenial> = {}): SeenDenial => seen({ form: 'forward', method: 'GET', path, port: 80, ...more });

const base: PolicyConfig = {
  mode: 'report',
  clients: [makeClient('pods', { addresses: ['10.8.0.0/16'] }), makeClient('jobs', { addresses: ['10.9.0.0/16'] })],
  destinations: [makeDestination('eco', ['eco.example'], { ports: [443], addresses: ['10.40.0.0/16'] }), makeDestination('api', ['api.example'], { ports: [80], forms: ['forward'], paths: ['/known/*'], methods: ['GET'] })],
  rules: [makeRule(['pods'], ['eco', 'api'])],
};

const suggest = (denials: readonly SeenDenial[], terms: Partial<SuggestTerms> = {}, config = base): Suggestions => suggestChanges(compilePolicy(config), denials, { ...TERMS, ...terms }, NO_BOUND);
const added = ({ before, after }: Suggestions): DestinationConfig[] => after.destinations.slice(before.destinations.length);

t.test('a method that no file may have spoils nothing else', async (t) => {
  const found = suggest([get('/a', { host: 'plain.example', method: 'get', count: 9 }), get('/a', { host: 'plain.example' })]);
  t.match(found.after.rules.slice(1), [{ clients: ['pods'], destinations: ['plain-example'], methods: ['GET'] }]);
  t.match(found.declined, [{ reason: 'ask with another method: no list can have get, since methods are in capitals' }]);
});

t.test('a new host, with what was used of it alone', async (t) => {
  const found = suggest([seen(), seen({ port: 8443, count: 1 }), get('/a', { host: 'plain.example' }), get('/b', { host: 'plain.example', method: 'POST' })]);
  t.match(added(found), [
    { name: 'plain-example', hosts: ['plain.example'], ports: [80], forms: ['forward'] },
    { name: 'new-example', hosts: ['new.example'], ports: [443, 8443], forms: ['connect'], methods: null },
  ]);
  t.match(found.after.rules.slice(1), [
    { clients: ['pods'], destinations: ['plain-example'], methods: ['GET', 'POST'] },
    { clients: ['pods'], destinations: ['new-example'], methods: null },
  ]);
  t.strictSame(found.declined, []);
  t.match(found.made.map(({ texts }) => texts), [
    ['add a destination with plain.example and port 80, and a rule that lets pods use it, by forward with GET or POST'],
    ['add a destination with new.example and ports 443, 8443, and a rule that lets pods use it, by connect'],
  ]);
  t.strictSame(found.diff.classes.filter(({ change }) => change === 'denied' || change === 'otherwise'), []);
});

t.test('keys of a destination, rules for another client, and what is permitted by now', async (t) => {
  const found = suggest([
    get('/other/x', { host: 'api.example', destination: 'api', code: 'path-not-allowed' }),
    get('/known/x', { host: 'api.example', destination: 'api', code: 'path-not-allowed', count: 7 }),
    seen({ client: 'jobs', addresses: new Set(['10.9.0.1']), host: 'eco.example', code: 'no-rule' }),
    seen({ host: 'eco.example', destination: 'eco', code: 'address-not-allowed', upstreamAddresses: new Set(['10.41.0.9', '10.41.0.10']) }),
  ]);
  t.strictSame(found.permitted, 7);
  t.strictSame(found.after.destinations.map(({ paths, addresses }) => [paths, addresses]), [[null, ['10.40.0.0/16', '10.41.0.9/32', '10.41.0.10/32']], [['/known/*', '/other/x'], null]]);
  t.match(found.after.rules.slice(1), [{ clients: ['jobs'], destinations: ['eco'] }]);
});

t.test('requests to the gateway are those of its destination', async (t) => {
  const gateway: DestinationConfig['gateway'] = { prefix: '/api', scheme: 'http', host: 'api.example', port: 80, basePath: '', rewrite: [], encodedSlashes: 'refuse' };
  const config = { ...base, destinations: base.destinations.map((one) => (one.name === 'api' ? { ...one, forms: ['gateway' as const], gateway } : one)) };
  const asked = { host: 'api.example', destination: 'api', form: 'gateway' as const };
  const found = suggest([get('/other/x', { ...asked, code: 'path-not-allowed' }), get('/known/x', { ...asked, method: 'PUT', code: 'method-not-allowed' })], {}, config);
  t.match(found.after.destinations[1], { paths: ['/known/*', '/other/x'], methods: ['GET', 'PUT'] });
  t.strictSame(found.declined, []);
});

t.test('what is not proposed, and why', async (t) => {
  const table: [SeenDenial, RegExp][] = [
    [seen({ count: 1 }), /^it was asked for once, and --min-count is 2$/],
    [seen({ host: '169.254.169.254' }), /metadata address, where no partner is/],
    [seen({ host: '127.0.0.1' }), /loopback address, where no partner is/],
    [seen({ host: '10.1.2.3' }), /^10\.1\.2\.3 \(private\) is a literal address/],
    [seen({ host: '8.8.8.8' }), /^8\.8\.8\.8 \(public\) is a literal address/],
    [seen({ upstreamAddresses: new Set(['8.8.8.8', '10.1.2.3']) }), /^the name led to 10\.1\.2\.3 \(private\): if a partner is there/],
    [seen({ upstreamAddresses: new Set(['169.254.169.254']) }), /^the name led to 169\.254\.169\.254 \(metadata\)/],
    [seen({ client: null, addresses: new Set(['192.168.0.1']) }), /^192\.168\.0\.1 matches no configured client/],
    [seen({ client: 'gone', addresses: new Set(['192.168.0.1']) }), /^gone matches no configured client/],
    [seen({ host: 'eco.example', destination: 'eco', code: 'address-not-allowed', upstreamAddresses: new Set(['127.0.0.1']) }), /^the name led to 127\.0\.0\.1 \(loopback\), where no partner is/],
    [seen({ host: 'eco.example', destination: 'eco', code: 'address-not-allowed' }), /^the name led to an address outside destinations\.eco\.addresses: explain shows which/],
    [get('/known/x', { host: 'api.example', destination: 'api', form: 'connect', method: null, path: null, code: 'form-not-allowed' }), /would go round the limits of api/],
    [get('/eco/x', { host: 'eco-egress', port: 8080 }), /^if eco-egress is this proxy, list it in the client's NO_PROXY/],
  ];
  const gateway = { prefix: '/eco', scheme: 'https', host: 'eco.example', port: 443, basePath: '', rewrite: [], encodedSlashes: 'refuse' } as const;
  for (const [denial, reason] of table) {
    const found = suggest([denial], {}, { ...base, destinations: base.destinations.map((one) => (one.name === 'eco' ? { ...one, gateway } : one)) });
    t.match(found.declined, [{ reason }], String(reason));
    t.strictSame([found.made, found.diff.classes], [[], []]);
  }
  t.equal(suggest([seen({ count: 1 })], { least: 1 }).made.length, 1);
});

t.test('generalised on demand', async (t) => {
  const names = ['a', 'b', 'c'].map((name) => seen({ host: `${name}.api.partner.example` }));
  const paths = ['1', '2', '3'].map((name) => get(`/v1/${name}`, { host: 'api.example', destination: 'api', code: 'path-not-allowed' }));
  const exact = suggest([...names, ...paths]);
  t.strictSame(added(exact).map(({ hosts }) => hosts), [['a.api.partner.example'], ['b.api.partner.example'], ['c.api.partner.example']]);
  t.match(exact.after.rules.at(-1), { destinations: added(exact).map(({ name }) => name) }, 'one rule');
  t.strictSame(exact.after.destinations[1]?.paths, ['/known/*', '/v1/1', '/v1/2', '/v1/3']);

  const wider = suggest([...names, ...paths], { generalise: true });
  t.match(added(wider), [{ name: 'api-partner-example', hosts: ['*.api.partner.example'], forms: ['connect'] }]);
  t.strictSame(wider.after.destinations[1]?.paths, ['/known/*', '/v1/*']);
  t.match(wider.generalised, ['/v1/* in place of /v1/1, /v1/2, /v1/3, for api', '*.api.partner.example in place of a.api.partner.example, b.api.partner.example, c.api.partner.example']);

  t.strictSame(suggest(['a', 'b', 'c'].map((name) => seen({ host: `${name}.example.com` })), { generalise: true }).generalised, [], 'too few labels');
  t.strictSame(suggest(names.slice(1), { generalise: true }).generalised, [], 'too few names');
  const taken: PolicyConfig = { ...base, destinations: [...base.destinations, makeDestination('all', ['*.example'], { methods: ['GET'] })], rules: [...base.rules, makeRule(['pods'], ['all'])] };
  const kept = suggest(['a', 'b', 'c'].map((name) => seen({ host: `${name}.x.y.example`, form: 'forward', method: 'PUT', path: '/', port: 80 })), { generalise: true }, taken);
  t.notOk(kept.generalised.some((text) => text.startsWith('*')), 'nothing is taken over from a wildcard');
});

t.test('a scan of names gets a hundred changes at a time', async (t) => {
  const found = suggest(Array.from({ length: 130 }, (_, index) => seen({ host: `n${index}.example` })));
  t.equal(found.made.length, 100);
  t.match([...new Set(found.declined.map(({ reason }) => reason))], ['100 changes are proposed at a time: apply them, and run this again']);
});

const names = ['x.one.example', 'y.one.example', 'z.one.example', 'eco.example', 'api.example', 'w.example', '169.254.169.254', '203.0.113.7'];
const denials: fc.Arbitrary<SeenDenial[]> = fc.array(
  fc
    .record({
      client: fc.constantFrom('pods', 'jobs', 'people', null),
      form: fc.constantFrom(...FORMS.filter((form) => form !== 'gateway')),
      method: fc.constantFrom('GET', 'POST', 'HEAD'),
      path: fc.constantFrom('/known/a', '/v/1', '/v/2', '/v/3', '/a/../b'),
      host: fc.constantFrom(...names),
      port: fc.constantFrom(80, 443, 8443),
      count: fc.constantFrom(1, 3),
    })
    .map((drawn): SeenDenial => {
      const addresses = new Set([drawn.client === 'jobs' ? '10.9.0.1' : drawn.client === 'people' ? '10.7.0.1' : drawn.client === null ? '192.168.0.1' : '10.8.0.1']);
      const tunnel = drawn.form === 'connect' || drawn.form === 'sni';
      // Raw TLS names no port.
      return seen({ ...drawn, ...(drawn.form === 'sni' ? { port: 443 } : {}), addresses, user: drawn.client === 'people' ? 'anna' : null, ...(tunnel ? { method: null, path: null } : {}) });
    }),
  { maxLength: 12 },
);

const policies: fc.Arbitrary<PolicyConfig> = fc.record({ wild: fc.boolean(), jobs: fc.boolean(), report: fc.boolean() }).map(({ wild, jobs, report }) => ({
  mode: report ? 'report' : 'enforce',
  clients: [...base.clients, makeClient('people', { addresses: ['10.7.0.0/16'], basic: [{ user: 'anna', hash: 'x' }] })],
  destinations: [...base.destinations, ...(wild ? [makeDestination('wild', ['*.example'], { ports: [80], methods: ['GET'] })] : [])],
  rules: [...base.rules, ...(wild ? [makeRule(['jobs', 'people'], ['wild'])] : []), ...(jobs ? [makeRule(['jobs'], ['eco'])] : [])],
}));

t.test('whatever was denied', { timeout: 300_000 }, async (t) => {
  let changes = 0;
  holds(
    t,
    'proposed changes',
    600,
    fc.property(policies, denials, fc.boolean(), (config, list, generalise) => {
      const found = suggest(list, { generalise }, config);
      const [before, after] = [compilePolicy(found.before), compilePolicy(found.after)];
      const askOf = (kind: SeenDenial): Ask => makeAsk({ form: kind.form, host: kind.host, port: kind.port, method: kind.method, path: kind.path, peer: makePeer([...kind.addresses][0] ?? '', { user: kind.user }) });
      for (const { kinds, texts } of found.made) {
        changes += texts.length;
        for (const kind of kinds) if (decide(after, askOf(kind)).verdict !== 'allow') throw new Error(`still denied: ${JSON.stringify(kind)}`);
      }
      if (found.diff.classes.some(({ change }) => change === 'denied' || change === 'otherwise')) throw new Error('something is taken away');
      const granted = found.made.flatMap(({ kinds }) => kinds);
      // Every request of the same few hosts, ports, forms, methods and paths that is permitted now.
      for (const peer of [makePeer('10.8.0.1'), makePeer('10.9.0.1'), makePeer('10.7.0.1', { user: 'anna' }), makePeer('192.168.0.1')]) {
        for (const host of names) for (const port of [80, 443, 8443, 22]) for (const form of FORMS.filter((each) => each !== 'gateway')) for (const method of ['GET', 'POST', 'HEAD', 'DELETE']) for (const path of ['/known/a', '/v/1', '/v/9', '/else']) {
          const tunnel = form === 'connect' || form === 'sni';
          const ask = makeAsk({ peer: form === 'sni' ? { ...peer, user: null } : peer, host, port, form, method: tunnel ? null : method, path: tunnel ? null : path });
          const [old, now] = [decide(before, ask), decide(after, ask)];
          if (old.verdict === 'allow' || now.verdict !== 'allow') continue;
          const isNew = !before.hasHost(host);
          const ofHost = granted.filter((kind) => kind.host === host);
          const same = isNew ? ofHost.filter((kind) => kind.client === now.client.name) : granted;
          const ports = (isNew ? ofHost : granted).map((kind) => kind.port);
          const methods = same.map((kind) => kind.method);
          if (isNew && !generalise && same.length === 0) throw new Error(`nobody asked: ${JSON.stringify(ask)}`);
          if (isNew && !ports.includes(port)) throw new Error(`a port that was not used: ${JSON.stringify(ask)}`);
          if (isNew && !generalise && !ofHost.some((kind) => kind.form === form)) throw new Error(`a form that was not used: ${JSON.stringify(ask)}`);
          if (isNew && !generalise && !tunnel && !methods.includes(null) && !methods.includes(method) && !(method === 'HEAD' && methods.includes('GET'))) throw new Error(`a method that was not used: ${JSON.stringify(ask)}`);
        }
      }
      const patterns = found.after.destinations.flatMap(({ hosts }) => hosts).filter((host) => host.startsWith('*'));
      if (!generalise && patterns.some((pattern) => !found.before.destinations.some(({ hosts }) => hosts.includes(pattern)))) throw new Error('a wildcard');
      for (const [index, { paths }] of found.after.destinations.entries()) {
        const old = found.before.destinations[index]?.paths ?? null;
        for (const path of generalise ? [] : (paths ?? []).slice(old?.length ?? 0)) {
          if (!granted.some((kind) => kind.path !== null && canonicalPath(kind.path) === path)) throw new Error(`a path that was not used: ${path}`);
          if (old !== null && matchesPath(compilePaths(old), path)) throw new Error(`needless: ${path}`);
        }
      }
    }),
  );
  t.ok(changes > casesOf(600), `${changes} changes`);
});
