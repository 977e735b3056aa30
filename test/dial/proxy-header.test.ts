/** The PROXY header that upstreams get: byte for byte, and as our own reader reads it. */
import fc from 'fast-check';
import t from 'tap';
import { encodeProxyHeader, type ProxiedClient } from '../../src/dial/proxy-header.ts';
import { Fault } from '../../src/errors.ts';
import { LONGEST_V1, readProxyHeader } from '../../src/listeners/proxy-protocol.ts';
import { binary, block4, block6, line, LOCAL, PROXY, TCP4, TCP6 } from '../support/proxy-header.ts';
import { holds } from '../support/property.ts';

const PORTS = 'dc0401bb';
const MAPPED = '00000000000000000000ffffcb007109';
const COMPATIBLE = '000000000000000000000000cb007109';
const SIX = '20010db8000000000000000000000007';
const UPSTREAM = '20010db8000000000000000000000001';
const NOBODY = { v1: line('UNKNOWN'), v2: binary(LOCAL, 0, Buffer.alloc(0)) };

const TABLE: readonly (readonly [what: string, client: string, upstream: string | null, v1: Buffer, v2: Buffer])[] = [
  ['IPv4', '203.0.113.9', '10.40.0.1', line('TCP4 203.0.113.9 10.40.0.1 56324 443'), binary(PROXY, TCP4, block4('203.0.113.9', '10.40.0.1', PORTS))],
  ['the last IPv4 address', '255.255.255.255', '0.0.0.0', line('TCP4 255.255.255.255 0.0.0.0 56324 443'), binary(PROXY, TCP4, block4('255.255.255.255', '0.0.0.0', PORTS))],
  ['IPv6', '2001:db8::7', '2001:db8::1', line('TCP6 2001:db8::7 2001:db8::1 56324 443'), binary(PROXY, TCP6, block6(SIX, UPSTREAM, PORTS))],
  ['IPv6 with a zone', 'fe80::7%eth0', '2001:db8::1', line('TCP6 fe80::7 2001:db8::1 56324 443'), binary(PROXY, TCP6, block6('fe800000000000000000000000000007', UPSTREAM, PORTS))],
  ['an IPv4 client of an IPv6 upstream', '203.0.113.9', '2001:db8::1', line('TCP6 ::ffff:cb00:7109 2001:db8::1 56324 443'), binary(PROXY, TCP6, block6(MAPPED, UPSTREAM, PORTS))],
  ['an IPv6 client of an IPv4 upstream', '2001:db8::7', '203.0.113.9', line('TCP6 2001:db8::7 ::ffff:cb00:7109 56324 443'), binary(PROXY, TCP6, block6(SIX, MAPPED, PORTS))],
  ['an IPv4 client inside IPv6, of an IPv4 upstream', '::ffff:203.0.113.9', '10.40.0.1', line('TCP4 203.0.113.9 10.40.0.1 56324 443'), binary(PROXY, TCP4, block4('203.0.113.9', '10.40.0.1', PORTS))],
  ['an IPv4 client of an IPv4 upstream inside IPv6', '203.0.113.9', '::ffff:a28:1', line('TCP4 203.0.113.9 10.40.0.1 56324 443'), binary(PROXY, TCP4, block4('203.0.113.9', '10.40.0.1', PORTS))],
  ['an IPv4 client inside IPv6, of an IPv6 upstream', '::ffff:cb00:7109', '2001:db8::1', line('TCP6 ::ffff:cb00:7109 2001:db8::1 56324 443'), binary(PROXY, TCP6, block6(MAPPED, UPSTREAM, PORTS))],
  ['an IPv4-compatible client, which is another one', '::203.0.113.9', '2001:db8::1', line('TCP6 ::cb00:7109 2001:db8::1 56324 443'), binary(PROXY, TCP6, block6(COMPATIBLE, UPSTREAM, PORTS))],
  ['an IPv4 client, the address known to a parent alone', '203.0.113.9', null, line('TCP4 203.0.113.9 0.0.0.0 56324 443'), binary(PROXY, TCP4, block4('203.0.113.9', '0.0.0.0', PORTS))],
  ['an IPv6 client, the address known to a parent alone', '2001:db8::7', null, line('TCP6 2001:db8::7 :: 56324 443'), binary(PROXY, TCP6, block6(SIX, '0'.repeat(32), PORTS))],
  ['a client that went before its address was read', '-', '10.40.0.1', NOBODY.v1, NOBODY.v2],
  ['nobody', '', null, NOBODY.v1, NOBODY.v2],
];

t.test('byte for byte', async (t) => {
  for (const [what, address, upstream, v1, v2] of TABLE) {
    const to = { address: upstream, port: 443 };
    t.equal(encodeProxyHeader({ version: 'v1', address, port: 56_324 }, to).toString('latin1'), v1.toString('latin1'), `v1, ${what}`);
    t.equal(encodeProxyHeader({ version: 'v2', address, port: 56_324 }, to).toString('hex'), v2.toString('hex'), `v2, ${what}`);
  }
});

t.test('as the reader reads it', async (t) => {
  // Groups of digits alone, as every address in the proxy is written; zeros often, to be shortened.
  const group = fc.oneof(fc.constant('0'), fc.nat(0xffff).map((value) => value.toString(16)));
  const mapped = fc.tuple(group, group).map((groups) => `0:0:0:0:0:ffff:${groups.join(':')}`);
  const address = fc.oneof(fc.ipV4(), mapped, fc.array(group, { minLength: 8, maxLength: 8 }).map((groups) => groups.join(':')));
  const client: fc.Arbitrary<ProxiedClient> = fc.record({ version: fc.constantFrom('v1' as const, 'v2' as const), address, port: fc.nat(65_535) });
  holds(
    t,
    'client and length come back',
    2000,
    fc.property(client, address, fc.nat(65_535), (proxied, upstream, port) => {
      const header = encodeProxyHeader(proxied, { address: upstream, port });
      const read = readProxyHeader(Buffer.concat([header, Buffer.from('GET /')]));
      if (read === null || read instanceof Fault || read.address === null) return false;
      const again = encodeProxyHeader({ ...proxied, address: read.address, port: read.port }, { address: upstream, port });
      return read.length === header.length && read.port === proxied.port && (proxied.version === 'v2' || header.length <= LONGEST_V1) && again.equals(header);
    }),
  );
});
