/** What trusted peers say of their clients: read exactly, or refused. */
import t from 'tap';
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { clientFromForwardedFor, lastOfXfcc } from '../../src/identity/forwarded.ts';

const trusted = (address: string): boolean => address.startsWith('10.0.') || address.startsWith('fd00:');

t.test('X-Forwarded-For: the first from the right that is no trusted peer', async (t) => {
  const cases: [value: string, client: string | null][] = [
    ['192.0.2.1', '192.0.2.1'],
    ['192.0.2.1, 10.0.0.1', '192.0.2.1'],
    ['192.0.2.1,10.0.0.1,\t10.0.0.2 ', '192.0.2.1'],
    ['198.51.100.7, 192.0.2.1, 10.0.0.1', '192.0.2.1'],
    ['10.0.0.3, 192.0.2.1, 10.0.0.1', '192.0.2.1'],
    ['10.0.0.3, 10.0.0.2', '10.0.0.3'],
    ['fd00::1', 'fd00::1'],
    // What the client itself wrote is not even read.
    ['nonsense, 192.0.2.1', '192.0.2.1'],
    [', 192.0.2.1, 10.0.0.1', '192.0.2.1'],
    // Forms that load balancers write.
    ['192.0.2.1:49152', '192.0.2.1'],
    ['192.0.2.1:0', '192.0.2.1'],
    ['2001:db8::1', '2001:db8::1'],
    ['2001:DB8:0:0::1', '2001:db8::1'],
    ['[2001:db8::1]', '2001:db8::1'],
    ['[2001:db8::1]:443', '2001:db8::1'],
    ['::ffff:192.0.2.1', '192.0.2.1'],
    ['[::ffff:c000:201]:1', '192.0.2.1'],
    ['192.0.2.1, ::ffff:10.0.0.1', '192.0.2.1'],
    ['192.0.2.1, [fd00::2]:80', '192.0.2.1'],
    // Without brackets a port cannot be told from the address.
    ['2001:db8::1:443', '2001:db8::1:443'],
  ];
  for (const [value, client] of cases) t.equal(clientFromForwardedFor(value, trusted), client, value);
});

t.test('X-Forwarded-For: an entry on the way that is no address', async (t) => {
  const bad = [
    '', ' ', ',', 'unknown', '_hidden', 'localhost', 'eco-sit.telus.internal', '192.0.2', '192.0.2.256', '192.0.2.01', '0x7f.1', '3221225985', '192.0.2.1/32',
    '192.0.2.1:', '192.0.2.1:65536', '192.0.2.1:-1', '192.0.2.1:0x50', '192.0.2.1:80:80', '[192.0.2.1]', '[192.0.2.1]:80', '[2001:db8::1', '2001:db8::1]', '[2001:db8::1]443',
    '[2001:db8::1]:', '[]', '[[2001:db8::1]]', 'fe80::1%eth0', '[fe80::1%25eth0]', '2001:db8:::1', '1:2:3:4:5:6:7:8:9', '"192.0.2.1"', 'for=192.0.2.1', '192.0.2.1 10.0.0.1', '192.0.2.1;10.0.0.1',
    '\u0661\u0669\u0662.0.2.1', '192.0.2.1\0', '192.0.2.1\u00a0', '192.0.2.1\n',
  ];
  for (const entry of bad) {
    t.equal(clientFromForwardedFor(entry, trusted), null, JSON.stringify(entry));
    t.equal(clientFromForwardedFor(`192.0.2.1, ${entry}`, trusted), null, `192.0.2.1, ${JSON.stringify(entry)}`);
    t.equal(clientFromForwardedFor(`192.0.2.1, ${entry}, 10.0.0.1`, trusted), null, `192.0.2.1, ${JSON.stringify(entry)}, 10.0.0.1`);
  }
  t.equal(clientFromForwardedFor('nonsense, 10.0.0.1', trusted), null, 'reached because all to the right are trusted');
  t.equal(clientFromForwardedFor('192.0.2.1,', trusted), null);
  t.equal(clientFromForwardedFor(',10.0.0.1', trusted), null);
});

t.test('X-Forwarded-For: any text, any peers', async (t) => {
  const entry = fc.oneof(fc.ipV4(), fc.ipV6(), fc.ipV6().map((address) => `[${address}]:80`), fc.string({ maxLength: 8 }), fc.constantFrom('10.0.0.1', '10.0.9.9', 'fd00::1', '', ' '));
  let found = 0;
  fc.assert(
    fc.property(fc.array(entry, { maxLength: 6 }), (entries) => {
      const client = clientFromForwardedFor(entries.join(','), trusted);
      if (client === null) return;
      found += 1;
      // What the client adds at the left, whatever it is, changes nothing.
      if (!trusted(client)) assert.equal(clientFromForwardedFor(`203.0.113.1, ${entries.join(',')}`, trusted), client);
      assert.equal(clientFromForwardedFor(client, trusted), client, 'canonical text is canonical');
    }),
    { numRuns: 20_000 },
  );
  t.ok(found > 5_000);
});

