/** One reading for every spelling of an address. */
import fc from 'fast-check';
import t from 'tap';
import { canonicalIp, parseIp } from '../../src/targets/ip-address.ts';
import { clientFromForwardedFor } from '../../src/identity/forwarded.ts';
import { encodeProxyHeader } from '../../src/dial/proxy-header.ts';
import { readProxyHeader } from '../../src/listeners/proxy-protocol.ts';
import { peerOf } from '../../src/listeners/trusted-peers.ts';
import { classifyAddress } from '../../src/policy/address-class.ts';

t.test('each spelling', async (t) => {
  for (const [text, canonical] of [
    ['192.0.2.1', '192.0.2.1'],
    ['::ffff:192.0.2.1', '192.0.2.1'],
    ['::ffff:c000:201', '192.0.2.1'],
    ['0:0:0:0:0:FFFF:192.0.2.1', '192.0.2.1'],
    ['::192.0.2.1', '::c000:201'],
    ['0:0:0:0:0:0:192.0.2.1', '::c000:201'],
    ['64:ff9b::192.0.2.1', '64:ff9b::c000:201'],
    ['2001:DB8:0:0:1::', '2001:db8:0:0:1::'],
    ['::', '::'],
    ['127.1', null],
    ['0x7f.1', null],
    ['fe80::1%eth0', null],
    ['[::1]', null],
    ['', null],
  ] as const) {
    t.equal(canonicalIp(text), canonical, text);
    t.equal(parseIp(text)?.toString() ?? null, canonical === null ? null : (parseIp(canonical)?.toString() ?? ''), text);
  }
});

t.test('all readers of an address agree', async () => {
  const group = fc.oneof(fc.constant('0'), fc.constant('ffff'), fc.nat(0xffff).map((value) => value.toString(16)));
  const dotted = fc.ipV4();
  const spelled = fc.oneof(dotted, dotted.map((text) => `::${text}`), dotted.map((text) => `::ffff:${text}`), fc.array(group, { minLength: 8, maxLength: 8 }).map((groups) => groups.join(':')));
  fc.assert(
    fc.property(spelled, (text) => {
      const canonical = canonicalIp(text);
      const v1 = readProxyHeader(Buffer.from(`PROXY ${text.includes(':') ? `TCP6 ${text} ::1` : `TCP4 ${text} 192.0.2.1`} 1 2\r\n`));
      const told = readProxyHeader(encodeProxyHeader({ version: 'v2', address: text, port: 1 }, { address: '2001:db8::1', port: 2 }));
      const mixed = text.startsWith('::') ? peerOf({ remoteAddress: text, remotePort: 1 }).address : canonical;
      const read = [clientFromForwardedFor(text, () => false), classifyAddress(text)?.canonical, v1 !== null && 'address' in v1 ? v1.address : null, told !== null && 'address' in told ? told.address : null, mixed];
      return canonical !== null && read.every((one) => one === canonical);
    }),
    { numRuns: 3000 },
  );
});
