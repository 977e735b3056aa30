import t from 'tap';
import { createAddressGuard } from '../../src/policy/address-guard.ts';
import { ANONYMOUS } from '../../src/policy/client-table.ts';

const nobody = (): boolean => false;

t.test('without ranges, public unicast only', async (t) => {
  const guard = createAddressGuard({ name: 'eco-sit', addresses: null }, nobody);
  for (const address of ['8.8.8.8', '::ffff:8.8.8.8', '2606:4700::1', '64:ff9b::8.8.8.8']) t.equal(guard(address, 443), null, address);

  for (const [address, words] of [
    ['10.40.0.1', '10.40.0.1 (private, RFC 1918)'],
    ['169.254.169.254', '169.254.169.254 (metadata, cloud instance metadata)'],
    ['::ffff:169.254.169.254', '169.254.169.254 (metadata, cloud instance metadata)'],
    ['64:ff9b::a9fe:a9fe', '64:ff9b::a9fe:a9fe (metadata through nat64, cloud instance metadata)'],
    ['100.64.0.1', '100.64.0.1 (shared, RFC 6598)'],
    ['0.0.0.0', '0.0.0.0 (unspecified, RFC 1122)'],
    ['::', ':: (unspecified, RFC 4291)'],
  ] as const) {
    const fault = guard(address, 443);
    t.equal(fault?.code, 'address-not-allowed', address);
    t.match(fault?.message, `eco-sit: ${words}`, address);
    t.match(fault?.remedy, 'destinations.eco-sit.addresses', address);
  }
});

t.test('with ranges, those only', async (t) => {
  const guard = createAddressGuard(
    { name: 'eco', addresses: ['10.40.0.0/16', '127.0.0.1/32', 'fd12:3456::/32', '::ffff:10.50.0.0/112'] },
    nobody,
  );
  for (const address of [
    '10.40.0.0', '10.40.255.255', '::ffff:10.40.0.1', '127.0.0.1', 'fd12:3456::', 'fd12:3456:ffff:ffff:ffff:ffff:ffff:ffff',
    '10.50.0.0', '10.50.255.255', '::ffff:10.50.0.1',
  ]) t.equal(guard(address, 443), null, address);

  for (const address of [
    '10.39.255.255', '10.41.0.0', '127.0.0.2', 'fd12:3455:ffff:ffff:ffff:ffff:ffff:ffff', 'fd12:3457::', '8.8.8.8', '10.51.0.0',
    '64:ff9b::10.40.0.1', '::10.40.0.1', '::1',
  ]) {
    const fault = guard(address, 443);
    t.equal(fault?.code, 'address-not-allowed', address);
    t.match(fault?.message, 'outside the ranges listed in destinations.eco.addresses');
  }
  t.equal(createAddressGuard({ name: 'eco', addresses: [] }, nobody)('8.8.8.8', 443)?.code, 'address-not-allowed', 'an empty list permits nothing');
});

t.test('in report mode, public addresses outside the ranges pass, and no others', async (t) => {
  const guard = createAddressGuard({ name: 'eco', addresses: ['10.40.0.0/16'] }, (address) => address === '8.8.4.4', 'report');
  for (const address of ['10.40.0.1', '8.8.8.8', '::ffff:8.8.8.8', '2606:4700::1']) t.equal(guard(address, 443), null, address);
  for (const address of ['10.41.0.0', '127.0.0.1', '169.254.169.254', '100.64.0.1', 'fd00::1', '::1', '64:ff9b::a9fe:a9fe', 'fe80::1%eth0', '224.0.0.1', '0.0.0.0']) {
    t.equal(guard(address, 443)?.code, 'address-not-allowed', address);
  }
  t.equal(guard('8.8.4.4', 443)?.code, 'loop');
  const unlisted = createAddressGuard({ name: 'eco', addresses: null }, nobody, 'report');
  t.equal(unlisted('8.8.8.8', 443), null);
  t.equal(unlisted('10.40.0.1', 443)?.code, 'address-not-allowed');
  t.match(createAddressGuard(ANONYMOUS, nobody, 'report')('10.40.0.1', 443), { subject: 'no destination', remedy: /list all of its ranges in the addresses of a destination for this host:/ }, 'a host in no destination');
});

t.test('ourselves are refused first, however permitted', async (t) => {
  const asked: string[] = [];
  const guard = createAddressGuard({ name: 'eco', addresses: ['0.0.0.0/0', '::/0'] }, (address, port) => {
    asked.push(`${address} ${port}`);
    return address === '127.0.0.1' && port === 8080;
  });
  t.equal(guard('127.0.0.1', 8080)?.code, 'loop');
  t.equal(guard('::ffff:127.0.0.1', 8080)?.code, 'loop', 'mapped');
  t.equal(guard('127.0.0.1', 8081), null, 'another port');
  t.equal(guard('127.0.0.2', 8080), null, 'another address');
  t.same(asked, ['127.0.0.1 8080', '127.0.0.1 8080', '127.0.0.1 8081', '127.0.0.2 8080'], 'asked with canonical text');
});

t.test('what is no plain address is refused', async (t) => {
  const guard = createAddressGuard({ name: 'eco', addresses: ['0.0.0.0/0', '::/0'] }, nobody);
  for (const address of ['fe80::1%eth0', 'localhost', '127.1', '']) t.equal(guard(address, 443)?.code, 'address-not-allowed', JSON.stringify(address));
});

t.test('an invalid range is a mistake of the caller', async (t) => {
  for (const range of ['10.0.0.0/33', '10.0.0.0/', 'eco', '']) {
    t.throws(() => createAddressGuard({ name: 'eco', addresses: [range] }, nobody), TypeError, range);
  }
});
