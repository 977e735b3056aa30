/** Requests: the request line, what is read out of the fields, and where the content ends. Strict. */
import t from 'tap';
import { MessageError } from '../../src/http1/head-reader.ts';
import { readRequestHead, type RequestHead } from '../../src/http1/request-head.ts';
import { isLinear } from '../support/pieces.ts';

function read(text: string, most = 100): RequestHead | string {
  try {
    return readRequestHead(text, most);
  } catch (error) {
    if (!(error instanceof MessageError)) throw error;
    return error.flaw;
  }
}

const withFields = (...lines: readonly string[]): string => ['POST /x HTTP/1.1', 'Host: h', ...lines].join('\r\n');

t.test('the request line', async (t) => {
  const rows: readonly (readonly [line: string, expected: readonly [method: string, target: string, version: string] | 'malformed'])[] = [
    ['GET / HTTP/1.1', ['GET', '/', '1.1']],
    ['GET / HTTP/1.0', ['GET', '/', '1.0']],
    // Which versions are served is another's business, and what the target means too.
    ['GET / HTTP/1.2', ['GET', '/', '1.2']],
    ['GET / HTTP/2.0', ['GET', '/', '2.0']],
    ['GET / HTTP/0.9', ['GET', '/', '0.9']],
    ['CONNECT a:443 HTTP/1.1', ['CONNECT', 'a:443', '1.1']],
    ['OPTIONS * HTTP/1.1', ['OPTIONS', '*', '1.1']],
    ['get / HTTP/1.1', ['get', '/', '1.1']],
    ['M-SEARCH / HTTP/1.1', ['M-SEARCH', '/', '1.1']],
    ["!#$%&'*+-.^_`|~0aZ / HTTP/1.1", ["!#$%&'*+-.^_`|~0aZ", '/', '1.1']],
    ['GET http://a/b?c HTTP/1.1', ['GET', 'http://a/b?c', '1.1']],
    // What stands between the first and the last space is the target, and its reader refuses what may not be in it.
    ['GET /a b HTTP/1.1', ['GET', '/a b', '1.1']],
    ['GET  / HTTP/1.1', ['GET', ' /', '1.1']],
    ['GET /  HTTP/1.1', ['GET', '/ ', '1.1']],
    ['GET / HTTP/1.1 HTTP/1.1', ['GET', '/ HTTP/1.1', '1.1']],
    ['GET  HTTP/1.1', ['GET', '', '1.1']],
    ['GET /\x00 HTTP/1.1', ['GET', '/\x00', '1.1']],

    ['', 'malformed'],
    ['GET', 'malformed'],
    ['GET /', 'malformed'],
    ['GET HTTP/1.1', 'malformed'],
    [' GET / HTTP/1.1', 'malformed'],
    ['GET\t/\tHTTP/1.1', 'malformed'],
    ['GET /\tHTTP/1.1', 'malformed'],
    ['G(T / HTTP/1.1', 'malformed'],
    ['G\xc9T / HTTP/1.1', 'malformed'],
    ['GET: / HTTP/1.1', 'malformed'],
    ['GET / HTTP/1.1 ', 'malformed'],
    ['GET / HTTP/11', 'malformed'],
    ['GET / HTTP/1', 'malformed'],
    ['GET / HTTP/1.', 'malformed'],
    ['GET / HTTP/1.10', 'malformed'],
    ['GET / HTTP/01.1', 'malformed'],
    ['GET / HTTP/1.1x', 'malformed'],
    ['GET / HTTP/1,1', 'malformed'],
    ['GET / http/1.1', 'malformed'],
    ['GET / HTTPS/1.1', 'malformed'],
    ['GET / ICE/1.0', 'malformed'],
    ['GET / HTTP/\u0661.1', 'malformed'],
    ['GET /\rX HTTP/1.1', 'malformed'],
    ['GET / HTTP/1.1\r', 'malformed'],
    ['GET / HTTP/1.1\nHost: h', 'malformed'],
    ['\r\nGET / HTTP/1.1', 'malformed'],
  ];
  for (const [line, expected] of rows) {
    for (const text of [line, `${line}\r\nHost: h`]) {
      const head = read(text);
      t.strictSame(typeof head === 'string' ? head : [head.method, head.target, head.version], expected, JSON.stringify(text));
    }
  }
});

t.test('every byte as a method', async (t) => {
  for (let code = 0; code < 256; code += 1) {
    const method = `G${String.fromCharCode(code)}T`;
    const head = read(`${method} / HTTP/1.1`);
    const token = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]$/.test(String.fromCharCode(code));
    // A space ends the method, and what it leaves is the target's reader's.
    const expected = code === 0x20 ? 'G' : token ? method : 'malformed';
    t.equal(typeof head === 'string' ? head : head.method, expected, `0x${code.toString(16)}`);
  }
});

