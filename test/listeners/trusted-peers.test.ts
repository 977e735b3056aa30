/** Who asks by a request: from a trusted peer, from its neighbour, and behind a PROXY header. */
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import t, { type Test } from 'tap';
import type { HttpListenerConfig, PeerHeader } from '../../src/config/config.ts';
import { Fault } from '../../src/errors.ts';
import { type ClientPeer, createPeerReader, peerInHeader, peerOf } from '../../src/listeners/trusted-peers.ts';
import { listen } from '../support/listen.ts';

const TRUSTED = '127.0.0.1';
const STRANGER = '127.0.0.2';
const BOTH: readonly PeerHeader[] = ['x-forwarded-for', 'x-forwarded-client-cert'];

const config = (believe: readonly PeerHeader[], trustedPeers = ['127.0.0.1/32', '10.9.0.0/16']): Pick<HttpListenerConfig, 'trustedPeers' | 'believe'> => ({ believe, trustedPeers });

/** The peer of a connection that was accepted from this address. */
async function accept(t: Test, from: string, host = '127.0.0.1'): Promise<ClientPeer> {
  const listener = createServer();
  const port = await listen(t, listener, host);
  const client = connect({ host: from.includes(':') ? '::1' : '127.0.0.1', port, localAddress: from });
  t.teardown(() => client.destroy());
  const [socket] = (await once(listener, 'connection')) as [Socket];
  return peerOf(socket);
}

type Case = readonly [what: string, headers: readonly string[], address: string, sans?: readonly string[]];

const XFF = 'X-Forwarded-For';
const XFCC = 'X-Forwarded-Client-Cert';
const HASH = 'a'.repeat(64);

const BELIEVED: readonly Case[] = [
  ['no header', ['Host', 'eco'], TRUSTED],
  ['a client', [XFF, '203.0.113.9'], '203.0.113.9'],
  ['a client that wrote the header itself', [XFF, '10.8.0.1, 203.0.113.9'], '203.0.113.9'],
  ['a client that wrote nonsense', [XFF, 'unknown, 203.0.113.9'], '203.0.113.9'],
  ['another trusted peer between', [XFF, '203.0.113.9, 10.9.0.1'], '203.0.113.9'],
  ['the neighbour of the trusted peers between', [XFF, '203.0.113.9, 10.10.0.0'], '10.10.0.0'],
  ['trusted peers alone', [XFF, '10.9.0.2, 10.9.0.1'], '10.9.0.2'],
  ['two fields', [XFF, '10.8.0.1', 'Host', 'eco', XFF, '203.0.113.9'], '203.0.113.9'],
  ['two fields, the last of a trusted peer', [XFF, '10.8.0.1, 203.0.113.9', XFF, '10.9.0.1'], '203.0.113.9'],
  ['any case of the name', ['x-FORWARDED-for', '203.0.113.9'], '203.0.113.9'],
  ['another name of the same length', ['X-Forwarded-Far', '203.0.113.9'], TRUSTED],
  ['IPv6', [XFF, '2001:DB8:0::7'], '2001:db8::7'],
  ['a certificate', [XFCC, `By=spiffe://td/ns/eco/sa/egress;Hash=${HASH};URI=spiffe://td/ns/dynatrace-sit/sa/otel`], TRUSTED, ['URI:spiffe://td/ns/dynatrace-sit/sa/otel']],
  ['the last of several certificates', [XFCC, 'URI=spiffe://td/ns/admin/sa/root,URI=spiffe://td/ns/dynatrace-sit/sa/otel'], TRUSTED, ['URI:spiffe://td/ns/dynatrace-sit/sa/otel']],
  ['the last of several fields', [XFCC, 'URI=spiffe://td/ns/admin/sa/root', XFCC, 'DNS=otel.dynatrace-sit.svc'], TRUSTED, ['DNS:otel.dynatrace-sit.svc']],
  ['both', [XFF, '203.0.113.9', XFCC, 'DNS=otel.dynatrace-sit.svc'], '203.0.113.9', ['DNS:otel.dynatrace-sit.svc']],
];

t.test('a trusted peer is believed', async (t) => {
  const reader = createPeerReader(config(BOTH));
  const peer = await accept(t, TRUSTED);
  t.equal(reader.trusts(peer.address), true);
  for (const [what, headers, address, sans = []] of BELIEVED) t.strictSame(reader.read(peer, headers), { address, port: headers.includes(XFF) || headers.includes('x-FORWARDED-for') ? 0 : peer.port, sans }, what);
});

t.test('its neighbour is not, whatever it says', async (t) => {
  const reader = createPeerReader(config(BOTH));
  const peer = await accept(t, STRANGER);
  t.equal(reader.trusts(peer.address), false);
  for (const [what, headers] of [...BELIEVED, ...UNREADABLE]) t.strictSame(reader.read(peer, headers), { address: STRANGER, port: peer.port, sans: [] }, what);
});

t.test('of a trusted peer only that is believed which the listener names', async (t) => {
  const peer = await accept(t, TRUSTED);
  const headers = [XFF, '203.0.113.9', XFCC, 'DNS=otel.dynatrace-sit.svc'];
  t.strictSame(createPeerReader(config([])).read(peer, headers), { address: TRUSTED, port: peer.port, sans: [] });
  t.strictSame(createPeerReader(config(['x-forwarded-for'])).read(peer, headers), { address: '203.0.113.9', port: 0, sans: [] });
  t.strictSame(createPeerReader(config(['x-forwarded-client-cert'])).read(peer, headers), { address: TRUSTED, port: peer.port, sans: ['DNS:otel.dynatrace-sit.svc'] });
  t.strictSame(createPeerReader(config(BOTH, [])).read(peer, headers), { address: TRUSTED, port: peer.port, sans: [] }, 'nobody is trusted');
});

