/** A change that is proposed is safe: tried with generated policies, requests and bystanders. */
import { isIP } from 'node:net';
import fc from 'fast-check';
import t from 'tap';
import { type ClientConfig, type DestinationConfig, FORMS, type GatewayConfig, type RuleConfig } from '../../src/config/config.ts';
import { readMethod, readPathPattern } from '../../src/config/read-sections.ts';
import { createAddressGuard } from '../../src/policy/address-guard.ts';
import { compilePolicy, type PolicyConfig } from '../../src/policy/compile.ts';
import { decide } from '../../src/policy/decide.ts';
import { listEdits } from '../../src/explain/policy-edits.ts';
import { type NoProposal, type Proposal, proposeChange } from '../../src/explain/suggest-change.ts';
import type { Policy } from '../../src/policy/compile.ts';
import { canonicalPath } from '../../src/targets/path.ts';
import { NO_BOUND, runSteps } from '../../src/policy-diff/work.ts';
import type { Ask, Peer } from '../../src/policy/verdict.ts';
import { makeAsk, makeClient, makeDestination, makePeer, makeRule } from '../support/policy.ts';
import { casesOf } from '../support/full.ts';
import { holds } from '../support/property.ts';

const CASES = 20_000;
const HOSTS = ['a.example', 'b.test', '*.example', 'x.a.example', '192.0.2.7', '10.40.1.9'] as const;
const METHODS = ['GET', 'HEAD', 'PUT'] as const;
const PATHS = ['/a', '/a/b', '/c'] as const;
const PORTS = [443, 80, 22] as const;
const DAY = 86_400_000;
/** How addresses of these ranges begin. */
const BEGINS: Readonly<Record<string, string>> = { '10.0.0.0/16': '10.0.', '10.0.1.0/24': '10.0.1.', '10.1.0.0/16': '10.1.' };
const BASIC = [{ user: 'anna', hash: 'x' }];
const TOKENS = [{ issuer: 'i', audience: 'e', subjects: ['s:*'], jwks: { kind: 'file', path: '/k' } }] as const;

const maybe = <T>(items: fc.Arbitrary<T>): fc.Arbitrary<T | null> => fc.option(items, { nil: null });
const some = <T>(...items: T[]): fc.Arbitrary<T[]> => fc.subarray(items, { minLength: 1 });

const client = (name: string): fc.Arbitrary<ClientConfig> =>
  fc
    .record({
      addresses: maybe(some('10.0.0.0/16', '10.0.1.0/24', '10.1.0.0/16')),
      basic: fc.constantFrom(null, null, BASIC),
      tokens: fc.constantFrom(null, null, TOKENS),
      certificates: fc.constantFrom(null, null, ['DNS:pod.example']),
    })
    .filter(({ addresses, basic, tokens, certificates }) => (addresses ?? basic ?? tokens ?? certificates) !== null && (basic === null || tokens === null))
    .map((kinds) => makeClient(name, kinds));

const destination = (name: string, hosts: readonly string[]): fc.Arbitrary<DestinationConfig> =>
  fc
    .record({ ports: some(...PORTS), forms: some(...FORMS), methods: maybe(some(...METHODS)), paths: maybe(some(...PATHS)), report: fc.boolean() })
    .map((more) => makeDestination(name, hosts, { ...more, gateway: more.forms.includes('gateway') ? gatewayTo(name, hosts[0] ?? '', more.ports[0] ?? 443) : null }));

const gatewayTo = (name: string, host: string, port: number): GatewayConfig => ({ prefix: `/${name}`, scheme: 'https', host: host.replace('*', 'y'), port, basePath: '', rewrite: [], encodedSlashes: 'refuse' });

const rule: fc.Arbitrary<RuleConfig> = fc
  .record({ clients: some('one', 'two', 'three'), destinations: some('first', 'second', 'wild'), methods: maybe(some(...METHODS)), paths: maybe(some(...PATHS)), from: fc.constantFrom(null, null, DAY), until: fc.constantFrom(null, null, DAY) })
  .map(({ clients, destinations, ...more }) => makeRule(clients, destinations, more));

const policies: fc.Arbitrary<PolicyConfig> = fc.record({
  mode: fc.constantFrom('enforce', 'enforce', 'report'),
  clients: fc.tuple(client('one'), client('two'), client('three')),
  destinations: fc.tuple(destination('first', ['a.example', '192.0.2.7']), destination('second', ['b.test']), destination('wild', ['*.example'])),
  rules: fc.array(rule, { maxLength: 4 }),
});

