/** Responses: the status line, where the content ends, and what the connection is good for afterwards. Lenient where there is one way to read it. */
import t from 'tap';
import { MessageError } from '../../src/http1/head-reader.ts';
import { isConnectionAuth, readResponseHead, type ResponseHead } from '../../src/http1/response-head.ts';
import { isLinear } from '../support/pieces.ts';

function read(text: string, method = 'GET', most = 100): ResponseHead | string {
  try {
    return readResponseHead(text, method, most);
  } catch (error) {
    if (!(error instanceof MessageError)) throw error;
    return error.flaw;
  }
}

const ok = (...lines: readonly string[]): string => ['HTTP/1.1 200 OK', ...lines].join('\r\n');

t.test('the status line', async (t) => {
  const rows: readonly (readonly [line: string, expected: readonly [status: number, reason: string, version: string] | 'malformed'])[] = [
    ['HTTP/1.1 200 OK', [200, 'OK', '1.1']],
    ['HTTP/1.0 404 Not Found', [404, 'Not Found', '1.0']],
    ['HTTP/1.1 200 ', [200, '', '1.1']],
    // Old servers leave out the space, and every peer reads it.
    ['HTTP/1.1 200', [200, '', '1.1']],
    ['HTTP/1.1 100 Continue', [100, 'Continue', '1.1']],
    ['HTTP/1.1 999 x', [999, 'x', '1.1']],
    ['HTTP/1.1 299  two  spaces ', [299, ' two  spaces ', '1.1']],
    ['HTTP/1.1 200 \xe9\x01', [200, '\xe9\x01', '1.1']],

    ['HTTP/1.1 099 x', 'malformed'],
    ['HTTP/1.1 000 x', 'malformed'],
    ['HTTP/1.1 20 OK', 'malformed'],
    ['HTTP/1.1 2000 OK', 'malformed'],
    ['HTTP/1.1 200OK', 'malformed'],
    ['HTTP/1.1 +20 OK', 'malformed'],
    ['HTTP/1.1 2x0 OK', 'malformed'],
    ['HTTP/1.1  200 OK', 'malformed'],
    ['HTTP/1.1\t200 OK', 'malformed'],
    ['HTTP/1.1', 'malformed'],
    ['HTTP/1.2 200 OK', 'malformed'],
    ['HTTP/2.0 200 OK', 'malformed'],
    ['HTTP/0.9 200 OK', 'malformed'],
    ['HTTP/1.10 200 OK', 'malformed'],
    ['http/1.1 200 OK', 'malformed'],
    ['ICY 200 OK', 'malformed'],
    [' HTTP/1.1 200 OK', 'malformed'],
    ['HTTP/1.1 200 O\rK', 'malformed'],
    ['', 'malformed'],
  ];
  for (const [line, expected] of rows) {
    for (const text of [line, `${line}\r\nA: 1`, `${line}\nA: 1`]) {
      const head = read(text);
      t.strictSame(typeof head === 'string' ? head : [head.status, head.reason, head.version], expected, JSON.stringify(text));
      if (typeof head !== 'string' && text !== line) t.strictSame(head.fields, ['A', '1']);
    }
  }
});

const CHUNKED = { kind: 'chunked' };
const UNTIL_CLOSE = { kind: 'close' };
const NONE = { kind: 'none' };

