/** Address ranges, listen addresses, DNS servers and hosts, each with the neighbour just outside. */
import t from 'tap';
import { readCidr, readDnsServer, readHostPattern, readListenAddress, readServerName } from '../../src/config/read-address.ts';
import type { Read } from '../../src/config/read-scalar.ts';

function wordsOf(result: Read<unknown>): string {
  return 'problem' in result ? `${result.problem} ${result.instead}` : `taken as ${JSON.stringify(result.value)}`;
}

t.test('ranges', async (t) => {
  const taken: [string, string][] = [
    ['10.8.0.0/14', '10.8.0.0/14'],
    ['10.8.0.1', '10.8.0.1/32'],
    ['0.0.0.0/0', '0.0.0.0/0'],
    ['FD00::/8', 'fd00::/8'],
    ['2001:db8:0:0::1', '2001:db8::1/128'],
    ['::/0', '::/0'],
    ['::1', '::1/128'],
    ['::10.8.0.1', '::a08:1/128'],
    ['::10.8.0.0/112', '::a08:0/112'],
  ];
  for (const [written, value] of taken) t.strictSame(readCidr(written), { value }, written);
  const refused: [unknown, RegExp][] = [
    ['10.8.1.0/14', /Write 10\.8\.0\.0\/14 for the whole range, or 10\.8\.1\.0\/32/],
    ['fd00::1/8', /Write fd00::\/8 for the whole range, or fd00::1\/128/],
    ['10.0.0.0/33', /0 to 32/],
    ['fd00::/129', /0 to 128/],
    ['10.0.0.0/', /not an address range/],
    ['10.0.0.0/08', /not an address range/],
    ['10.0.0.0/-1', /not an address range/],
    ['10.0.0/8', /not an address range/],
    ['010.0.0.0/8', /not an address range/],
    ['0x0a.0.0.0/8', /not an address range/],
    ['10.0.0.0/255.0.0.0', /not an address range/],
    ['fe80::1%eth0', /not an address range/],
    ['::ffff:10.8.0.0/112', /Write 10\.8\.0\.0\/16/],
    ['::ffff:10.8.0.1/112', /Write 10\.8\.0\.0\/16/],
    ['::ffff:10.8.0.0/96', /Write 0\.0\.0\.0\/0/],
    ['pods', /"pods" is not an address range/],
    ['', /not an address range/],
    [10, /not an address range/],
    [{}, /^A mapping/],
  ];
  for (const [written, words] of refused) t.match(wordsOf(readCidr(written)), words, JSON.stringify(written));
});

t.test('listen addresses', async (t) => {
  t.strictSame(readListenAddress('0.0.0.0:8080'), { value: { host: '0.0.0.0', port: 8080 } });
  t.strictSame(readListenAddress('[::]:65535'), { value: { host: '::', port: 65_535 } });
  t.strictSame(readListenAddress('127.0.0.1:0'), { value: { host: '127.0.0.1', port: 0 } });
  // The self check compares the text.
  t.strictSame(readListenAddress('[::ffff:0.0.0.0]:8080'), { value: { host: '0.0.0.0', port: 8080 } });
  t.strictSame(readListenAddress('[0:0:0:0:0:0:0:0]:8080'), { value: { host: '::', port: 8080 } });
  t.strictSame(readListenAddress('[fe80::1%eth0]:8080'), { value: { host: 'fe80::1%eth0', port: 8080 } }, 'a zone cannot be left out');
  const refused: [unknown, RegExp][] = [
    [8080, /Write the address too: 0\.0\.0\.0:8080/],
    ['8080', /Write the address too: 0\.0\.0\.0:8080/],
    [':8080', /no address before the port.*0\.0\.0\.0:8080/],
    ['localhost:8080', /Write an IP address: 127\.0\.0\.1:8080/],
    ['*:8080', /Write an IP address: 0\.0\.0\.0:8080/],
    ['0.0.0.0:65536', /not a listen address/],
    ['0.0.0.0:08080', /not a listen address/],
    ['0.0.0.0', /address:port/],
    ['::1:8080', /not a listen address/],
    ['[127.0.0.1]:8080', /brackets around something that is not an IPv6/],
    ['http://0.0.0.0:8080', /not a listen address/],
    [70_000, /Write address:port/],
    [undefined, /not a listen address/],
  ];
  for (const [written, words] of refused) t.match(wordsOf(readListenAddress(written)), words, JSON.stringify(written));
});

t.test('DNS servers', async (t) => {
  const taken: [string, string][] = [['10.0.0.10', '10.0.0.10:53'], ['10.0.0.10:5353', '10.0.0.10:5353'], ['fd00::10', '[fd00::10]:53'], ['[fd00::10]:54', '[fd00::10]:54']];
  for (const [written, value] of taken) t.strictSame(readDnsServer(written), { value }, written);
  for (const written of ['dns.example', '10.0.0.10:0', '10.0.0.10:65536', 'fe80::1%eth0', '[fe80::1%eth0]:53', '', 53]) t.match(wordsOf(readDnsServer(written)), /not the address of a DNS server/, JSON.stringify(written));
});

t.test('hosts', async (t) => {
  const taken: [string, string][] = [
    ['ECO-SIT.telus.internal.', 'eco-sit.telus.internal'],
    ['*.Telus.Internal', '*.telus.internal'],
    ['10.1.2.3', '10.1.2.3'],
    ['::1', '::1'],
    ['[FD00::1]', 'fd00::1'],
    ['bücher.example', 'xn--bcher-kva.example'],
  ];
  for (const [written, value] of taken) t.strictSame(readHostPattern(written), { value }, written);
  const refused: [unknown, RegExp][] = [
    ['https://eco.example/x', /Write the host alone: "eco\.example"/],
    ['https://', /Write the host alone: eco-sit/],
    ['eco.example:443', /Write the host alone: "eco\.example"\. Ports go under ports/],
    ['*', /no pattern for all hosts/],
    ['.eco.example', /Write "\*\.eco\.example"/],
    ['a.*.example', /\* is allowed only at the start/],
    ['*eco.example', /\* is allowed only at the start/],
    ['*.10.0.0.1', /\* is allowed only at the start/],
    ['10.0.0.0/8', /Ranges go under addresses/],
    ['010.0.0.1', /^"010\.0\.0\.1" is not a host\. As part of a URL it would be the address 8\.0\.0\.1/],
    ['10.1', /address 10\.0\.0\.1: write that, or the one that is meant/],
    ['2130706433', /address 127\.0\.0\.1/],
    ['eco.example/x', /Write the host alone: "eco\.example"\. Ports go under ports, paths under http\.paths/],
    ['eco.example:443/x', /Write the host alone: "eco\.example"/],
    ['eco.example/', /Write the host alone: "eco\.example"/],
    ['eco.example?x', /without scheme, port or path/],
    ['eco..example', /not a host/],
    ['', /not a host/],
    [443, /443 is not a host/],
  ];
  for (const [written, words] of refused) t.match(wordsOf(readHostPattern(written)), words, JSON.stringify(written));
});

t.test('server names', async (t) => {
  t.strictSame(readServerName('Eco.Example.'), { value: 'eco.example' });
  for (const written of ['10.0.0.1', '[::1]', '*.eco.example', 'eco.example:443', '', 1]) t.match(wordsOf(readServerName(written)), /not a host name/, JSON.stringify(written));
});
