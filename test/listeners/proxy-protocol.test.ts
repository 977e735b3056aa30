/** PROXY protocol v1 and v2: what is taken, what just misses it, and every way the bytes can come in. */
import fc from 'fast-check';
import t from 'tap';
import { Fault } from '../../src/errors.ts';
import { isProxyHeader, LONGEST_V1, LONGEST_V2, readProxyHeader } from '../../src/listeners/proxy-protocol.ts';
import { recogniseMistake } from '../../src/listeners/wrong-protocol.ts';
import { binary, block4, block6, line, LOCAL, PROXY, TCP4, TCP6, tlv, V2_SIGNATURE } from '../support/proxy-header.ts';

const V6 = '20010db8000000000000000000000007';
const room = (length: number, before: Buffer): Buffer => tlv(0x04, Buffer.alloc(length - 16 - before.length - 3));

/** What is taken, with the address and port it gives. */
const TAKEN: readonly (readonly [what: string, header: Buffer, address: string | null, port: number])[] = [
  ['TCP4', line('TCP4 203.0.113.9 10.0.0.1 56324 443'), '203.0.113.9', 56324],
  ['the longest TCP4', line('TCP4 255.255.255.255 255.255.255.255 65535 65535'), '255.255.255.255', 65535],
  ['port 0', line('TCP4 203.0.113.9 10.0.0.1 0 0'), '203.0.113.9', 0],
  ['TCP6', line('TCP6 2001:db8::7 2001:db8::1 56324 443'), '2001:db8::7', 56324],
  ['TCP6 written at length and in capitals', line('TCP6 2001:0DB8:0000:0000:0000:0000:0000:0007 ::1 1 2'), '2001:db8::7', 1],
  ['TCP6 with an IPv4 client', line('TCP6 ::ffff:203.0.113.9 ::ffff:10.0.0.1 1 2'), '203.0.113.9', 1],
  ['TCP6 with an IPv4 client in hexadecimal', line('TCP6 ::FFFF:cb00:7109 ::1 1 2'), '203.0.113.9', 1],
  ['TCP6 with the address before the mapped ones', line('TCP6 ::fffe:cb00:7109 ::1 1 2'), '::fffe:cb00:7109', 1],
  ['the longest TCP6', line(`TCP6 ${'ffff:'.repeat(7)}ffff ${'ffff:'.repeat(7)}ffff 65535 65535`), 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff', 65535],
  ['UNKNOWN', line('UNKNOWN'), null, 0],
  ['UNKNOWN with addresses', line('UNKNOWN 203.0.113.9 10.0.0.1 1 2'), null, 0],
  ['UNKNOWN with anything', line('UNKNOWN \0\xff  -'), null, 0],
  ['UNKNOWN as long as a line may be', line(`UNKNOWN ${'x'.repeat(LONGEST_V1 - 16)}`), null, 0],
  ['v2 TCP4', binary(PROXY, TCP4, block4('203.0.113.9')), '203.0.113.9', 8080],
  ['v2 TCP4, the last address', binary(PROXY, TCP4, block4('255.255.255.255')), '255.255.255.255', 8080],
  ['v2 TCP6', binary(PROXY, TCP6, block6(V6)), '2001:db8::7', 8080],
  ['v2 TCP6 with an IPv4 client', binary(PROXY, TCP6, block6('00000000000000000000ffffcb007109')), '203.0.113.9', 8080],
  ['v2 with TLVs', binary(PROXY, TCP4, Buffer.concat([block4('203.0.113.9'), tlv(0x04, Buffer.alloc(7)), tlv(0x03, Buffer.alloc(4, 1)), tlv(0xea, Buffer.alloc(0))])), '203.0.113.9', 8080],
  ['v2 as long as it may be', binary(PROXY, TCP4, Buffer.concat([block4('203.0.113.9'), room(LONGEST_V2, block4('203.0.113.9'))])), '203.0.113.9', 8080],
  ['v2 LOCAL', binary(LOCAL, 0, Buffer.alloc(0)), null, 0],
  ['v2 LOCAL with addresses', binary(LOCAL, TCP4, block4('203.0.113.9')), null, 0],
  ['v2 LOCAL of a family that is not taken', binary(LOCAL, 0x31, Buffer.alloc(216)), null, 0],
  ['v2 UNSPEC', binary(PROXY, 0, Buffer.alloc(0)), null, 0],
  ['v2 UNSPEC with something in it', binary(PROXY, 0, Buffer.alloc(11, 7)), null, 0],
];

/** What is refused, with a word of the reason. */
const REFUSED: readonly (readonly [what: string, bytes: Buffer, because: RegExp])[] = [
  ['HTTP', Buffer.from('GET / HTTP/1.1\r\n'), /begins with "GET \/ HTTP\/1\.1\\u000d\\u000a", which is not a PROXY/],
  ['TLS', Buffer.from([0x16, 3, 1]), /not a PROXY/],
  ['lower case', Buffer.from('proxy TCP4 '), /not a PROXY/],
  ['no space after PROXY', Buffer.from('PROXY\tTCP4'), /not a PROXY/],
  ['a space too many', line(' TCP4 203.0.113.9 10.0.0.1 1 2'), /protocol ""/],
  ['two spaces between', line('TCP4 203.0.113.9  10.0.0.1 1 2'), /two TCP4 addresses/],
  ['a space at the end', line('TCP4 203.0.113.9 10.0.0.1 1 2 '), /two ports/],
  ['a tab', line('TCP4\t203.0.113.9 10.0.0.1 1 2'), /protocol/],
  ['UDP4', line('UDP4 203.0.113.9 10.0.0.1 1 2'), /protocol "UDP4"/],
  ['TCP5', line('TCP5 203.0.113.9 10.0.0.1 1 2'), /protocol "TCP5"/],
  ['UNKNOWNS', line('UNKNOWNS'), /protocol "UNKNOWNS"/],
  ['no family', line(''), /protocol ""/],
  ['no addresses', line('TCP4'), /two TCP4 addresses/],
  ['one address', line('TCP4 203.0.113.9'), /two TCP4 addresses/],
  ['no ports', line('TCP4 203.0.113.9 10.0.0.1'), /two ports/],
  ['one port', line('TCP4 203.0.113.9 10.0.0.1 1'), /two ports/],
  ['a name for an address', line('TCP4 localhost 10.0.0.1 1 2'), /two TCP4 addresses/],
  ['IPv6 as TCP4', line('TCP4 ::1 ::1 1 2'), /two TCP4 addresses/],
  ['IPv4 as TCP6', line('TCP6 203.0.113.9 10.0.0.1 1 2'), /two TCP6 addresses/],
  ['mixed families', line('TCP6 2001:db8::7 10.0.0.1 1 2'), /two TCP6 addresses/],
  ['a zone', line('TCP6 fe80::1%eth0 ::1 1 2'), /two TCP6 addresses/],
  ['brackets', line('TCP6 [2001:db8::7] ::1 1 2'), /two TCP6 addresses/],
  ['octal', line('TCP4 0203.0.113.9 10.0.0.1 1 2'), /two TCP4 addresses/],
  ['a leading zero', line('TCP4 203.0.113.09 10.0.0.1 1 2'), /two TCP4 addresses/],
  ['octet 256', line('TCP4 256.0.113.9 10.0.0.1 1 2'), /two TCP4 addresses/],
  ['a number for an address', line('TCP4 3405803785 10.0.0.1 1 2'), /two TCP4 addresses/],
  ['port 65536', line('TCP4 203.0.113.9 10.0.0.1 65536 2'), /two ports/],
  ['port 01', line('TCP4 203.0.113.9 10.0.0.1 01 2'), /two ports/],
  ['port -1', line('TCP4 203.0.113.9 10.0.0.1 1 -1'), /two ports/],
  ['an empty port', line('TCP4 203.0.113.9 10.0.0.1  2'), /two ports/],
  ['LF alone', Buffer.from('PROXY TCP4 203.0.113.9 10.0.0.1 1 2\n'), /CR LF/],
  ['CR alone', Buffer.from('PROXY TCP4 203.0.113.9 10.0.0.1 1 2\rX'), /CR LF/],
  ['LF inside UNKNOWN', Buffer.from('PROXY UNKNOWN a\nb\r\n'), /CR LF/],
  ['a line one byte too long', line(`UNKNOWN ${'x'.repeat(LONGEST_V1 - 15)}`), /longer than 107/],
  ['a line that does not end', Buffer.from(`PROXY ${'x'.repeat(LONGEST_V1 - 7)}`), /longer than 107/],
  ['v2 with a signature cut short', Buffer.concat([V2_SIGNATURE.subarray(0, 11), Buffer.from([0x0b])]), /not a PROXY/],
  ['version 1 in binary', binary(0x11, TCP4, block4('203.0.113.9')), /version 1/],
  ['version 3', binary(0x31, TCP4, block4('203.0.113.9')), /version 3/],
  ['command 2', binary(0x22, TCP4, block4('203.0.113.9')), /command 2/],
  ['command 15', binary(0x2f, TCP4, block4('203.0.113.9')), /command 15/],
  ['UDP over IPv4', binary(PROXY, 0x12, block4('203.0.113.9')), /UDP over IPv4/],
  ['UDP over IPv6', binary(PROXY, 0x22, block6(V6)), /UDP over IPv6/],
  ['a UNIX stream', binary(PROXY, 0x31, Buffer.alloc(216)), /UNIX stream/],
  ['a UNIX datagram', binary(PROXY, 0x32, Buffer.alloc(216)), /UNIX datagram/],
  ['family 4', binary(PROXY, 0x41, Buffer.alloc(216)), /family 0x41/],
  ['TCP over nothing', binary(PROXY, 0x01, Buffer.alloc(12)), /family 0x01/],
  ['IPv4 over nothing', binary(PROXY, 0x10, block4('203.0.113.9')), /family 0x10/],
  ['TCP4 one byte too short', binary(PROXY, TCP4, block4('203.0.113.9').subarray(0, 11)), /too short/],
  ['TCP6 one byte too short', binary(PROXY, TCP6, block6(V6).subarray(0, 35)), /too short/],
  ['TCP6 as long as TCP4', binary(PROXY, TCP6, block4('203.0.113.9')), /too short/],
  ['one byte too long', binary(PROXY, TCP4, Buffer.alloc(0), LONGEST_V2 - 15), /4097 bytes long/],
  ['as long as the format allows', binary(LOCAL, 0, Buffer.alloc(0), 0xffff), /65551 bytes long/],
  ['a byte after the addresses', binary(PROXY, TCP4, Buffer.concat([block4('203.0.113.9'), Buffer.alloc(1)])), /TLVs/],
  ['two bytes after the addresses', binary(PROXY, TCP4, Buffer.concat([block4('203.0.113.9'), Buffer.alloc(2)])), /TLVs/],
  ['a TLV that reaches past the end', binary(PROXY, TCP4, Buffer.concat([block4('203.0.113.9'), tlv(4, Buffer.alloc(5)).subarray(0, 7)])), /TLVs/],
];

t.test('is taken, alone and with the first bytes of the connection behind it', async (t) => {
  for (const [what, header, address, port] of TAKEN) {
    const expected = { address, port, length: header.length };
    t.strictSame(readProxyHeader(header), expected, what);
    for (const next of ['\r\n', 'CONNECT eco:443 HTTP/1.1\r\n\r\n', '\x16\x03\x01', '\n']) {
      t.strictSame(readProxyHeader(Buffer.concat([header, Buffer.from(next, 'latin1')])), expected, `${what}, then ${JSON.stringify(next)}`);
    }
  }
});

t.test('is not complete before its last byte, wherever it is split', async (t) => {
  for (const [what, header] of TAKEN) {
    const early = Array.from({ length: header.length }, (_, length) => length).filter((length) => readProxyHeader(header.subarray(0, length)) !== null);
    t.strictSame(early, [], what);
  }
});

t.test('is refused', async (t) => {
  for (const [what, bytes, because] of REFUSED) {
    const result = readProxyHeader(bytes);
    if (!(result instanceof Fault)) {
      t.fail(`${what} was taken: ${JSON.stringify(result)}`);
      continue;
    }
    t.equal(result.code, 'proxy-protocol-malformed', what);
    t.match(result.message, because, what);
  }
});

t.test('what is refused stays refused with every further byte, and is never taken before', async (t) => {
  for (const [what, bytes] of REFUSED) {
    let refusedAt = 0;
    for (let length = 1; length <= bytes.length; length += 1) {
      const result = readProxyHeader(bytes.subarray(0, length));
      if (result instanceof Fault) refusedAt ||= length;
      else if (result !== null || refusedAt > 0) t.fail(`${what}: ${length} bytes give ${JSON.stringify(result)}`);
    }
    t.ok(refusedAt > 0, `${what}: refused after ${refusedAt} of ${bytes.length} bytes`);
  }
});

t.test('a wrong first byte is refused at once', async (t) => {
  for (let byte = 0; byte < 256; byte += 1) {
    const result = readProxyHeader(Buffer.from([byte]));
    const canBegin = byte === 0x50 || byte === 0x0d;
    t.equal(result instanceof Fault, !canBegin, `0x${byte.toString(16)}`);
  }
});

t.test('no bytes whatever make it throw, and what it takes lies within the bytes and the bounds', async () => {
  const start = fc.constantFrom(Buffer.alloc(0), Buffer.from('PROXY '), Buffer.from('PROXY TCP4 '), Buffer.from('PROXY TCP6 '), V2_SIGNATURE, binary(PROXY, TCP4, Buffer.alloc(0)).subarray(0, 14), binary(LOCAL, TCP6, Buffer.alloc(0)).subarray(0, 14));
  const rest = fc.oneof(fc.uint8Array({ maxLength: 300 }), fc.string({ unit: fc.constantFrom(...Array.from('0123456789abcdef.: \r\nUNKOW')), maxLength: 120 }).map((text) => Buffer.from(text)));
  fc.assert(
    fc.property(start, rest, (first, second) => {
      const bytes = Buffer.concat([first, second]);
      const result = readProxyHeader(bytes);
      if (result === null) return bytes.length < LONGEST_V2;
      if (result instanceof Fault) return true;
      return result.length <= bytes.length && result.length <= (bytes[0] === 0x50 ? LONGEST_V1 : LONGEST_V2);
    }),
    { numRuns: 5000 },
  );
});

t.test('an unexpected header is recognised, and nothing else is', async (t) => {
  for (const [what, header] of TAKEN) {
    t.equal(isProxyHeader(header), true, what);
    t.equal(recogniseMistake(header, { peer: { address: '10.9.0.7' }, proxyHeaderLength: 0, secure: false }, 'off')?.code, 'peer-not-trusted', what);
  }
  for (const text of ['', 'P', 'PROXY', 'PROPFIND /', 'POST / HTTP/1.1', '\r\n\r\n', '\r\n\r\nGET / HTTP/1.1\r\n']) {
    t.equal(isProxyHeader(Buffer.from(text)), false, JSON.stringify(text));
    t.equal(recogniseMistake(Buffer.from(text), { peer: { address: '10.9.0.7' }, proxyHeaderLength: 0, secure: false }, 'off'), null, JSON.stringify(text));
  }
});