t.test('where the content ends', async (t) => {
  const rows: readonly (readonly [what: string, lines: readonly string[], framing: unknown])[] = [
    ['neither', [], { kind: 'none' }],
    ['a length', ['Content-Length: 5'], { kind: 'length', length: 5 }],
    ['a length of 0: nothing to wait for', ['Content-Length: 0'], { kind: 'none' }],
    ['of many zeros', ['Content-Length: 000'], { kind: 'none' }],
    ['in any case', ['CONTENT-LENGTH: 5'], { kind: 'length', length: 5 }],
    ['blanks around it', ['Content-Length: \t5 '], { kind: 'length', length: 5 }],
    ['zeros before it', ['Content-Length: 005'], { kind: 'length', length: 5 }],
    ['many zeros before it', [`Content-Length: ${'0'.repeat(20)}5`], { kind: 'length', length: 5 }],
    ['the longest', [`Content-Length: ${'9'.repeat(15)}`], { kind: 'length', length: 999_999_999_999_999 }],
    ['one digit more', [`Content-Length: 1${'0'.repeat(15)}`], 'framing'],
    ['nothing', ['Content-Length:'], 'framing'],
    ['a sign', ['Content-Length: +5'], 'framing'],
    ['a negative one', ['Content-Length: -1'], 'framing'],
    ['hexadecimal', ['Content-Length: 0x5'], 'framing'],
    ['a fraction', ['Content-Length: 5.0'], 'framing'],
    ['an exponent', ['Content-Length: 5e1'], 'framing'],
    ['a blank inside', ['Content-Length: 5 5'], 'framing'],
    ['a no-break space', ['Content-Length: 5\xa0'], 'framing'],
    ['other digits', ['Content-Length: \xb2'], 'framing'],
    ['a list', ['Content-Length: 5, 5'], 'framing'],
    ['two that are equal', ['Content-Length: 5', 'Content-Length: 5'], 'framing'],
    ['two that differ', ['Content-Length: 5', 'content-length: 6'], 'framing'],
    ['a neighbour of its name', ['Content-Lengtx: 5', 'Content_Length: 6', 'Content-Length-: 7'], { kind: 'none' }],

    ['chunked', ['Transfer-Encoding: chunked'], { kind: 'chunked' }],
    ['RFC 9112 §7: names of codings have no case', ['transfer-encoding: Chunked'], { kind: 'chunked' }],
    ['all capitals', ['Transfer-Encoding: CHUNKED'], { kind: 'chunked' }],
    ['blanks around', ['Transfer-Encoding:  chunked\t'], { kind: 'chunked' }],
    ['nothing', ['Transfer-Encoding:'], 'framing'],
    ['identity', ['Transfer-Encoding: identity'], 'framing'],
    ['another coding', ['Transfer-Encoding: gzip'], 'framing'],
    ['another before', ['Transfer-Encoding: gzip, chunked'], 'framing'],
    ['another behind', ['Transfer-Encoding: chunked, gzip'], 'framing'],
    ['chunked twice', ['Transfer-Encoding: chunked, chunked'], 'framing'],
    ['two fields', ['Transfer-Encoding: chunked', 'Transfer-Encoding: chunked'], 'framing'],
    ['two fields of a list', ['Transfer-Encoding: gzip', 'Transfer-Encoding: chunked'], 'framing'],
    ['an empty element', ['Transfer-Encoding: ,chunked'], 'framing'],
    ['a parameter', ['Transfer-Encoding: chunked;a=b'], 'framing'],
    ['quotes', ['Transfer-Encoding: "chunked"'], 'framing'],
    ['a neighbour of the word', ['Transfer-Encoding: xchunked'], 'framing'],
    ['another', ['Transfer-Encoding: chunke'], 'framing'],
    ['a no-break space', ['Transfer-Encoding: chunked\xa0'], 'framing'],
    ['a vertical tab', ['Transfer-Encoding: \x0bchunked'], 'malformed'],
    ['a blank before the colon', ['Transfer-Encoding : chunked'], 'malformed'],
    ['a neighbour of its name', ['Transfer-Encodinx: chunked', 'Transfer_Encoding: chunked'], { kind: 'none' }],

    ['both', ['Content-Length: 5', 'Transfer-Encoding: chunked'], 'framing'],
    ['both, the other way', ['Transfer-Encoding: chunked', 'Content-Length: 0'], 'framing'],
    ['both, in other cases', ['transfer-encoding: CHUNKED', 'CONTENT-length: 5'], 'framing'],
  ];
  for (const [what, lines, framing] of rows) {
    const head = read(withFields(...lines));
    t.strictSame(typeof head === 'string' ? head : head.framing, framing, `${what}: ${lines.join(' | ')}`);
  }
  for (const version of ['1.0', '0.9', '1.2', '2.0']) {
    t.equal(read(`POST / HTTP/${version}\r\nTransfer-Encoding: chunked`), 'framing', `HTTP/${version} has no chunks`);
    t.match(read(`POST / HTTP/${version}\r\nContent-Length: 5`), { framing: { kind: 'length', length: 5 } });
  }
});