const peers: fc.Arbitrary<Peer> = fc.record({
  address: fc.constantFrom('10.0.1.1', '10.0.2.1', '10.1.0.1', '203.0.113.9'),
  user: fc.constantFrom(null, null, 'anna'),
  token: fc.constantFrom(null, null, { issuer: 'i', audiences: ['e'], subject: 's:1' }, { issuer: 'i', audiences: ['e'], subject: 'other' }),
  sans: fc.constantFrom([], [], ['DNS:pod.example'], ['DNS:else.example']),
  rejected: fc.constantFrom(null, null, null, 'the password is wrong'),
});

const asks: fc.Arbitrary<Ask> = fc
  .record({
    form: fc.constantFrom(...FORMS),
    peer: peers,
    now: fc.constantFrom(0, 2 * DAY),
    host: fc.constantFrom(...HOSTS.filter((host) => !host.includes('*')), 'y.example', 'foreign.test', '169.254.169.254'),
    port: fc.constantFrom(...PORTS),
    method: fc.constantFrom(...METHODS, 'get'),
    path: fc.constantFrom(...PATHS, '/a/../c', '/x*', '/xy', '/a%2Fb'),
  })
  .map((drawn) => (drawn.form === 'connect' || drawn.form === 'sni' ? { ...drawn, method: null, path: null } : drawn));

/** A request as a listener would pose it: the gateway names the destination of the prefix, and asks for its own host and port. Null: there is no gateway. */
function posed(config: PolicyConfig, ask: Ask): Ask | null {
  if (ask.form !== 'gateway') return ask;
  const served = config.destinations.flatMap(({ name, gateway }) => (gateway === null ? [] : [{ name, gateway }]));
  const chosen = served[ask.port % Math.max(served.length, 1)];
  return chosen === undefined ? null : { ...ask, host: chosen.gateway.host, port: chosen.gateway.port, destination: chosen.name };
}

const enforced = (config: PolicyConfig): PolicyConfig => ({
  ...config,
  mode: 'enforce',
  destinations: config.destinations.map((entry) => ({ ...entry, report: false })),
  rules: config.rules.map((entry) => ({ ...entry, report: false })),
});

const propose = (policy: Policy, ask: Ask): Proposal | NoProposal => runSteps(proposeChange(policy, ask, NO_BOUND));

/** Whether a request is permitted by what one of the edits adds. */
function isSaid(before: PolicyConfig, after: PolicyConfig, { destination, client }: { destination: string; client: string }, { port, form, method, path }: Ask): boolean {
  return listEdits(before, after).some((edit) => {
    if (edit.kind === 'rule') {
      const { clients, destinations, methods, paths } = edit.rule;
      return clients.includes(client) && destinations.includes(destination) && (methods === null || methods.includes(method ?? '') || (methods.includes('GET') && method === 'HEAD')) && (paths === null || paths.includes(canonicalPath(path ?? '')));
    }
    if (edit.kind !== 'list' || edit.destination !== destination) return false;
    const value = { ports: port, forms: form, methods: method === 'HEAD' && edit.added.includes('GET') ? 'GET' : method, paths: path === null ? null : canonicalPath(path) }[edit.path.at(-1) ?? ''];
    return edit.added.includes(value ?? '');
  });
}

/** What others may ask, now and before: variations of what was asked, and strangers to it. */
const bystanders = fc.array(asks, { minLength: 10, maxLength: 10 });

