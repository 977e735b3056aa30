import t from 'tap';
import { ClientHelloReader } from '../../src/targets/client-hello.ts';
import { alpn, captureNode, captureProgram, ech, type Extension, grease, hello, message, padding, readHello, records, serverName, unwrap, vector } from '../support/hello.ts';

const ECO = 'eco-sit.telus.internal';
const label63 = 'a'.repeat(63);
const name253 = `${label63}.${label63}.${label63}.${'a'.repeat(61)}`;

t.test('what a hello says', async (t) => {
  for (const [what, extensions, expected] of [
    ['a name', [serverName(ECO)], { serverName: ECO }],
    ['upper case', [serverName('ECO-Sit.Telus.INTERNAL')], { serverName: ECO }],
    ['an underscore, as real names have', [serverName('a_b.example')], { serverName: 'a_b.example' }],
    ['an international name in its A-labels', [serverName('xn--bcher-kva.example')], { serverName: 'xn--bcher-kva.example' }],
    ['the longest name', [serverName(name253)], { serverName: name253 }],
    ['no extension at all', null, { serverName: null, ech: false }],
    ['an empty list of extensions', [], { serverName: null, ech: false }],
    ['other extensions only', [padding(100)], { serverName: null }],
    ['GREASE is passed over', [grease(0x0a0a), serverName(ECO), alpn('\x0a\x0a', 'h2', '\xfa\xfa', '\xfa\xea'), grease(0xfafa)], { serverName: ECO }],
    ['an encrypted hello inside', [serverName('public.example'), ech], { serverName: 'public.example', ech: true }],
    ['unknown extensions twice', [padding(1), serverName(ECO), padding(1)], { serverName: ECO }],
  ] as [what: string, extensions: readonly Extension[] | null, expected: object][]) {
    const stream = hello({ extensions });
    t.match(readHello(stream), { kind: 'hello', bytes: stream.length, ...expected }, what);
  }
});

t.test('hellos without one reading', async (t) => {
  const fine: Extension = serverName(ECO);
  const list = (data: Buffer): Extension => [0, vector(2, data)];
  const entry = (type: number, name: string): Buffer => Buffer.concat([Buffer.of(type), vector(2, Buffer.from(name, 'latin1'))]);
  for (const [what, extensions, reason] of [
    ['two names', [serverName(ECO, 'evil.example')], /more than one entry/],
    ['the same name twice', [serverName(ECO, ECO)], /more than one entry/],
    ['a name and another type', [list(Buffer.concat([entry(0, ECO), entry(1, 'x')]))], /more than one entry/],
    ['only another type', [list(entry(1, ECO))], /a type other than host_name/],
    ['two server_name extensions', [fine, padding(3), fine], /two server_name/],
    ['an empty server_name', [[0, Buffer.alloc(0)]], /malformed server_name/],
    ['an empty list of names', [list(Buffer.alloc(0))], /malformed server_name/],
    ['an empty name', [serverName('')], /"", which is not a host name/],
    ['a list longer than its extension', [[0, Buffer.concat([Buffer.of(0, 200), entry(0, ECO)])]], /malformed server_name/],
    ['a list shorter than its extension', [[0, Buffer.concat([vector(2, entry(0, ECO)), Buffer.of(0)])]], /malformed server_name/],
    ['a name longer than its list', [list(Buffer.concat([Buffer.of(0, 0, 99), Buffer.from(ECO)]))], /malformed server_name/],
    ['a final dot', [serverName(`${ECO}.`)], /"eco-sit\.telus\.internal\.", with a final dot/],
    ['two final dots', [serverName(`${ECO}..`)], /not a host name/],
    ['the longest name and a dot', [serverName(`${name253}.`)], /with a final dot/],
    ['a name too long', [serverName(`${name253}a`)], /not a host name/],
    ['a name far too long', [serverName('a'.repeat(5000))], /names a server with 5000 characters/],
    ['an address', [serverName('192.0.2.1')], /an address/],
    ['an address in disguise', [serverName('0x7f.1')], /an address/],
    ['an IPv6 address', [serverName('2001:db8::1')], /not a host name/],
    ['an IPv6 address in brackets', [serverName('[2001:db8::1]')], /an address/],
    ['NUL in the name', [serverName('evil.example\0.telus.internal')], /\\u0000/],
    ['a line break in the name', [serverName('a\r\nb')], /\\u000d\\u000a/],
    ['UTF-8', [serverName(Buffer.from('bücher.example'))], /not a host name/],
    ['a port', [serverName(`${ECO}:443`)], /not a host name/],
    ['a label that begins with a hyphen', [serverName('-a.example')], /not a host name/],
    ['an A-label that is none', [serverName('xn--a.example')], /not a host name/],
    ['two encrypted hellos', [ech, fine, ech], /two encrypted_client_hello/],
  ] as [what: string, extensions: readonly Extension[], reason: RegExp][]) {
    const result = readHello(hello({ extensions }));
    t.match(result, { kind: 'invalid', reason }, what);
    t.match(result, { reason: /^[\x20-\x7e]{1,300}$/ }, `${what}: fit to be shown`);
  }

  for (const [what, stream, reason] of [
    ['SSL 2.0 as its version', hello({ version: 0x0200 }), /version/],
    ['a version of some future', hello({ version: 0x0400 }), /version/],
    ['a session id of 33 bytes', hello({ session: Buffer.alloc(33) }), /session id/],
    ['no cipher suite', hello({ suites: Buffer.alloc(0) }), /cipher suites/],
    ['half a cipher suite', hello({ suites: Buffer.alloc(3) }), /cipher suites/],
    ['no compression method', hello({ compression: Buffer.alloc(0) }), /compression/],
    ['bytes behind the extensions', hello({ extensions: [fine], rest: Buffer.of(0) }), /do not end where it ends/],
    ['one byte behind the compression methods', hello({ extensions: null, rest: Buffer.of(0) }), /do not end where it ends/],
    ['an extension longer than the list', hello({ extensions: null, rest: vector(2, Buffer.of(0, 0, 0, 9, 1)) }), /extension that does not end/],
    ['half an extension', hello({ extensions: null, rest: vector(2, Buffer.of(0, 0, 0)) }), /extension that does not end/],
    ['an empty message', records(Buffer.of(1, 0, 0, 0)), /ends within/],
    ['33 bytes', records(Buffer.concat([Buffer.of(1, 0, 0, 33), Buffer.alloc(33, 3)])), /ends within/],
    ['34 bytes', records(Buffer.concat([Buffer.of(1, 0, 0, 34), Buffer.alloc(34, 3)])), /session id/],
  ] as [what: string, stream: Buffer, reason: RegExp][]) {
    t.match(readHello(stream), { kind: 'invalid', reason }, what);
  }
});