t.test('where the content ends', async (t) => {
  const rows: readonly (readonly [what: string, lines: readonly string[], framing: unknown, keepAlive?: boolean])[] = [
    ['neither: with the connection', [], UNTIL_CLOSE, false],
    ['a length', ['Content-Length: 5'], { kind: 'length', length: 5 }],
    ['a length of 0', ['Content-Length: 0'], { kind: 'length', length: 0 }],
    ['two that are equal (RFC 9110 §8.6)', ['Content-Length: 5', 'content-length: 5'], { kind: 'length', length: 5 }],
    ['a list of equal ones', ['Content-Length: 5, 5 ,5'], { kind: 'length', length: 5 }],
    ['two that differ', ['Content-Length: 5', 'Content-Length: 6'], 'framing'],
    ['a list of two that differ', ['Content-Length: 5, 6'], 'framing'],
    ['two spellings of one number', ['Content-Length: 5', 'Content-Length: 05'], { kind: 'length', length: 5 }],
    ['many zeros before it', [`Content-Length: ${'0'.repeat(20)}5`], { kind: 'length', length: 5 }],
    ['a list with something else', ['Content-Length: 5, five'], 'framing'],
    ['a list that ends in a comma', ['Content-Length: 5,'], 'framing'],
    ['nothing', ['Content-Length:'], 'framing'],
    ['a sign', ['Content-Length: +5'], 'framing'],
    ['a negative one', ['Content-Length: -5'], 'framing'],
    ['no number', ['Content-Length: five'], 'framing'],
    ['a no-break space', ['Content-Length: 5\xa0'], 'framing'],
    ['too many digits', [`Content-Length: ${'1'.repeat(16)}`], 'framing'],
    ['the longest', [`Content-Length: ${'1'.repeat(15)}`], { kind: 'length', length: 111_111_111_111_111 }],
    ['folded', ['Content-Length:', ' 5'], { kind: 'length', length: 5 }],
    ['folded into another number', ['Content-Length: 5', ' 6'], 'framing'],

    ['chunked', ['Transfer-Encoding: chunked'], CHUNKED],
    ['in any case', ['transfer-encoding: ChUnKeD'], CHUNKED],
    ['folded', ['Transfer-Encoding:', '\tchunked'], CHUNKED],
    ['another coding', ['Transfer-Encoding: gzip'], 'framing'],
    ['another before', ['Transfer-Encoding: gzip, chunked'], 'framing'],
    ['folded into another', ['Transfer-Encoding: chunked', ' , gzip'], 'framing'],
    ['identity', ['Transfer-Encoding: identity'], 'framing'],
    ['twice', ['Transfer-Encoding: chunked', 'Transfer-Encoding: chunked'], 'framing'],
    ['nothing', ['Transfer-Encoding:'], 'framing'],
    ['both: two ways to read it', ['Transfer-Encoding: chunked', 'Content-Length: 5'], 'framing'],
    ['both, the other way', ['Content-Length: 5', 'Transfer-Encoding: chunked'], 'framing'],
  ];
  for (const [what, lines, framing, keepAlive = true] of rows) {
    const head = read(ok(...lines));
    t.strictSame(typeof head === 'string' ? head : head.framing, framing, `${what}: ${lines.join(' | ')}`);
    if (typeof head !== 'string') t.equal(head.keepAlive, keepAlive, what);
    // RFC 9112 §6.3: without content, whatever the fields say.
    for (const [status, method] of [['100 Continue', 'GET'], ['101 Switching Protocols', 'GET'], ['103 Early Hints', 'POST'], ['199 x', 'GET'], ['204 No Content', 'GET'], ['304 Not Modified', 'GET'], ['200 OK', 'HEAD'], ['404 Not Found', 'HEAD']] as const) {
      t.match(read([`HTTP/1.1 ${status}`, ...lines].join('\r\n'), method), { framing: NONE, keepAlive: true }, `${status} to ${method}: ${what}`);
    }
    for (const [status, method] of [['205 Reset Content', 'GET'], ['303 See Other', 'GET'], ['305 x', 'GET'], ['200 OK', 'POST'], ['200 OK', 'head']] as const) {
      const other = read([`HTTP/1.1 ${status}`, ...lines].join('\r\n'), method);
      t.strictSame(typeof other === 'string' ? other : other.framing, framing, `${status} to ${method}: ${what}`);
    }
  }
});

t.test('whether the connection may carry another exchange', async (t) => {
  for (const [version, lines, expected] of [
    ['1.1', ['Content-Length: 0'], true],
    ['1.1', ['Content-Length: 0', 'Connection: close'], false],
    ['1.1', ['Content-Length: 0', 'Connection: Close, x'], false],
    ['1.1', ['Content-Length: 0', 'Connection: x', 'Connection: close'], false],
    ['1.1', ['Content-Length: 0', 'Connection:', ' close'], false],
    ['1.1', ['Content-Length: 0', 'Connection: closed'], true],
    ['1.1', ['Connection: keep-alive'], false],
    ['1.0', ['Content-Length: 0'], false],
    ['1.0', ['Content-Length: 0', 'Connection: keep-alive'], true],
    ['1.0', ['Content-Length: 0', 'Connection: Keep-Alive, x'], true],
    ['1.0', ['Content-Length: 0', 'Connection: keep-alive', 'Connection: close'], false],
    ['1.0', ['Connection: keep-alive'], false],
    // RFC 9112 §6.1: the framing of an HTTP/1.0 message with a coding is faulty.
    ['1.0', ['Transfer-Encoding: chunked', 'Connection: keep-alive'], false],
  ] as const) {
    t.match(read([`HTTP/${version} 200 OK`, ...lines].join('\r\n')), { keepAlive: expected }, `${version} ${lines.join(' | ')}`);
  }
});