t.test('the request passes, no client loses anything, none gains anything that is not listed, and none has to show less', { timeout: 300_000 }, async (t) => {
  let proposed = 0;
  let none = 0;
  holds(
    t,
    'safe',
    CASES,
    fc.property(policies, asks, bystanders, (config, drawn, others) => {
      const policy = compilePolicy(config);
      const before = compilePolicy(enforced(config));
      const ask = posed(config, drawn);
      if (ask === null || decide(before, ask).verdict === 'allow') return;
      const found = propose(policy, ask);
      const refusal = decide(before, ask);
      if (refusal.verdict === 'deny' && !/^(?:client|credentials)-/.test(refusal.code)) {
        // Only the explanation compares both policies.
        const agrees = refusal.remedy.startsWith('ask npx eco-egress explain') || ('instead' in found && found.instead.startsWith('no change is proposed')) || ('instead' in found ? found.instead : found.change.text).startsWith(refusal.remedy);
        if (!agrees) throw new Error(`the refusal says "${refusal.remedy}", and the explanation "${'instead' in found ? found.instead : found.change.text}"`);
      }
      if ('instead' in found) {
        if (found.instead === '') throw new Error('no words');
        none += 1;
        return;
      }
      proposed += 1;
      for (const { methods, paths } of [...found.config.destinations, ...found.config.rules]) {
        for (const value of [...(methods ?? []).map(readMethod), ...(paths ?? []).map(readPathPattern)]) if ('problem' in value) throw new Error(`a file with it is refused: ${value.problem}`);
      }
      const after = compilePolicy(found.config);
      const passes = decide(after, ask);
      if (passes.verdict !== 'allow') throw new Error('it does not pass');
      if (isIP(ask.host) !== 0 && createAddressGuard(passes.destination, () => false)(ask.host, ask.port) !== null) throw new Error('its address is not dialled');
      const near = others.flatMap((other): Ask[] => [other, { ...other, peer: ask.peer }, { ...ask, peer: other.peer }, { ...ask, host: other.host, port: other.port }, { ...ask, peer: makePeer(ask.peer.address) }]);
      for (const other of near.map((each) => posed(config, each)).filter((each) => each !== null)) {
        // What is over does not matter.
        if (other.now < ask.now) continue;
        const [old, now] = [decide(before, other), decide(after, other)];
        if (old.verdict === 'allow') {
          if (now.verdict !== 'allow') throw new Error(`denied now: ${JSON.stringify(other)}`);
          if (now.client.name !== old.client.name) throw new Error(`another client now: ${JSON.stringify(other)}`);
          continue;
        }
        if (now.verdict !== 'allow') continue;
        const said = isSaid(enforced(config), found.config, { client: now.client.name, destination: now.destination.name }, other);
        if (!said) throw new Error(`permitted besides: ${JSON.stringify(other)} by ${found.change.text}`);
        // Who is a client now and was none before is the peer that was asked about, by its address, and could not have been meant to show more.
        if (before.table.find(other.peer) !== -1) continue;
        const stronger = config.clients.some(({ addresses, basic, tokens, certificates }) => (basic ?? tokens ?? certificates) !== null && (addresses === null || addresses.some((range) => other.peer.address.startsWith(BEGINS[range] ?? ''))));
        if (other.peer.address !== ask.peer.address || stronger) throw new Error(`a weaker identity: ${JSON.stringify(other.peer)}`);
      }
      // What it permits without limits of its own goes round no limit of a destination.
      for (const [index, entry] of found.config.destinations.entries()) {
        const old = config.destinations[index];
        if (old !== undefined && (old.methods ?? old.paths) !== null && entry.forms.some((form) => (form === 'connect' || form === 'sni') && !old.forms.includes(form))) throw new Error('a tunnel past methods and paths');
      }
    }),
  );
  t.ok(proposed > casesOf(CASES) / 10, `${proposed} changes`);
  t.ok(none > casesOf(CASES) / 10, `${none} times none`);
});

t.test('an IP literal that would not be dialled: the whole of what it needs is said, and no change shown that would not do', async (t) => {
  const one = (addresses: string[] | null, host: string): string => {
    const config: PolicyConfig = { mode: 'enforce', clients: [makeClient('pods', { addresses: ['10.7.0.0/16'] })], destinations: [makeDestination('lit', [host], { addresses })], rules: [makeRule(['pods'], ['lit'])] };
    const found = propose(compilePolicy(config), makeAsk({ peer: makePeer('10.7.0.5'), host, port: 8443 }));
    return 'instead' in found ? found.instead : `change: ${found.change.text}`;
  };
  const port = 'add 8443 to destinations.lit.ports, for all of its hosts and clients';
  t.equal(one(null, '10.40.1.9'), `${port}; list all ranges of the partner in destinations.lit.addresses, 10.40.1.9/32 among them: from then on no other address is dialled for its hosts, public or not`);
  t.equal(one(['10.41.0.0/16'], '10.40.1.9'), `${port}; add 10.40.1.9/32 to destinations.lit.addresses, for all of its hosts and clients`);
  t.match(one(null, '192.0.2.7'), `${port}; but it would not be dialled: 192.0.2.7 (documentation`);
  t.equal(one(['10.40.0.0/16'], '10.40.1.9'), `change: ${port}`);
});