t.test('every proper beginning of a hello asks for more, however long', async (t) => {
  for (const stream of [hello({ extensions: [serverName(ECO), padding(300)] }), hello({ extensions: [serverName(ECO)] }, [1, 2, 5, 3, 50])]) {
    for (let length = 1; length < stream.length; length += 1) {
      if (readHello(stream.subarray(0, length)) !== 'more') t.fail(`a result after ${length} bytes`);
    }
    t.match(readHello(stream), { kind: 'hello', serverName: ECO });
  }
});

t.test('no byte of the body may be missing from its vectors', async (t) => {
  const whole = message({ extensions: [serverName(ECO), alpn('h2')] });
  for (let length = 4; length < whole.length; length += 1) {
    const cut = Buffer.from(whole.subarray(0, length));
    cut.writeUIntBE(length - 4, 1, 3);
    const result = readHello(records(cut));
    // A hello may end before its extensions: there is one such length.
    if (length === whole.length - (2 + 4 + 27 + 4 + 5)) t.match(result, { kind: 'hello', serverName: null });
    else t.match(result, { kind: 'invalid' }, `${length} of ${whole.length}`);
  }
});

t.test('what is not TLS, recognised by its first two bytes', async (t) => {
  for (const [what, bytes, reason] of [
    ['HTTP', Buffer.from('GET / HTTP/1.1\r\n'), /0x47/],
    ['SSH', Buffer.from('SSH-2.0-'), /0x53/],
    ['an SSL 2.0 hello', Buffer.of(0x80, 0x2e, 1, 3, 1), /SSL 2\.0/],
    ['SOCKS', Buffer.of(5, 1, 0), /0x05/],
    ['a TLS alert', Buffer.of(21, 3, 1, 0, 2, 2, 0), /0x15/],
    ['application data', Buffer.of(23, 3, 3, 0, 1, 0), /0x17/],
    ['a PROXY header', Buffer.from('PROXY TCP4'), /0x50/],
    ['DTLS', Buffer.of(22, 254, 253), /second byte is 0xfe/],
    ['a handshake of SSL 2.0', Buffer.of(22, 2, 0), /second byte is 0x02/],
  ] as const) {
    t.match(readHello(bytes), { kind: 'not-tls', reason }, what);
    t.same(readHello(bytes, [1]), readHello(bytes), `${what}, byte by byte`);
  }
});

