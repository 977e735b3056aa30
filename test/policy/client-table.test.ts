/** Who is which client: each kind alone, kinds together, the order of the file, and when credentials would help. */
import fc from 'fast-check';
import t from 'tap';
import type { ClientConfig, TokenConfig } from '../../src/config/config.ts';
import { buildCidrTable } from '../../src/policy/tables.ts';
import { buildClientTable } from '../../src/policy/client-table.ts';
import type { Peer } from '../../src/policy/verdict.ts';
import { makeClient, makePeer } from '../support/policy.ts';

const ISSUER = 'https://issuer.example';
const token = (...subjects: string[]): TokenConfig => ({ issuer: ISSUER, audience: 'eco-egress', subjects, jwks: { kind: 'url', url: 'https://issuer.example/keys' } });
const user = (...names: string[]) => names.map((name) => ({ user: name, hash: 'x' }));
const jwt = (subject: string, more: Partial<NonNullable<Peer['token']>> = {}): Partial<Peer> => ({ token: { issuer: ISSUER, audiences: ['eco-egress'], subject, ...more } });

t.test('each kind alone', async (t) => {
  const clients = [
    makeClient('people', { basic: user('anna', 'bert') }),
    makeClient('pods', { tokens: [token('system:serviceaccount:sit:*'), { ...token('special'), audience: 'other' }] }),
    makeClient('mesh', { certificates: ['URI:spiffe://cluster.local/ns/sit/*', 'DNS:*.pods.example', 'DNS:one.example'] }),
    makeClient('range', { addresses: ['10.8.0.0/14'] }),
  ];
  const table = buildClientTable(clients);
  const cases: [what: string, peer: Peer, client: string | null][] = [
    ['a user', makePeer('192.0.2.1', { user: 'anna' }), 'people'],
    ['another user', makePeer('192.0.2.1', { user: 'bert' }), 'people'],
    ['no user of these', makePeer('192.0.2.1', { user: 'Anna' }), null],
    ['a user that begins alike', makePeer('192.0.2.1', { user: 'annabel' }), null],
    ['a user named like a property', makePeer('192.0.2.1', { user: 'constructor' }), null],
    ['a subject', makePeer('192.0.2.1', jwt('system:serviceaccount:sit:egress')), 'pods'],
    ['a subject of another namespace', makePeer('192.0.2.1', jwt('system:serviceaccount:sitx:egress')), null],
    ['another issuer', makePeer('192.0.2.1', jwt('system:serviceaccount:sit:egress', { issuer: `${ISSUER}/` })), null],
    ['another audience', makePeer('192.0.2.1', jwt('system:serviceaccount:sit:egress', { audiences: ['other'] })), null],
    ['one of its audiences', makePeer('192.0.2.1', jwt('system:serviceaccount:sit:egress', { audiences: ['other', 'eco-egress'] })), 'pods'],
    ['no audience', makePeer('192.0.2.1', jwt('system:serviceaccount:sit:egress', { audiences: [] })), null],
    ['the subject of the other audience', makePeer('192.0.2.1', jwt('special', { audiences: ['other'] })), 'pods'],
    ['the subject, not its audience', makePeer('192.0.2.1', jwt('special')), null],
    ['a URI', makePeer('192.0.2.1', { sans: ['URI:spiffe://cluster.local/ns/sit/sa/egress'] }), 'mesh'],
    ['a URI of another namespace', makePeer('192.0.2.1', { sans: ['URI:spiffe://cluster.local/ns/sitx/sa/egress'] }), null],
    ['a URI of another trust domain', makePeer('192.0.2.1', { sans: ['URI:spiffe://evil.example/ns/sit/sa/egress'] }), null],
    ['a URI of another case', makePeer('192.0.2.1', { sans: ['URI:spiffe://cluster.local/NS/sit/sa/egress'] }), null],
    ['a name below', makePeer('192.0.2.1', { sans: ['DNS:a.Pods.example.'] }), 'mesh'],
    ['the suffix itself', makePeer('192.0.2.1', { sans: ['DNS:pods.example'] }), null],
    ['a certificate for any name below', makePeer('192.0.2.1', { sans: ['DNS:*.pods.example'] }), null],
    ['a name', makePeer('192.0.2.1', { sans: ['DNS:two.example', 'DNS:one.example'] }), 'mesh'],
    ['a URI that looks like the name', makePeer('192.0.2.1', { sans: ['URI:one.example'] }), null],
    ['an address', makePeer('10.11.255.255'), 'range'],
    ['the address beside it', makePeer('10.12.0.0'), null],
    ['an address, with credentials that nobody lists', makePeer('10.8.0.0', { user: 'carl' }), 'range'],
  ];
  for (const [what, peer, client] of cases) t.equal(clients[table.find(peer)]?.name ?? null, client, what);
});

