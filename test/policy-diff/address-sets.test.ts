/** Addresses are cut as the policy's table reads them: every address in one piece, and CIDRs that cover just an interval. */
import t from 'tap';
import { buildCidrTable } from '../../src/policy/tables.ts';
import { cutAddresses, describeIntervals, invertIntervals, joinIntervals, listCidrs, readInterval, writeAddress } from '../../src/policy-diff/address-sets.ts';
import { pick } from '../support/random-policies.ts';
import { between, seeded } from '../support/random.ts';

const CIDRS = ['10.0.0.0/8', '10.8.0.0/14', '10.8.1.4', '10.8.1.4/31', '0.0.0.0/0', '255.255.255.255', '::ffff:10.9.0.0/112', '2001:db8::/32', '::/0', '::/96', 'ffff::/16', '::ffff:0:0/95'];
const ADDRESSES = ['0.0.0.0', '9.255.255.255', '10.0.0.0', '10.8.1.3', '10.8.1.4', '10.8.1.5', '10.8.1.6', '10.9.0.0', '255.255.255.255', '::', '::1', '::fffe:ffff:ffff', '::1:0:0:0', '2001:db8::', '2001:db7:ffff::', '2001:db9::', 'ffff::1'];

t.test('every address is in one piece, with the lists that the table finds', async (t) => {
  const random = seeded(3);
  for (let round = 0; round < 300; round += 1) {
    const lists = Array.from({ length: between(random, 0, 4) }, () => Array.from({ length: between(random, 1, 3) }, () => pick(random, CIDRS)));
    const tables = lists.map((list) => buildCidrTable([list]));
    const listsOf = (address: string): number[] => tables.flatMap((table, index) => (table.find(address) === -1 ? [] : [index]));
    const atoms = cutAddresses(lists);
    for (const atom of atoms) if (String(listsOf(atom.witness)) !== String(atom.lists)) t.fail(atom.witness, { lists, atom: atom.lists });
    for (const address of ADDRESSES) {
      const { bits, first } = readInterval(address);
      const found = atoms.filter(({ intervals }) => intervals.some((one) => one.bits === bits && one.first <= first && first <= one.last));
      if (found.length !== 1 || String(found[0]?.lists) !== String(listsOf(address))) t.fail(address, { lists, found: found.map((atom) => atom.lists) });
    }
  }
  t.pass('300 sets of lists');
});

t.test('in words', async (t) => {
  const between10 = { ...readInterval('10.0.0.1'), last: readInterval('10.0.0.6').first };
  t.strictSame(listCidrs(between10, 10), ['10.0.0.1', '10.0.0.2/31', '10.0.0.4/31', '10.0.0.6']);
  t.equal(describeIntervals([between10], 2), '10.0.0.1, 10.0.0.2/31 and others');
  t.equal(describeIntervals([readInterval('10.8.0.0/14')], 2), '10.8.0.0/14');
  t.equal(describeIntervals([readInterval('2001:db8::/32')], 2), '2001:db8::/32');
  t.equal(writeAddress({ bits: 128 }, 1n), '::1');
  const halves = joinIntervals([readInterval('128.0.0.0/1'), readInterval('0.0.0.0/1'), readInterval('10.0.0.0/8')]);
  t.equal(describeIntervals(halves, 2), '0.0.0.0/0');
  t.equal(describeIntervals(invertIntervals(halves), 5), '::/81, ::8000:0:0/82, ::c000:0:0/83, ::e000:0:0/84, ::f000:0:0/85 and others', 'IPv4 in IPv6 is IPv4');
  t.strictSame(invertIntervals([...halves, readInterval('::/0')]), []);
});