const UNREADABLE: readonly (readonly [what: string, headers: readonly string[], because: RegExp])[] = [
  ['a name', [XFF, 'otel.dynatrace-sit.svc'], /X-Forwarded-For: "otel\.dynatrace-sit\.svc"/],
  ['nothing', [XFF, ''], /X-Forwarded-For: ""/],
  ['unknown', [XFF, '203.0.113.9, unknown'], /X-Forwarded-For/],
  ['an end that says nothing', [XFF, '203.0.113.9,'], /X-Forwarded-For/],
  ['a second field that says nothing', [XFF, '203.0.113.9', XFF, ''], /X-Forwarded-For: "203\.0\.113\.9, "/],
  ['something that would forge a log line', [XFF, 'a\u0085"b'], /X-Forwarded-For: "a\\u0085\\"b"/],
  ['a certificate of no form', [XFCC, 'spiffe://td/ns/x'], /X-Forwarded-Client-Cert/],
  ['a quote that swallows the last element', [XFCC, 'Subject="CN=x', XFCC, 'URI=spiffe://td/ns/x'], /X-Forwarded-Client-Cert/],
];

t.test('what a trusted peer says and cannot be read is a fault that says what', async (t) => {
  const reader = createPeerReader(config(BOTH));
  const peer = await accept(t, TRUSTED);
  for (const [what, headers, because] of UNREADABLE) {
    const fault = reader.read(peer, headers);
    if (!(fault instanceof Fault)) {
      t.fail(`${what} was read as ${JSON.stringify(fault)}`);
      continue;
    }
    t.equal(fault.code, 'request-malformed', what);
    t.match(fault.message, because, what);
    t.match(fault.remedy, /believe/, what);
  }
});

t.test('behind a PROXY header its client is the peer, and is trusted or not by its own address', async (t) => {
  const reader = createPeerReader(config(BOTH));
  const client = peerInHeader({ address: '203.0.113.9', port: 56324, length: 48 });
  if (client === null) throw new Error('the header names a client');
  t.strictSame(client, { address: '203.0.113.9', port: 56324, sans: [] });
  t.equal(reader.trusts(client.address), false);
  t.strictSame(reader.read(client, [XFF, '198.51.100.1']), { address: '203.0.113.9', port: 56324, sans: [] }, 'a stranger');
  const between = peerInHeader({ address: '10.9.0.7', port: 7, length: 48 });
  if (between === null) throw new Error('the header names a client');
  t.equal(reader.trusts(between.address), true);
  t.strictSame(reader.read(between, [XFF, '198.51.100.1']), { address: '198.51.100.1', port: 0, sans: [] }, 'another trusted peer');
});

t.test('a peer that speaks for itself in its header stays who it is', async (t) => {
  t.equal(peerInHeader({ address: null, port: 0, length: 15 }), null);
});

t.test('an IPv4 peer of a dual-stack listener is known by its IPv4 address, an IPv6 peer by its own', async (t) => {
  t.equal((await accept(t, TRUSTED, '::')).address, TRUSTED);
  const six = await accept(t, '::1', '::1');
  t.equal(six.address, '::1');
  t.equal(createPeerReader(config(BOTH, ['::1/128'])).trusts(six.address), true);
});

t.test('a client that has reset its connection before it was looked at has no address, and is no trusted peer', async (t) => {
  const gone = peerOf({ remoteAddress: undefined, remotePort: undefined });
  t.strictSame(gone, { address: '-', port: 0, sans: [] });
  t.equal(createPeerReader(config(BOTH)).trusts(gone.address), false);
});

t.test('an IPv4 address is taken out of the mapped form alone', async (t) => {
  for (const [remoteAddress, address] of [
    ['::ffff:10.8.0.7', '10.8.0.7'],
    ['::fffe:10.8.0.7', '::fffe:a08:7'],
    ['::10.8.0.7', '::a08:7'],
    ['::1', '::1'],
    ['::ffff:a08:7', '10.8.0.7'],
    ['10.8.0.7', '10.8.0.7'],
    ['2001:db8::7', '2001:db8::7'],
  ] as const) t.strictSame(peerOf({ remoteAddress, remotePort: 7 }), { address, port: 7, sans: [] });
});

t.test('a client certificate names the peer, and not the client that the peer speaks for', async (t) => {
  const own: ClientPeer = { address: TRUSTED, port: 7, sans: ['DNS:sidecar.example'] };
  const reader = createPeerReader(config(BOTH));
  t.strictSame(reader.read(own, []), own);
  t.strictSame(reader.read(own, [XFF, '203.0.113.9']), { address: '203.0.113.9', port: 0, sans: [] });
  t.strictSame(reader.read(own, [XFCC, 'DNS=otel.example']), { address: TRUSTED, port: 7, sans: ['DNS:otel.example'] });
});

t.test('where nothing is to be believed, a request costs nothing: its peer is made once for the connection', async (t) => {
  const reader = createPeerReader(config([]));
  const peer = await accept(t, TRUSTED);
  t.equal(reader.read(peer, []), reader.read(peer, [XFF, '203.0.113.9']));
});