t.test('how long an idle connection is kept', async (t) => {
  for (const [value, expected] of [
    ['timeout=5', 5000],
    ['timeout=5, max=100', 5000],
    ['max=100, timeout=5', 5000],
    ['max=100;timeout=5', 5000],
    ['Timeout=5', 5000],
    ['timeout = 5', 5000],
    ['timeout="5"', 5000],
    ['timeout=0', 0],
    ['timeout=999999', 999_999_000],
    ['timeout', null],
    ['timeout=', null],
    ['timeout=-1', null],
    ['xtimeout=5', null],
    ['', null],
  ] as const) t.match(read(ok(`Keep-Alive: ${value}`)), { idleTimeout: expected }, value);
  t.match(read(ok()), { idleTimeout: null, mostExchanges: null });
  t.match(read(ok('Keep-Alivx: timeout=5')), { idleTimeout: null });
});

t.test('how many exchanges a connection may carry', async (t) => {
  for (const [value, expected] of [
    ['max=100', 100],
    ['timeout=5, max=1', 1],
    ['max=0;timeout=5', 0],
    ['Max = "7"', 7],
    ['max=-1', null],
    ['xmax=5', null],
    ['maximum=5', null],
    ['timeout=5', null],
  ] as const) t.match(read(ok(`Keep-Alive: ${value}`)), { mostExchanges: expected }, value);
});

t.test('what authenticates the connection', async (t) => {
  for (const [value, expected] of [
    ['NTLM', true],
    ['ntlm TlRMTVNTUAAC', true],
    ['Negotiate', true],
    ['Negotiate oYG=', true],
    ['Basic realm="x", NTLM', true],
    ['Basic realm="x",\tNegotiate', true],
    ['Basic realm="NTLM"', false],
    ['NTLMv2', false],
    ['XNegotiate', false],
    ['Basic realm="x"', false],
    ['Bearer', false],
    ['', false],
  ] as const) {
    t.equal(isConnectionAuth(value), expected, value);
    t.match(read(ok(`WWW-Authenticate: ${value}`)), { authenticatesConnection: expected }, value);
  }
  t.match(read(ok('WWW-Authenticate: NTLM', 'WWW-Authenticate: Basic realm="x"')), { authenticatesConnection: true });
  t.match(read(ok('WWW-Authenticatx: NTLM')), { authenticatesConnection: false });
});

t.test('fields, and what is switched to', async (t) => {
  t.match(read('HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade'), { upgrade: 'websocket', framing: NONE });
  t.match(read(ok('A : 1', 'b:2\n c', 'D: 3')), { fields: ['A', '1', 'b', '2 c', 'D', '3'] }, 'put right');
  t.equal(read(ok('A: \x00')), 'malformed');
  t.equal(read(ok('A')), 'malformed');
  t.type(read(ok('A: 1', 'B: 2'), 'GET', 2), 'object');
  t.equal(read(ok('A: 1', 'B: 2', 'C: 3'), 'GET', 2), 'too-large');
});

t.test('the work grows with the input', async (t) => {
  const head = (text: string) => (): void => {
    read(text, 'GET', 1_000_000);
  };
  isLinear(t, 'a long reason', 200_000, (size) => head(`HTTP/1.1 200 ${'x'.repeat(size)}`));
  for (const field of ['Content-Length: 5', 'Transfer-Encoding: chunked', 'Connection: x', 'WWW-Authenticate: ,', 'Keep-Alive: ,', 'Upgrade: x']) isLinear(t, `many of ${field}`, 4_000, (size) => head(ok(...Array.from({ length: size }, () => field))));
  isLinear(t, 'a list of lengths', 20_000, (size) => head(ok(`Content-Length: ${'5, '.repeat(size)}5`)));
  isLinear(t, 'blanks behind a comma', 200_000, (size) => head(ok(`WWW-Authenticate: ,${' '.repeat(size)}x`)));
  isLinear(t, 'commas and blanks', 50_000, (size) => head(ok(`WWW-Authenticate: ${', '.repeat(size)}`)));
  isLinear(t, 'blanks in Keep-Alive', 200_000, (size) => head(ok(`Keep-Alive: timeout${' '.repeat(size)}=`)));
});
