import { readFile } from 'node:fs/promises';
import fc from 'fast-check';
import ipaddr from 'ipaddr.js';
import t from 'tap';
import type { Test } from 'tap';
import { classifyAddress, IPV4_RANGES, IPV6_RANGES } from '../../src/policy/address-class.ts';

/** First and last address of a range, its class, and the neighbours on either side with theirs. */
type Row = readonly [first: string, last: string, expected: string, before: string | null, after: string | null];

const classOf = (address: string): string => {
  const known = classifyAddress(address);
  return known === null ? 'null' : known.via === null ? known.class : `${known.class} via ${known.via}`;
};

/** A neighbour is written `address class`. */
const check = (rows: readonly Row[]) => async (t: Test) => {
  for (const [first, last, expected, before, after] of rows) {
    t.equal(classOf(first), expected, `${first} begins ${expected}`);
    t.equal(classOf(last), expected, `${last} ends ${expected}`);
    for (const neighbour of [before, after]) {
      if (neighbour === null) continue;
      const [address = '', ...words] = neighbour.split(' ');
      t.equal(classOf(address), words.join(' '), `${address} next to ${expected}`);
    }
  }
};

t.test('IPv4 ranges', check([
  ['0.0.0.0', '0.0.0.0', 'unspecified', null, '0.0.0.1 this-network'],
  ['0.0.0.1', '0.255.255.255', 'this-network', '0.0.0.0 unspecified', '1.0.0.0 public'],
  ['10.0.0.0', '10.255.255.255', 'private', '9.255.255.255 public', '11.0.0.0 public'],
  ['100.64.0.0', '100.127.255.255', 'shared', '100.63.255.255 public', '100.128.0.0 public'],
  ['100.100.100.200', '100.100.100.200', 'metadata', '100.100.100.199 shared', '100.100.100.201 shared'],
  ['127.0.0.0', '127.255.255.255', 'loopback', '126.255.255.255 public', '128.0.0.0 public'],
  ['168.63.129.16', '168.63.129.16', 'metadata', '168.63.129.15 public', '168.63.129.17 public'],
  ['169.254.0.0', '169.254.255.255', 'link-local', '169.253.255.255 public', '169.255.0.0 public'],
  ['169.254.169.254', '169.254.169.254', 'metadata', '169.254.169.253 link-local', '169.254.169.255 link-local'],
  ['169.254.170.2', '169.254.170.2', 'metadata', '169.254.170.1 link-local', '169.254.170.3 link-local'],
  ['169.254.170.23', '169.254.170.23', 'metadata', '169.254.170.22 link-local', '169.254.170.24 link-local'],
  ['172.16.0.0', '172.31.255.255', 'private', '172.15.255.255 public', '172.32.0.0 public'],
  ['192.0.0.0', '192.0.0.255', 'reserved', '191.255.255.255 public', '192.0.1.0 public'],
  ['192.0.0.192', '192.0.0.192', 'metadata', '192.0.0.191 reserved', '192.0.0.193 reserved'],
  ['192.0.2.0', '192.0.2.255', 'documentation', '192.0.1.255 public', '192.0.3.0 public'],
  ['192.31.196.0', '192.31.196.255', 'anycast-service', '192.31.195.255 public', '192.31.197.0 public'],
  ['192.52.193.0', '192.52.193.255', 'anycast-service', '192.52.192.255 public', '192.52.194.0 public'],
  ['192.88.99.0', '192.88.99.255', 'transition', '192.88.98.255 public', '192.88.100.0 public'],
  ['192.168.0.0', '192.168.255.255', 'private', '192.167.255.255 public', '192.169.0.0 public'],
  ['192.175.48.0', '192.175.48.255', 'anycast-service', '192.175.47.255 public', '192.175.49.0 public'],
  ['198.18.0.0', '198.19.255.255', 'benchmarking', '198.17.255.255 public', '198.20.0.0 public'],
  ['198.51.100.0', '198.51.100.255', 'documentation', '198.51.99.255 public', '198.51.101.0 public'],
  ['203.0.113.0', '203.0.113.255', 'documentation', '203.0.112.255 public', '203.0.114.0 public'],
  ['224.0.0.0', '239.255.255.255', 'multicast', '223.255.255.255 public', '240.0.0.0 reserved'],
  ['240.0.0.0', '255.255.255.254', 'reserved', '239.255.255.255 multicast', '255.255.255.255 broadcast'],
]));

