/** Address ranges for NetworkPolicies: the classes of the policy, in blocks that the API server takes. */
import t from 'tap';
import fc from 'fast-check';
import ipaddr from 'ipaddr.js';
import { blocksOf, everywhereBut, internalBut, type IpBlock, publicBut, routableBlocks } from '../../src/manifests/network-policy.ts';
import { classifyAddress, IPV4_RANGES, IPV6_RANGES } from '../../src/policy/address-class.ts';

const isIn = (address: string, cidr: string): boolean => {
  const parsed = ipaddr.parse(address);
  const [range, bits] = ipaddr.parseCIDR(cidr);
  return parsed.kind() === range.kind() && parsed.match(range, bits);
};
const holds = (blocks: readonly IpBlock[], address: string): boolean => blocks.some(({ cidr, except = [] }) => isIn(address, cidr) && !except.some((hole) => isIn(address, hole)));

const edges = [...IPV4_RANGES, ...IPV6_RANGES].flatMap(({ cidr }) => {
  const [address, bits] = ipaddr.parseCIDR(cidr);
  const bytes = address.toByteArray();
  const value = BigInt(`0x${Buffer.from(bytes).toString('hex')}`);
  const size = 1n << BigInt(bytes.length * 8 - bits);
  const all = 1n << BigInt(bytes.length * 8);
  return [value - 1n, value, value + size - 1n, value + size]
    .filter((one) => one >= 0n && one < all)
    .map((one) => ipaddr.fromByteArray([...Buffer.from(one.toString(16).padStart(bytes.length * 2, '0'), 'hex')]).toString());
});
const anyAddress = fc.oneof(
  fc.constantFrom(...edges),
  fc.uint8Array({ minLength: 4, maxLength: 4 }).map((bytes) => ipaddr.fromByteArray([...bytes]).toString()),
  fc.uint8Array({ minLength: 16, maxLength: 16 }).map((bytes) => ipaddr.fromByteArray([...bytes]).toString()),
);

t.test('public blocks hold what the policy takes for public', async () => {
  const blocks = publicBut([]);
  fc.assert(
    fc.property(anyAddress, (address) => {
      const judged = classifyAddress(address);
      // A translator's prefix (RFC 6052) is judged by the address inside; no partner has one for its own.
      if (judged?.via !== null || isIn(address, '64:ff9b::/96')) return;
      if (holds(blocks, address) !== (judged.class === 'public')) throw new Error(`${address} is ${judged.class}`);
    }),
    { numRuns: 1000, examples: edges.map((address): [string] => [address]) },
  );
});

t.test('exceptions are strictly inside, disjoint, and in order', async (t) => {
  const tables = [publicBut([]), publicBut(['8.8.8.0/24', '10.1.0.0/16']), internalBut(['10.40.0.0/16', 'fc00::/7']), routableBlocks(), everywhereBut(['0.0.0.0/1', '10.0.0.0/8', 'fd00::/8'])];
  for (const { cidr, except = [] } of tables.flat()) {
    for (const hole of except) t.ok(hole !== cidr && isIn(hole.split('/')[0] ?? '', cidr), `${hole} in ${cidr}`);
    for (const hole of except) t.notOk(except.some((other) => other !== hole && isIn(hole.split('/')[0] ?? '', other)), `${hole} in no other`);
  }
  t.strictSame(everywhereBut(['10.2.0.0/16', '9.0.0.0/8', '10.0.0.0/8']), [{ cidr: '0.0.0.0/0', except: ['9.0.0.0/8', '10.0.0.0/8'] }, { cidr: '::/0' }]);
  t.strictSame(everywhereBut(['0.0.0.0/0']), [{ cidr: '::/0' }], 'nothing is left of IPv4');
  t.strictSame(blocksOf(['10.2.0.0/16', '10.0.0.0/8', '10.0.0.0/8', '1.1.1.1/32']), [{ cidr: '1.1.1.1/32' }, { cidr: '10.0.0.0/8' }]);
});

t.test('thousands of ranges, each inside, around or beside the others', async (t) => {
  const range = (index: number, bits: number): string => `10.${index >> 8}.${index & 255}.0/${bits}`;
  const many = Array.from({ length: 10_000 }, (_, index) => range(index, 24));
  // With a comparison of each with each, this would take a quarter of an hour.
  t.strictSame(blocksOf(many.toReversed()), many.map((cidr) => ({ cidr })));
  t.strictSame(blocksOf([...many, range(512, 23), '10.0.0.0/15', '10.0.3.7/32']), [{ cidr: '10.0.0.0/15' }, { cidr: range(512, 23) }, ...many.slice(514).map((cidr) => ({ cidr }))]);
});