t.test('all kinds that are listed have to hold', async (t) => {
  const clients = [
    makeClient('all', { addresses: ['10.8.0.0/14'], tokens: [token('a')], certificates: ['DNS:one.example'] }),
    makeClient('basic-from', { addresses: ['10.8.0.0/14'], basic: user('anna') }),
    makeClient('certified-from', { addresses: ['10.8.0.0/14'], certificates: ['DNS:two.example'] }),
  ];
  const table = buildClientTable(clients);
  const cases: [peer: Peer, client: string | null][] = [
    [makePeer('10.8.0.1', { ...jwt('a'), sans: ['DNS:one.example'] }), 'all'],
    [makePeer('10.12.0.0', { ...jwt('a'), sans: ['DNS:one.example'] }), null],
    [makePeer('10.8.0.1', { ...jwt('b'), sans: ['DNS:one.example'] }), null],
    [makePeer('10.8.0.1', { sans: ['DNS:one.example'] }), null],
    [makePeer('10.8.0.1', jwt('a')), null],
    [makePeer('10.8.0.1', { user: 'anna' }), 'basic-from'],
    [makePeer('10.12.0.0', { user: 'anna' }), null],
    [makePeer('10.8.0.1', { sans: ['DNS:two.example'] }), 'certified-from'],
    [makePeer('10.12.0.0', { sans: ['DNS:two.example'] }), null],
    [makePeer('10.8.0.1'), null],
  ];
  for (const [peer, client] of cases) t.equal(clients[table.find(peer)]?.name ?? null, client, JSON.stringify(peer));
});

t.test('the first in the file, whatever its kind', async (t) => {
  const kinds = [makeClient('user', { basic: user('anna') }), makeClient('range', { addresses: ['10.0.0.0/8'] }), makeClient('token', { tokens: [token('a')] }), makeClient('name', { certificates: ['DNS:one.example'] })];
  const peer = makePeer('10.8.0.1', { user: 'anna', ...jwt('a'), sans: ['DNS:one.example'] });
  for (const clients of permutations(kinds)) t.equal(buildClientTable(clients).find(peer), 0, clients.map(({ name }) => name).join());
});

t.test('when credentials would help, and which', async (t) => {
  const table = buildClientTable([
    makeClient('a', { addresses: ['10.1.0.0/16'], basic: user('anna') }),
    makeClient('b', { addresses: ['10.1.128.0/17', '10.2.0.0/16'], tokens: [token('a')] }),
    makeClient('c', { addresses: ['10.3.0.0/16'] }),
    makeClient('d', { certificates: ['DNS:one.example'], basic: user('bert') }),
    makeClient('e', { addresses: ['10.4.0.0/16'], certificates: ['DNS:two.example'], tokens: [token('b')] }),
  ]);
  const cases: [peer: Peer, basic: boolean, bearer: boolean][] = [
    [makePeer('10.1.0.1'), true, false],
    [makePeer('10.1.128.1'), true, true],
    [makePeer('10.2.0.1'), false, true],
    [makePeer('10.3.0.1'), false, false],
    [makePeer('192.0.2.1'), false, false],
    [makePeer('192.0.2.1', { sans: ['DNS:one.example'] }), true, false],
    [makePeer('10.4.0.1', { sans: ['DNS:two.example'] }), false, true],
    [makePeer('10.5.0.1', { sans: ['DNS:two.example'] }), false, false],
    [makePeer('10.4.0.1'), false, false],
  ];
  for (const [peer, basic, bearer] of cases) t.strictSame(table.wanting(peer), { basic, bearer }, JSON.stringify(peer));
  t.strictSame(buildClientTable([makeClient('x', { basic: user('anna') })]).wanting(makePeer('192.0.2.1')), { basic: true, bearer: false });
  t.strictSame(buildClientTable([]).wanting(makePeer('192.0.2.1')), { basic: false, bearer: false });
});