t.test('a method or path that no list can have is not proposed', async (t) => {
  const rows: readonly (readonly [rule: Partial<RuleConfig> | null, ask: Partial<Ask>, expected: RegExp])[] = [
    [{ paths: ['/a'], until: 10 }, { path: '/q*' }, /^no pattern can name the path \/q\*/],
    [{ paths: ['/a'], methods: ['GET'] }, { method: 'PUT', path: '/*' }, /^no pattern can name the path \/\*/],
    [{ paths: ['/a'], until: 10 }, { path: '*', method: 'OPTIONS' }, /^no pattern can name the path \*/],
    [{ paths: ['/a'], methods: ['GET'] }, { method: 'PUT', path: '/a//b' }, /^ask for the path in its plain form/],
    [{ methods: ['GET'] }, { method: 'get' }, /^ask with another method: no list can have get, since methods are in capitals$/],
    [{ methods: ['GET'], until: 10 }, { form: 'connect', method: null, path: null }, /^use a form in which methods can be seen: forward or host-routed$/],
    [{ methods: ['GET'] }, { form: 'connect', method: null, path: null, port: 22 }, /^use a form in which methods can be seen: forward or host-routed$/],
    [null, { peer: makePeer('10.8.1.4', { rejected: 'it has expired' }), port: 22 }, /^show credentials that are accepted/],
    // Who let it end may have meant to.
    [{ until: 10 }, {}, /^if it is still needed, write a later until in rules\[0\], or add a rule for pods and eco$/],
    [{ from: 10_000 }, {}, /^wait, or write an earlier from in rules\[0\], or add a rule for pods and eco$/],
  ];
  for (const [limits, more, expected] of rows) {
    const config: PolicyConfig = { mode: 'enforce', clients: [makeClient('pods', { addresses: ['10.8.0.0/16'] })], destinations: [makeDestination('eco', ['eco.example'])], rules: limits === null ? [] : [makeRule(['pods'], ['eco'], limits)] };
    const ask = makeAsk({ form: 'forward', host: 'eco.example', method: 'GET', path: '/', now: 5000, ...more });
    const found = propose(compilePolicy(config), ask);
    t.match('instead' in found ? found.instead : found.change.text, expected);
    t.match(decide(compilePolicy(config), ask), { remedy: expected });
  }
});

t.test('a change is not proposed where it would hurt, and it says why', async (t) => {
  const strong = makeClient('strong', { addresses: ['10.7.0.0/16'], certificates: ['DNS:pod.example'] });
  const config: PolicyConfig = { mode: 'enforce', clients: [strong], destinations: [makeDestination('eco', ['eco.example'])], rules: [makeRule(['strong'], ['eco'])] };
  const found = propose(compilePolicy(config), makeAsk({ peer: makePeer('10.7.0.5'), host: 'eco.example' }));
  t.match(found, { instead: /^show the certificate of client strong, whose addresses include 10\.7\.0\.5: an entry for the address alone would go round that$/ });
  const none = (peer: Peer): string => {
    const proposal = propose(compilePolicy(config), makeAsk({ peer, host: 'eco.example' }));
    return 'instead' in proposal ? proposal.instead : proposal.change.text;
  };
  t.match(none(makePeer('10.9.0.1', { rejected: 'the password is wrong' })), /^show credentials that are accepted: an entry for the address would let the peer in without them$/);
  for (const [shown, what] of [[{ user: 'anna' }, 'a user'], [{ sans: ['DNS:other.example'] }, 'a certificate'], [{ token: { issuer: 'https://issuer.example', audiences: ['x'], subject: 'pod' } }, 'a token']] as const) {
    t.match(none(makePeer('10.9.0.1', shown)), `add a client that has ${what} as well as the address 10.9.0.1: the address alone would identify less than what was shown`);
  }
});

t.test('port 443 takes raw TLS with it, where it goes to another port now: the refusal says so, and no change is shown', async (t) => {
  const config = (forms: DestinationConfig['forms']): PolicyConfig => ({ mode: 'enforce', clients: [makeClient('pods', { addresses: ['10.8.0.0/16'] })], destinations: [makeDestination('eco', ['eco.example'], { ports: [8443], forms })], rules: [makeRule(['pods'], ['eco'])] });
  const ask = makeAsk({ host: 'eco.example', port: 443 });
  const plain = 'add 443 to destinations.eco.ports, for all of its hosts and clients';
  const policy = compilePolicy(config(FORMS));
  t.match(decide(policy, ask), { remedy: `${plain}; raw TLS (sni) goes there too then, and no longer to 8443` });
  t.strictSame(propose(policy, ask), { instead: 'no change is proposed: it would lead eco.example, by sni, for pods to port 443, and no longer to port 8443' });
  const without = compilePolicy(config(['connect', 'forward']));
  t.match(decide(without, ask), { remedy: plain });
  t.match(propose(without, ask), { change: { text: plain } });
});

t.test('what raw TLS cannot show is to be shown in another form', async (t) => {
  const config: PolicyConfig = { mode: 'enforce', clients: [makeClient('mesh', { addresses: ['10.7.0.0/16'], certificates: ['DNS:pod.example'] })], destinations: [makeDestination('eco', ['eco.example'])], rules: [makeRule(['mesh'], ['eco'])] };
  t.match(propose(compilePolicy(config), makeAsk({ form: 'sni', peer: makePeer('10.7.0.5'), host: 'eco.example' })), { instead: /^in another form than sni, show the certificate of client mesh,/ });
});