t.test('record headers: any minor version, and nothing else out of order', async (t) => {
  const whole = message({ extensions: [serverName(ECO)] });
  for (const version of [0x0300, 0x0301, 0x0302, 0x0303, 0x0304, 0x03ff]) t.match(readHello(records(whole, [16384], version)), { kind: 'hello', serverName: ECO });
  const half = records(whole.subarray(0, 60));
  const rest = (header: number[]): Buffer => Buffer.concat([half, Buffer.from(header), whole.subarray(60)]);
  const length = whole.length - 60;
  t.match(readHello(rest([22, 3, 3, 0, length])), { kind: 'hello', serverName: ECO }, 'the neighbour of what follows');
  for (const [what, stream, reason] of [
    ['an alert between the halves', rest([21, 3, 3, 0, length]), /interrupted/],
    ['application data between the halves', rest([23, 3, 3, 0, length]), /interrupted/],
    ['another version between the halves', rest([22, 2, 3, 0, length]), /malformed/],
    ['an empty record between the halves', rest([22, 3, 3, 0, 0]), /has 0 bytes/],
    ['an empty record to begin with', Buffer.of(22, 3, 1, 0, 0, 22), /has 0 bytes/],
    ['a record above 2^14', Buffer.of(22, 3, 1, 0x40, 1, 1), /has 16385 bytes/],
    ['a ServerHello', records(Buffer.concat([Buffer.of(2), whole.subarray(1)])), /not a ClientHello/],
  ] as const) {
    t.match(readHello(stream), { kind: 'invalid', reason }, what);
  }
  t.equal(readHello(Buffer.of(22, 3, 1, 0x40, 0, 1)), 'more', 'a record of 2^14');
});

t.test('what follows the hello is not looked at', async (t) => {
  const whole = hello({ extensions: [serverName(ECO)] });
  const expected = readHello(whole);
  for (const after of ['', 'early data', '\0', whole.toString('latin1')]) t.same(readHello(Buffer.concat([whole, Buffer.from(after, 'latin1')])), expected);
  const together = records(Buffer.concat([message({ extensions: [serverName(ECO)] }), Buffer.alloc(10, 0xff)]));
  t.same(readHello(together), Object.assign({}, expected, { excess: 10 }), 'in the same record: only how much it is');
});

t.test('limits, with the neighbour just outside', async (t) => {
  const ofSize = (size: number): Buffer => message({ extensions: [serverName(ECO), padding(size - message({ extensions: [serverName(ECO), padding(0)] }).length)] });
  t.match(readHello(records(ofSize(17_000))), { kind: 'hello', serverName: ECO }, 'post-quantum, in two records');
  t.match(readHello(records(ofSize(32_768))), { kind: 'hello', serverName: ECO });
  t.match(readHello(records(ofSize(32_769))), { kind: 'invalid', reason: /32769 bytes long, and at most 32768/ });
  t.match(readHello(records(ofSize(32_769)).subarray(0, 9)), { kind: 'invalid' }, 'told by its header');
  t.match(readHello(records(ofSize(600)), [100], { maximum: 600 }), { kind: 'hello' });
  t.match(readHello(records(ofSize(601)), [100], { maximum: 600 }), { kind: 'invalid' });
  // 32768 / 5 records.
  t.match(readHello(records(ofSize(6553), [1])), { kind: 'hello', bytes: 6 * 6553 });
  t.match(readHello(records(ofSize(6554), [1])), { kind: 'invalid', reason: /more than 6553 records/ });
  t.match(readHello(records(ofSize(32_768), [...Array<number>(6552).fill(1), 16_384])), { kind: 'invalid', reason: /more than 6553/ }, 'two more than there may be');
  t.match(readHello(records(ofSize(32_768), [...Array<number>(6551).fill(1), 16_384])), { kind: 'hello' }, 'as many as there may be');
});