t.test('the same as asking each client in turn', async (t) => {
  const addresses = fc.constantFrom('10.0.0.0/8', '10.8.0.0/14', '10.8.1.0/24', 'fd00::/8');
  const names = fc.constantFrom('DNS:one.example', 'DNS:*.example', 'URI:spiffe://a/b/*', 'URI:spiffe://a/*/c');
  const subjects = fc.constantFrom('a:b', 'a:*', '*', 'b:*:c');
  const kind = <T>(items: fc.Arbitrary<T>) => fc.option(fc.array(items, { minLength: 1, maxLength: 2 }));
  const client = fc.record({ addresses: kind(addresses), certificates: kind(names), tokens: kind(subjects.map((subject) => token(subject))) });
  const peer = fc.record({
    address: fc.constantFrom('10.8.1.1', '10.9.0.1', '192.0.2.1', 'fd00::1'),
    token: fc.option(fc.constantFrom('a:b', 'a:c', 'b:x:c', 'b:x:y:c').map((subject) => ({ issuer: ISSUER, audiences: ['eco-egress'], subject }))),
    sans: fc.array(fc.constantFrom('DNS:one.example', 'DNS:two.example', 'URI:spiffe://a/b/c', 'URI:spiffe://a/x/c'), { maxLength: 2 }),
  });
  fc.assert(
    fc.property(fc.array(client, { maxLength: 6 }), peer, (drafts, asking) => {
      const clients = drafts.map((draft, index) => makeClient(`c${index}`, draft)).filter((one) => one.addresses ?? one.certificates ?? one.tokens);
      const asked = makePeer(asking.address, { token: asking.token, sans: asking.sans });
      const expected = clients.findIndex((one) => isClient(one, asked));
      const found = buildClientTable(clients).find(asked);
      if (found !== expected) throw new Error(`${JSON.stringify(clients)} ${JSON.stringify(asked)}: ${found} instead of ${expected}`);
    }),
    { numRuns: 10_000 },
  );
  t.pass('10000 cases');
});

/** By the words of the documentation, for the entries used above. */
function isClient({ addresses, certificates, tokens }: ClientConfig, peer: Peer): boolean {
  const fits = (pattern: string, text: string): boolean => {
    if (pattern.startsWith('DNS:*')) return text.startsWith('DNS:') && text.endsWith(pattern.slice(5));
    return new RegExp(`^${pattern.split('*').map((part, index, parts) => RegExp.escape(part) + (index === parts.length - 1 ? '' : parts[index + 1] === '' ? '.*' : '[^/:]*')).join('')}$`).test(text);
  };
  return (
    (addresses === null || buildCidrTable([addresses]).find(peer.address) === 0) &&
    (certificates === null || peer.sans.some((name) => certificates.some((pattern) => fits(pattern, name)))) &&
    (tokens === null || tokens.some((entry) => entry.subjects.some((subject) => peer.token !== null && fits(subject, peer.token.subject))))
  );
}

function permutations<T>(items: readonly T[]): T[][] {
  return items.length < 2 ? [[...items]] : items.flatMap((item) => permutations(items.filter((other) => other !== item)).map((rest) => [item, ...rest]));
}