t.test('whether the connection may carry another request', async (t) => {
  for (const [version, lines, expected] of [
    ['1.1', [], true],
    ['1.1', ['Connection: close'], false],
    ['1.1', ['connection: CLOSE'], false],
    ['1.1', ['Connection: keep-alive'], true],
    ['1.1', ['Connection: x, close'], false],
    ['1.1', ['Connection: keep-alive', 'Connection: close'], false],
    ['1.1', ['Connection: close', 'Connection: keep-alive'], false],
    ['1.1', ['Connection: closed'], true],
    ['1.1', ['Proxy-Connection: close'], false],
    ['1.1', ['Proxy-Connection: keep-alive'], true],
    // RFC 9112 §9.3: a proxy keeps none with HTTP/1.0.
    ['1.0', [], false],
    ['1.0', ['Connection: keep-alive'], false],
    ['1.2', [], false],
  ] as const) t.match(read([`GET / HTTP/${version}`, ...lines].join('\r\n')), { keepAlive: expected }, `${version} ${lines.join(' | ')}`);
});

t.test('what else is read out of the fields', async (t) => {
  t.match(
    read(withFields('VIA: 1.1 a', 'via: 1.0 b', 'Proxy-Authorization: Basic x', 'proxy-authorization: Bearer y', 'TraceParent: tp', 'Expect: 100-continue', 'Upgrade: websocket', 'AUTHORIZATION: NTLM z', 'Max-Forwards: 3', 'DESTINATION: /d', 'Host: other')),
    { hosts: ['h', 'other'], via: ['1.1 a', '1.0 b'], proxyAuthorization: ['Basic x', 'Bearer y'], traceparent: 'tp', expect: '100-continue', upgrade: 'websocket', authorization: 'NTLM z', maxForwards: '3', destination: '/d' },
  );
  const plain = read('GET / HTTP/1.1');
  t.strictSame(plain, { method: 'GET', target: '/', version: '1.1', fields: [], framing: { kind: 'none' }, keepAlive: true, hosts: [], via: [], proxyAuthorization: [], traceparent: '', expect: '', upgrade: '', authorization: '', maxForwards: '', destination: '' });
  t.match(read(withFields('Expect: a', 'Expect: b', 'Upgrade: h2c', 'Upgrade: websocket')), { expect: 'a, b', upgrade: 'h2c, websocket' }, 'lists are lists');
  t.match(read(withFields('Max-Forwards: 0', 'Max-Forwards: 5', 'Authorization: NTLM x', 'Authorization: Basic y', 'traceparent: a', 'traceparent: b', 'Destination: /a', 'Destination: /b')), { maxForwards: '0, 5', authorization: 'NTLM x, Basic y', traceparent: 'a, b', destination: '/a, /b' }, 'no first one is lost behind a second');
  t.match(read(withFields('vix: 1', 'hosx: 1', 'expecx: 1', 'upgradx: 1', 'traceparenx: 1', 'destinatiox: 1', 'max-forwardx: 1', 'authorizatiox: 1', 'proxy-authorizatiox: 1', 'connectiox: close')), { hosts: ['h'], via: { length: 0 }, expect: '', upgrade: '', traceparent: '', destination: '', maxForwards: '', authorization: '', proxyAuthorization: { length: 0 }, keepAlive: true }, 'neighbours of the same length');
});

t.test('as many fields as may be, and one more', async (t) => {
  t.type(read(withFields('A: 1'), 2), 'object');
  t.equal(read(withFields('A: 1'), 1), 'too-large');
});

t.test('the work grows with the input', async (t) => {
  const head = (line: string) => (): void => {
    read(line, 1_000_000);
  };
  isLinear(t, 'a long target', 200_000, (size) => head(`GET /${'x'.repeat(size)} HTTP/1.1`));
  isLinear(t, 'spaces in the request line', 200_000, (size) => head(`GET ${' '.repeat(size)} HTTP/1.1`));
  isLinear(t, 'digits behind the version', 200_000, (size) => head(`GET / HTTP/${'1'.repeat(size)}`));
  for (const field of ['Host: h', 'Via: 1.1 a', 'Connection: x', 'Content-Length: 5', 'Transfer-Encoding: chunked', 'Expect: a', 'Upgrade: a', 'Proxy-Authorization: a', 'Connection: ,,,,']) {
    isLinear(t, `many of ${field}`, 4_000, (size) => head(`GET / HTTP/1.1${`\r\n${field}`.repeat(size)}`));
  }
  isLinear(t, 'a long list in Connection', 50_000, (size) => head(`GET / HTTP/1.1\r\nConnection: ${'a, '.repeat(size)}`));
  isLinear(t, 'many zeros of a length', 200_000, (size) => head(`GET / HTTP/1.1\r\nContent-Length: ${'0'.repeat(size)}x`));
  isLinear(t, 'many digits of a length', 200_000, (size) => head(`GET / HTTP/1.1\r\nContent-Length: ${'1'.repeat(size)}`));
});