const HASH = '468ed33be74eee6556d90c0149c1309e9ba61d6425303443c0748a02dd8de688';
const ACTIVEGATE = 'spiffe://cluster.local/ns/dynatrace-sit/sa/activegate';
const ADMIN = 'spiffe://cluster.local/ns/kube-system/sa/admin';

t.test('X-Forwarded-Client-Cert: the last element', async (t) => {
  t.strictSame(lastOfXfcc(`By=spiffe://cluster.local/ns/eco-egress/sa/proxy;Hash=${HASH};Subject="";URI=${ACTIVEGATE}`), [`URI:${ACTIVEGATE}`]);
  // From Envoy's documentation.
  const element = `By=http://frontend.lyft.com;Hash=${HASH};Subject="/C=US/ST=CA/L=San Francisco/OU=Lyft/CN=Test Client";URI=http://testclient.lyft.com`;
  t.strictSame(lastOfXfcc(`${element},By=http://backend.lyft.com;Hash=${HASH.replace('4', '9')};URI=http://frontend.lyft.com`), ['URI:http://frontend.lyft.com']);
  t.strictSame(lastOfXfcc(`By=spiffe://p;By=http://p.example;Hash=${HASH};URI=${ACTIVEGATE};URI=http://x.example`), [`URI:${ACTIVEGATE}`, 'URI:http://x.example'], 'By is there once for each name of the proxy\'s own certificate');
  t.strictSame(lastOfXfcc(`Hash=${HASH.toUpperCase()};DNS=a.example;DNS=B.example;uri=${ACTIVEGATE}`), ['DNS:a.example', 'DNS:b.example', `URI:${ACTIVEGATE}`]);
  t.strictSame(lastOfXfcc(`URI=${ADMIN}, Hash=${HASH}`), [], 'names of an earlier element do not count');
  t.strictSame(lastOfXfcc(`URI="${ACTIVEGATE}"`), [`URI:${ACTIVEGATE}`]);
  t.strictSame(lastOfXfcc('URI="http://x.example/\\"a\\\\b"'), []);
  t.strictSame(lastOfXfcc('URI="http://x.example/\\a"'), ['URI:http://x.example/a']);
  t.strictSame(lastOfXfcc(`Subject="CN=a\\",URI=${ADMIN};X=\\"";URI=${ACTIVEGATE}`), [`URI:${ACTIVEGATE}`], 'a quoted value hides nothing');
  t.strictSame(lastOfXfcc('URI=;DNS='), [], 'Envoy writes empty values');
  t.strictSame(lastOfXfcc('URI=http://x.example/?a=b'), ['URI:http://x.example/?a=b']);
  t.strictSame(lastOfXfcc(`Cert="-----BEGIN%20CERTIFICATE-----%0A";Chain="";URI=${ACTIVEGATE}`), [`URI:${ACTIVEGATE}`]);
  t.strictSame(lastOfXfcc('DNS=*.telus.internal;URI=spiffe://x/a/../b'), [], 'names that are none identify nobody');
});

t.test('X-Forwarded-Client-Cert: what cannot be read in one way', async (t) => {
  const ours = `By=spiffe://p;Hash=${HASH};Subject="CN=client";URI=${ACTIVEGATE}`;
  const bad = [
    '', ' ', ',', ';', 'URI', '=x', 'URI=a;', 'URI=a,', 'URI=a, ', 'URI=a;;DNS=b', ',URI=a', 'URI=a,,URI=b', 'URI="a', 'URI=a"b"', 'URI="a"b', 'URI="a" ;DNS=b', 'URI=a\\b', 'U RI=a', ' URI=a',
    `Hash=${HASH};Hash=${HASH}`, 'Hash=abc', `Hash=${HASH}0`,
    // A quote that a client opened, to make our element look like text inside it or out of it.
    `Subject=",${ours}`, `Subject="x;URI=${ADMIN},${ours}`, `URI=${ADMIN};Subject=",${ours}`, `Subject="\\",${ours}`,
  ];
  for (const value of bad) t.equal(lastOfXfcc(value), null, value);
});

t.test('X-Forwarded-Client-Cert: whatever a client put first, the last element is ours or nothing', async (t) => {
  const noise = fc.string({ unit: fc.constantFrom('"', '\\', ',', ';', '=', ' ', 'U', 'R', 'I', 'a', 'B', 'y', 'H'), maxLength: 30 });
  const prefix = fc.oneof(noise, fc.tuple(noise, noise).map(([a, b]) => `URI=${ADMIN};Subject="${a}";By=${b}`), fc.constant(`URI=${ADMIN}`));
  const ours = `By=spiffe://p;Hash=${HASH};Subject="CN=client,O=\\"x\\"";URI=${ACTIVEGATE}`;
  let read = 0;
  fc.assert(
    fc.property(prefix, (text) => {
      const found = lastOfXfcc(`${text},${ours}`);
      if (found === null) return;
      read += 1;
      assert.deepEqual(found, [`URI:${ACTIVEGATE}`]);
    }),
    { numRuns: 20_000 },
  );
  t.ok(read > 1_000);
  fc.assert(fc.property(fc.string(), (text) => (lastOfXfcc(text), true)), { numRuns: 10_000 });
});
