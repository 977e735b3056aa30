import ipaddr from 'ipaddr.js';
import fc from 'fast-check';
import t from 'tap';
import { buildCidrTable } from '../../src/policy/tables.ts';
import { parseConfigHost } from '../../src/targets/host.ts';

t.test('the first list that holds an address, and the neighbours just outside', async (t) => {
  const table = buildCidrTable([
    ['10.8.0.0/14'],
    ['10.8.1.0/24', '192.0.2.1'],
    ['10.0.0.0/8', '2001:db8::/33', 'fe80::/10'],
    ['2001:db8::1/128', '::ffff:198.51.100.0/120'],
  ]);
  const expected: [address: string, index: number][] = [
    ['10.7.255.255', 2],
    ['10.8.0.0', 0],
    ['10.11.255.255', 0],
    ['10.12.0.0', 2],
    ['10.8.1.7', 0],
    ['9.255.255.255', -1],
    ['11.0.0.0', -1],
    ['192.0.2.0', -1],
    ['192.0.2.1', 1],
    ['192.0.2.2', -1],
    ['255.255.255.255', -1],
    ['0.0.0.0', -1],
    ['2001:db7:ffff:ffff:ffff:ffff:ffff:ffff', -1],
    ['2001:db8::', 2],
    ['2001:db8::1', 2],
    ['2001:db8:7fff:ffff:ffff:ffff:ffff:ffff', 2],
    ['2001:db8:8000::', -1],
    // IPv4 peers as a socket on `::` shows them
    ['::ffff:10.8.0.1', 0],
    ['::ffff:10.12.0.0', 2],
    ['::ffff:a08:1', 0],
    ['::FFFF:10.8.0.1', 0],
    ['0:0:0:0:0:ffff:10.8.0.1', 0],
    ['::10.8.0.1', -1],
    ['198.51.99.255', -1],
    ['198.51.100.0', 3],
    ['198.51.100.255', 3],
    ['198.51.101.0', -1],
    ['fe80::1%eth0', 2],
    ['fec0::1%eth0', -1],
    // no addresses
    ['', -1],
    ['10.8.0', -1],
    ['10.8.0.0.1', -1],
    ['10.8.0.256', -1],
    ['10.8.0.01', -1],
    ['10.8.0.', -1],
    ['.10.8.0', -1],
    ['10..8.0', -1],
    ['010.8.0.0', -1],
    ['0x0a.8.0.0', -1],
    ['168296448', -1],
    ['10.8.0.0 ', -1],
    ['[2001:db8::1]', -1],
    ['::ffff:::ffff:10.8.0.1', -1],
    ['localhost', -1],
  ];
  for (const [address, index] of expected) t.equal(table.find(address), index, JSON.stringify(address));
});

t.test('everything, single addresses, host bits', async (t) => {
  const table = buildCidrTable([['203.0.113.77/24'], ['0.0.0.0/0'], ['::/0']]);
  t.equal(table.find('203.0.113.1'), 0);
  t.equal(table.find('203.0.114.1'), 1);
  t.equal(table.find('::1'), 2);
  t.equal(table.find('::ffff:203.0.113.1'), 0);
  t.equal(buildCidrTable([['::ffff:0:0/96']]).find('1.2.3.4'), 0, 'the whole of IPv4, written as IPv6');
  t.equal(buildCidrTable([['::ffff:0:0/95']]).find('1.2.3.4'), -1, 'more than IPv4 is IPv6');
  t.equal(buildCidrTable([]).find('1.2.3.4'), -1);
  t.equal(buildCidrTable([['::/0']]).find('1.2.3.4'), -1, 'an IPv4 peer is no IPv6 address');
});

t.test('an entry that is no CIDR is never taken for one', async (t) => {
  for (const entry of ['', '10.8.0.0/33', '10.8.0.0/', '10.8.0.0/-1', '10.8.0.0/08', '10.8.0.0/8/8', '10.8/16', '010.0.0.0/8', '::/129', 'fe80::%eth0/10', 'name', '0x0a.0.0.0/8']) {
    t.throws(() => buildCidrTable([[entry]]), TypeError, entry);
  }
});

t.test('agrees with ipaddr.js, one entry after the other', async (t) => {
  const v4 = fc.tuple(fc.ipV4(), fc.integer({ min: 0, max: 32 })).map(([address, bits]) => `${address}/${bits}`);
  const v6 = fc.tuple(fc.ipV6(), fc.integer({ min: 0, max: 128 })).map(([address, bits]) => `${address}/${bits}`);
  const near = fc.tuple(fc.constantFrom(10, 11), fc.nat(3), fc.nat(255)).map(([a, b, c]) => `${a}.${b}.0.${c}`);
  const nearCidr = fc.tuple(near, fc.integer({ min: 6, max: 32 })).map(([address, bits]) => `${address}/${bits}`);
  fc.assert(
    fc.property(fc.array(fc.array(fc.oneof(nearCidr, v4, v6), { maxLength: 4 }), { maxLength: 6 }), fc.oneof(near, fc.ipV4(), fc.ipV6()), (lists, address) => {
      // By the hexadecimal form: ipaddr.js takes `::1.2.3.4` for `::ffff:1.2.3.4`.
      const parse = (text: string) => ipaddr.parse(parseConfigHost(text) ?? text);
      const asked = parse(address);
      const peer = asked instanceof ipaddr.IPv6 && asked.isIPv4MappedAddress() ? asked.toIPv4Address() : asked;
      const holds = (entry: string): boolean => {
        const [network = '', bits] = entry.split('/');
        const parsed = parse(network);
        if (parsed instanceof ipaddr.IPv6) return peer instanceof ipaddr.IPv6 && peer.match(parsed, Number(bits));
        return peer instanceof ipaddr.IPv4 && peer.match(parsed, Number(bits));
      };
      const expected = lists.findIndex((list) => list.some(holds));
      const found = buildCidrTable(lists).find(address);
      if (found !== expected) throw new Error(`${address}: found ${found}, expected ${expected}`);
    }),
    { numRuns: 3_000 },
  );
  t.pass('held');
});