t.test('IPv6 ranges', check([
  ['::', '::', 'unspecified', null, '::1 loopback'],
  ['::1', '::1', 'loopback', ':: unspecified', '::2 this-network via compatible'],
  ['::1:0:0', '::fffe:ffff:ffff', 'reserved', '::ffff:ffff broadcast via compatible', '::ffff:0:0 unspecified via mapped'],
  ['100::', '100::ffff:ffff:ffff:ffff', 'discard', 'ff:ffff:ffff:ffff:ffff:ffff:ffff:ffff reserved', '100:0:0:1:: discard'],
  ['100:0:0:1::', '100::1:ffff:ffff:ffff:ffff', 'discard', null, '100:0:0:2:: reserved'],
  ['2001:1::', '2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff', 'reserved', null, '2001:200:: public'],
  ['2001:2::', '2001:2:0:ffff:ffff:ffff:ffff:ffff', 'benchmarking', '2001:1:ffff:ffff:ffff:ffff:ffff:ffff reserved', '2001:2:1:: reserved'],
  ['2001:3::', '2001:3:ffff:ffff:ffff:ffff:ffff:ffff', 'anycast-service', '2001:2:ffff:ffff:ffff:ffff:ffff:ffff reserved', '2001:4:: reserved'],
  ['2001:4:112::', '2001:4:112:ffff:ffff:ffff:ffff:ffff', 'anycast-service', '2001:4:111:ffff:ffff:ffff:ffff:ffff reserved', '2001:4:113:: reserved'],
  ['2001:db8::', '2001:db8:ffff:ffff:ffff:ffff:ffff:ffff', 'documentation', '2001:db7:ffff:ffff:ffff:ffff:ffff:ffff public', '2001:db9:: public'],
  ['2000::', '2000:ffff:ffff:ffff:ffff:ffff:ffff:ffff', 'public', '1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff reserved', null],
  ['2620:4f:8000::', '2620:4f:8000:ffff:ffff:ffff:ffff:ffff', 'anycast-service', '2620:4f:7fff:ffff:ffff:ffff:ffff:ffff public', '2620:4f:8001:: public'],
  ['3fff::', '3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff', 'documentation', '3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff public', '3fff:1000:: public'],
  ['4000::', '5fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff', 'reserved', '3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff public', null],
  ['fc00::', 'fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff', 'unique-local', 'fbff:ffff:ffff:ffff:ffff:ffff:ffff:ffff reserved', 'fe00:: reserved'],
  ['fd00:ec2::254', 'fd00:ec2::254', 'metadata', 'fd00:ec2::253 unique-local', 'fd00:ec2::255 unique-local'],
  ['fd00:ec2::23', 'fd00:ec2::23', 'metadata', 'fd00:ec2::22 unique-local', 'fd00:ec2::24 unique-local'],
  ['fd20:ce::254', 'fd20:ce::254', 'metadata', 'fd20:ce::253 unique-local', 'fd20:ce::255 unique-local'],
  ['fe80::', 'febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff', 'link-local', 'fe7f:ffff:ffff:ffff:ffff:ffff:ffff:ffff reserved', 'fec0:: site-local'],
  ['fec0::', 'feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff', 'site-local', 'febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff link-local', 'ff00:: multicast'],
  ['ff00::', 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff', 'multicast', null, null],
]));

t.test('embedded IPv4 addresses', check([
  // The edges of each embedding carry 0.0.0.0 and 255.255.255.255; a public address inside shows the outer class.
  ['::ffff:0:0', '::ffff:0.0.0.0', 'unspecified via mapped', '::fffe:ffff:ffff reserved', '::ffff:0:1 this-network via mapped'],
  ['::ffff:255.255.255.255', '::ffff:ffff:ffff', 'broadcast via mapped', null, '::1:0:0:0 reserved'],
  ['::ffff:8.8.8.8', '::FFFF:808:808', 'public via mapped', null, null],
  ['::ffff:a9fe:a9fe', '::ffff:169.254.169.254', 'metadata via mapped', null, null],
  ['::8.8.8.8', '::808:808', 'transition via compatible', null, null],
  ['::127.0.0.1', '::7f00:1', 'loopback via compatible', null, null],
  ['::ffff:0:10.0.0.0', '::ffff:0:10.255.255.255', 'private via translated', '::ffff:0:9.255.255.255 transition via translated', '::ffff:0:11.0.0.0 transition via translated'],
  ['::ffff:0:0:0', '::ffff:0:0.0.0.0', 'unspecified via translated', '::fffe:ffff:ffff:ffff reserved', null],
  ['::ffff:0:ffff:ffff', '::ffff:0:255.255.255.255', 'broadcast via translated', null, '::ffff:1:0:0 reserved'],
  ['64:ff9b::', '64:ff9b::0.0.0.0', 'unspecified via nat64', '64:ff9a:ffff:ffff:ffff:ffff:ffff:ffff reserved', '64:ff9b::1 this-network via nat64'],
  ['64:ff9b::ffff:ffff', '64:ff9b::255.255.255.255', 'broadcast via nat64', '64:ff9b::ffff:fffe reserved via nat64', '64:ff9b::1:0:0 reserved'],
  ['64:ff9b::808:808', '64:ff9b::8.8.8.8', 'public via nat64', null, null],
  ['64:ff9b::a9fe:a9fe', '64:ff9b::169.254.169.254', 'metadata via nat64', null, null],
  ['64:ff9b:1::8.8.8.8', '64:ff9b:1:ffff::8.8.8.8', 'transition via nat64-local', '64:ff9b:0:ffff::8.8.8.8 reserved', '64:ff9b:2::8.8.8.8 reserved'],
  ['64:ff9b:1::', '64:ff9b:1:ffff::', 'unspecified via nat64-local', '64:ff9b:0:ffff:ffff:ffff:ffff:ffff reserved', null],
  ['64:ff9b:1::10.0.0.1', '64:ff9b:1:ffff::10.0.0.1', 'private via nat64-local', null, null],
  ['2002:a00::', '2002:aff:ffff:ffff:ffff:ffff:ffff:ffff', 'private via 6to4', '2002:9ff:ffff:ffff:ffff:ffff:ffff:ffff transition via 6to4', '2002:b00:: transition via 6to4'],
  ['2002::', '2002:0:0:ffff:ffff:ffff:ffff:ffff', 'unspecified via 6to4', '2001:ffff:ffff:ffff:ffff:ffff:ffff:ffff public', '2002:0:1:: this-network via 6to4'],
  ['2002:ffff:ffff::', '2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff', 'broadcast via 6to4', null, '2003:: public'],
  // Teredo: server 8.8.8.8 is 0808:0808; client 10.0.0.1 inverted is f5ff:fffe, client 8.8.8.8 is f7f7:f7f7.
  ['2001:0:808:808::f7f7:f7f7', '2001:0:808:808:ffff:ffff:f7f7:f7f7', 'transition via teredo', null, null],
  ['2001:0:808:808::f5ff:fffe', '2001:0:808:808:ffff:ffff:f5ff:fffe', 'private via teredo', null, null],
  ['2001:0:7f00:1::f7f7:f7f7', '2001:0:7f00:1:ffff:ffff:f7f7:f7f7', 'loopback via teredo', null, null],
  ['2001::', '2001:0:0:0:ffff:ffff:ffff:ffff', 'unspecified via teredo', '2000:ffff:ffff:ffff:ffff:ffff:ffff:ffff public', '2001:0:0:1:: this-network via teredo'],
  ['2001:0:ffff:ffff::', '2001:0:ffff:ffff:ffff:ffff:ffff:ffff', 'broadcast via teredo', null, '2001:1:: reserved'],
  ['2606:4700::5efe:10.0.0.1', '2606:4700::200:5efe:10.0.0.1', 'private via isatap', '2606:4700::5efd:10.0.0.1 public', '2606:4700::5eff:10.0.0.1 public'],
  ['2606:4700::5efe:8.8.8.8', '2606:4700::300:5efe:8.8.8.8', 'public via isatap', '2606:4700::400:5efe:10.0.0.1 public', '2606:4700::1:5efe:10.0.0.1 public'],
  ['fe80::5efe:10.0.0.1', 'fe80::200:5efe:8.8.8.8', 'link-local', null, null],
]));

t.test('text that is no plain address', async (t) => {
  for (const text of [
    '', 'eco-sit.telus.internal', '127.1', '2130706433', '0x7f.0.0.1', '0177.0.0.1', '127.0.0.1.', ' 127.0.0.1', '127.0.0.1/32',
    '[::1]', 'fe80::1%eth0', '::1%1', '::ffff:127.0.0.1%lo', ':::', '1:2:3', '256.0.0.1', '::ffff:256.0.0.1', '127.0.0.1\0', '１27.0.0.1',
  ]) t.equal(classifyAddress(text), null, JSON.stringify(text));
});

t.test('canonical text', async (t) => {
  for (const [text, canonical] of [
    ['2001:0DB8:0:0:0:0:0:1', '2001:db8::1'],
    ['::FFFF:10.0.0.1', '10.0.0.1'],
    ['0:0:0:0:0:ffff:a00:1', '10.0.0.1'],
    ['2606:0:0:1:0:0:0:1', '2606:0:0:1::1'],
    ['8.8.8.8', '8.8.8.8'],
    ['::10.0.0.1', '::a00:1'],
    ['0::10.0.0.1', '::a00:1'],
  ] as const) t.equal(classifyAddress(text)?.canonical, canonical, text);
});

t.test('an independent reader sees the same address', async (t) => {
  fc.assert(
    fc.property(fc.ipV6(), (text) => {
      const read = new URL(`http://[${text}]/`).hostname.slice(1, -1);
      const known = classifyAddress(text);
      return known?.via === 'mapped' ? /^::ffff:[0-9a-f:]+$/.test(read) : known?.canonical === read;
    }),
    { numRuns: 2_000 },
  );
  t.pass('2,000 addresses');
});

t.test('what another list of ranges calls special is never public', async (t) => {
  fc.assert(
    fc.property(fc.ipV4(), (text) => classifyAddress(text)?.class !== 'public' || ipaddr.parse(text).range() === 'unicast'),
    { numRuns: 2_000 },
  );
  fc.assert(
    fc.property(fc.ipV6(), (text) => {
      const known = classifyAddress(text);
      return known?.class !== 'public' || known.via === 'nat64' || known.via === 'mapped' || ipaddr.parse(text).range() === 'unicast';
    }),
    { numRuns: 2_000 },
  );
  t.pass('4,000 addresses');
});

t.test('the page for users names every class', async (t) => {
  const page = await readFile(new URL('../../docs/dialling.md', import.meta.url), 'utf8');
  const classes = new Set([...IPV4_RANGES, ...IPV6_RANGES].map((range) => range.class));
  classes.delete('public');
  for (const name of classes) t.match(page, `\`${name}\``, name);
});
