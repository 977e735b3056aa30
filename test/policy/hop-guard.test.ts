/** Which addresses a parent proxy may have; each with the neighbour just outside. */
import t from 'tap';
import { createHopGuard } from '../../src/policy/address-guard.ts';

const nobody = (): boolean => false;
const open = createHopGuard({ name: 'edge', addresses: null }, nobody);

t.test('without ranges: any place where a parent could be', async (t) => {
  for (const address of ['8.8.8.8', '10.0.0.1', '172.16.0.1', '172.31.255.255', '192.168.0.1', '100.64.0.1', 'fd00::1', '2606:4700::1', '::ffff:10.0.0.1', '64:ff9b::a00:1']) t.equal(open(address, 3128), null, address);
  for (const address of [
    '127.0.0.1',
    '127.255.255.255',
    '::1',
    '169.254.0.1',
    '169.254.169.254',
    'fe80::1',
    'fd00:ec2::254',
    '100.100.100.200',
    '0.0.0.0',
    '::',
    '0.1.2.3',
    '224.0.0.1',
    '239.255.255.255',
    'ff02::1',
    '240.0.0.1',
    '255.255.255.255',
    '::ffff:127.0.0.1',
    '64:ff9b::a9fe:a9fe',
    '2002:7f00:1::',
  ]) {
    const fault = open(address, 3128);
    t.equal(fault?.code, 'hop-failed', address);
    t.match(fault?.message, /^hop edge: .* is where no parent is looked for/);
    t.match(fault?.remedy, 'hops.edge.addresses');
  }
});

t.test('with ranges: these alone', async (t) => {
  const listed = createHopGuard({ name: 'edge', addresses: ['10.40.0.0/16', '127.0.0.2/32', 'fd00:40::/32'] }, nobody);
  for (const address of ['10.40.0.0', '10.40.255.255', '::ffff:10.40.1.1', '127.0.0.2', 'fd00:40::1']) t.equal(listed(address, 3128), null, address);
  for (const address of ['10.39.255.255', '10.41.0.0', '127.0.0.1', '8.8.8.8', 'fd00:41::1']) t.match(listed(address, 3128), { code: 'hop-failed', message: /outside the ranges listed in hops\.edge\.addresses/ }, address);
});

t.test('what is no plain address', async (t) => {
  for (const address of ['parent.test', 'fe80::1%eth0', '0x7f.1', '[::1]', '']) t.match(open(address, 3128), { code: 'hop-failed', message: /is not a plain IP address/ }, address);
});

t.test('never ourselves, whatever is listed', async (t) => {
  const guard = createHopGuard({ name: 'edge', addresses: ['0.0.0.0/0'] }, (address, port) => address === '10.0.0.5' && port === 3128);
  t.match(guard('10.0.0.5', 3128), { code: 'loop', remedy: /hops\.edge\.url/ });
  t.match(guard('::ffff:10.0.0.5', 3128), { code: 'loop' });
  t.equal(guard('10.0.0.5', 3129), null);
});