t.test('a hello that comes byte by byte costs a bounded time and little memory', async (t) => {
  const stream = records(message({ extensions: [padding(32_000)] }), [...Array<number>(6500).fill(1), 16_384]);
  const reader = new ClientHelloReader();
  const started = performance.now();
  let capacity = 0;
  for (let i = 0; i < stream.length; i += 1) {
    const result = reader.push(stream.subarray(i, i + 1));
    capacity = Math.max(capacity, reader.capacity);
    if (result !== 'more') t.equal(i, stream.length - 1, 'at the last byte');
  }
  t.ok(capacity <= 65_536, `${capacity} bytes held`);
  const took = performance.now() - started;
  t.ok(took < 2000, `${Math.round(took)} ms for ${stream.length} bytes; squared it would be minutes`);
});

t.test('a stream that never ends is decided within the bound, whatever the size of its chunks', async (t) => {
  const endless = Buffer.alloc(1 << 20);
  Buffer.of(22, 3, 1, 0x40, 0, 1, 0, 0x7f, 0xfc).copy(endless);
  for (const length of [1, 7, 1000, 65_536, 1 << 20]) {
    const reader = new ClientHelloReader();
    let result: unknown = 'more';
    for (let start = 0; result === 'more' && start < endless.length; start += length) result = reader.push(endless.subarray(start, start + length));
    t.match(result, { kind: 'invalid', reason: /interrupted/ });
    t.ok(reader.capacity <= 65_536);
  }
});

t.test('the bytes before the last chunk are kept as they came, and the result stays', async (t) => {
  const stream = hello({ extensions: [serverName(ECO)] }, [10]);
  const reader = new ClientHelloReader();
  const chunk = Buffer.from(stream.subarray(0, 40));
  t.equal(reader.push(chunk), 'more');
  t.equal(reader.earlier.length, 0, 'the only chunk is the last');
  chunk.fill(0);
  t.equal(reader.push(Buffer.alloc(0)), 'more', 'an empty chunk');
  t.equal(reader.push(stream.subarray(40, 100)), 'more');
  const result = reader.push(Buffer.concat([stream.subarray(100), Buffer.from('more')]));
  t.match(result, { kind: 'hello', serverName: ECO, bytes: stream.length });
  t.same(reader.earlier, stream.subarray(0, 100));
  t.equal(reader.push(Buffer.from('anything')), result);
  t.same(reader.earlier, stream.subarray(0, 100));
});

t.test('hellos of real programs', async (t) => {
  const inNode = [
    [{ servername: ECO, ALPNProtocols: ['h2', 'http/1.1'] }, { serverName: ECO }],
    [{ servername: ECO.toUpperCase(), minVersion: 'TLSv1.2', maxVersion: 'TLSv1.2' }, { serverName: ECO }],
    [{ servername: '' }, { serverName: null }],
    [{ servername: ECO, ecdhCurve: '*X25519MLKEM768:*SecP256r1MLKEM768:*X25519:*P-256' }, { serverName: ECO }],
  ] as const;
  for (const [options, expected] of inNode) {
    for (const fragment of [null, 512]) {
      const stream = await captureNode(t, { ...options, ...('ALPNProtocols' in options ? { ALPNProtocols: [...options.ALPNProtocols] } : {}) }, fragment);
      t.match(readHello(stream), { kind: 'hello', ech: false, ...expected }, `Node, ${JSON.stringify(options)}, ${stream.length} bytes`);
      t.match(readHello(stream, [1]), { kind: 'hello', ...expected });
      const again = records(unwrap(stream), [1, 2, 3, 100]);
      t.match(readHello(again), { kind: 'hello', ...expected, bytes: again.length });
    }
  }
  t.ok((await captureNode(t, inNode[3][0])).length > 2300, 'two post-quantum key shares make a long one');

  for (const [program, args, expected] of [
    ['curl', (port: number) => ['-sk', '--connect-to', `::127.0.0.1:${port}`, `https://${ECO}/`], { serverName: ECO }],
    ['openssl', (port: number) => ['s_client', '-connect', `127.0.0.1:${port}`, '-servername', ECO, '-alpn', 'x,y'], { serverName: ECO }],
    ['openssl', (port: number) => ['s_client', '-connect', `127.0.0.1:${port}`, '-noservername', '-tls1_2'], { serverName: null }],
  ] as const) {
    const stream = await captureProgram(t, program, args);
    if (stream === null) t.comment(`${program} is not installed here`);
    else t.match(readHello(stream), { kind: 'hello', ...expected }, program);
  }
});
