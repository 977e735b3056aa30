/** Who is assumed to ask when an address, a name, or nobody was given. */
import t from 'tap';
import type { TokenConfig } from '../../src/config/config.ts';
import { type AssumedClient, assumePeer } from '../../src/explain/read-question.ts';
import { makeClient, makePeer } from '../support/policy.ts';

const TOKEN: TokenConfig = { issuer: 'https://issuer.example', audience: 'eco-egress', subjects: ['system:serviceaccount:jobs:*'], jwks: { kind: 'file', path: '/keys.json' } };
const CLIENTS = [
  makeClient('pods', { addresses: ['10.8.0.0/14', '2001:DB8:0:8::/48'] }),
  makeClient('batch', { addresses: ['::ffff:10.20.0.0/112'], basic: [{ user: 'nightly', hash: '' }, { user: 'hourly', hash: '' }] }),
  makeClient('jobs', { tokens: [TOKEN] }),
  makeClient('mesh', { certificates: ['URI:spiffe://cluster/ns/*', 'DNS:x.example'] }),
];
const ASKED: AssumedClient = { client: null, user: null, subject: null, sans: [] };
const BEARER = { issuer: TOKEN.issuer, audiences: [TOKEN.audience] };

for (const [name, asked, peers, meant, notes] of [
  ['nobody: the first of the file', {}, [makePeer('10.8.0.0'), makePeer('2001:db8:0:8::')], 'pods', ['No client was given, so the first of the file asks: pods.']],
  ['an address', { client: '192.0.2.7' }, [makePeer('192.0.2.7')], null, []],
  ['an address in another spelling', { client: '::FFFF:192.0.2.7' }, [makePeer('192.0.2.7')], null, []],
  ['an IPv6 address', { client: '2001:DB8::1' }, [makePeer('2001:db8::1')], null, []],
  ['a name: with what it lists', { client: 'batch' }, [makePeer('10.20.0.0', { user: 'nightly' })], 'batch', []],
  ['a name, as another user', { client: 'batch', user: 'hourly' }, [makePeer('10.20.0.0', { user: 'hourly' })], 'batch', []],
  ['a name without addresses', { client: 'jobs' }, [makePeer('192.0.2.1', { token: { ...BEARER, subject: 'system:serviceaccount:jobs:any' } })], 'jobs', []],
  ['a name, as a subject', { client: 'jobs', subject: 'system:serviceaccount:jobs:x' }, [makePeer('192.0.2.1', { token: { ...BEARER, subject: 'system:serviceaccount:jobs:x' } })], 'jobs', []],
  ['a name, by certificate', { client: 'mesh' }, [makePeer('192.0.2.1', { sans: ['URI:spiffe://cluster/ns/any'] })], 'mesh', []],
  ['an address, as a user', { client: '10.20.0.9', user: 'nightly' }, [makePeer('10.20.0.9', { user: 'nightly' })], null, []],
  ['an address, as a subject that a client expects', { client: '10.20.0.9', subject: 'system:serviceaccount:jobs:x' }, [makePeer('10.20.0.9', { token: { ...BEARER, subject: 'system:serviceaccount:jobs:x' } })], null, []],
  ['an address, as a subject that nobody expects', { client: '10.20.0.9', subject: 'system:serviceaccount:other:x' }, [makePeer('10.20.0.9', { token: { issuer: '-', audiences: [], subject: 'system:serviceaccount:other:x' } })], null, []],
  ['an address, with names in a certificate', { client: '10.20.0.9', sans: ['DNS:a', 'DNS:b'] }, [makePeer('10.20.0.9', { sans: ['DNS:a', 'DNS:b'] })], null, []],
] as const) {
  t.test(name, async (t) => {
    t.strictSame(assumePeer(CLIENTS, { ...ASKED, ...asked }), { peers, name: meant, notes });
  });
}

t.test('what is neither', async (t) => {
  t.equal(assumePeer(CLIENTS, { ...ASKED, client: 'pod' }), 'pod is neither an IP address nor a client; the clients are pods, batch, jobs, mesh.');
  t.equal(assumePeer([], { ...ASKED, client: '10.8.0.0/14' }), '10.8.0.0/14 is neither an IP address nor a client; the policy has no client.');
  t.equal(assumePeer(CLIENTS, { ...ASKED, client: 'a\nb' }), '"a\\u000ab" is neither an IP address nor a client; the clients are pods, batch, jobs, mesh.');
  const many = Array.from({ length: 1_000 }, (_, i) => makeClient(`c${i}`, { addresses: ['10.0.0.0/8'] }));
  t.match(assumePeer(many, { ...ASKED, client: 'x' }), / c8, c9 and 990 more\.$/);
  t.strictSame(assumePeer([], ASKED), { peers: [makePeer('192.0.2.1')], name: null, notes: ['The policy has no client, so 192.0.2.1 asks.'] });
});
