/** Messages as partners, attackers and broken programs send them: of parts that are nearly right, and then damaged. */
import fc from 'fast-check';

const often = <T>(right: T, ...wrong: readonly T[]): fc.Arbitrary<T> => fc.oneof({ arbitrary: fc.constant(right), weight: 12 }, { arbitrary: fc.constantFrom(...wrong), weight: 1 });

const lineEnd = fc.oneof({ arbitrary: fc.constant('\r\n'), weight: 40 }, { arbitrary: fc.constantFrom('\n', '\r', '\r\r\n', '\n\r\n', ' \r\n', '\r\n '), weight: 1 });
const method = fc.oneof({ arbitrary: fc.constantFrom('GET', 'POST', 'PUT', 'DELETE', 'OPTIONS', 'HEAD', 'PATCH', 'TRACE'), weight: 8 }, { arbitrary: fc.constantFrom('get', 'FOO', 'M-SEARCH', 'QUERY', 'G(T', '', 'PRI', 'GET\t'), weight: 1 });
const target = often('/x?y=1', '/', '*', 'http://h/x', '', '/a b', '/\xe9', '/\x01', '/#f', '//', '/%zz', 'h:80');
const version = often('HTTP/1.1', 'HTTP/1.0', 'HTTP/1.1', 'HTTP/1.2', 'HTTP/2.0', 'HTTP/0.9', 'http/1.1', 'HTTP/1.1 ', 'HTTP/01.1', 'HTTP/1', 'HTTPS/1.1', ' HTTP/1.1');
const length = fc.constantFrom('0', '1', '3', '5', '05', '+3', '-1', '3, 3', '3,4', '0x3', '3 ', '3\xa0', '3;', '99999999999999999999', '', '1e1', '3\x00');
const coding = fc.constantFrom('chunked', 'Chunked', 'CHUNKED', 'identity', 'gzip, chunked', 'chunked, gzip', 'chunked, chunked', 'xchunked', 'chunked;a', '', ',chunked', 'chunked,', 'chunked\xa0', '\x0bchunked', '"chunked"', 'gzip');
const plain = fc.tuple(
  fc.oneof({ arbitrary: fc.constantFrom('Accept', 'X-A', 'x-a', 'Connection', 'Keep-Alive', 'Expect', 'Trailer', 'TE', 'Content-Type', 'X_A'), weight: 15 }, { arbitrary: fc.constantFrom('X(A', '', 'X A', 'X\xe9'), weight: 1 }),
  fc.oneof({ arbitrary: fc.constantFrom('a', '', 'a b', 'keep-alive', '\xe9', 'a\tb', '100-continue', ':', '"', 'timeout=5'), weight: 15 }, { arbitrary: fc.constantFrom('close', 'x, close', '\x01', '\x7f', 'a\rb', 'a\x00b'), weight: 1 }),
);
const field = fc
  .tuple(
    fc.oneof(
      { arbitrary: plain, weight: 20 },
      { arbitrary: fc.tuple(fc.constantFrom('Content-Length', 'content-length', 'Content_Length'), length), weight: 1 },
      { arbitrary: fc.tuple(fc.constantFrom('Transfer-Encoding', 'transfer-encoding', 'Transfer_Encoding'), coding), weight: 1 },
    ),
    often(': ', ':', ' : ', '\t:', ' ', ':\t', ': \r\n ', ':\r\n\t'),
    lineEnd,
  )
  .map(([[name, value], colon, end]) => name + colon + value + end);

const chunkEnd = fc.oneof({ arbitrary: fc.constant('\r\n'), weight: 25 }, { arbitrary: fc.constantFrom('\n', '\r', '', '\r\r\n', '\r\n\r\n'), weight: 1 });
const chunk = fc
  .tuple(
    fc.string({ unit: fc.constantFrom('a', 'b', '\r', '\n', '0', '\xff'), minLength: 1, maxLength: 6 }),
    fc.oneof({ arbitrary: fc.constant(0), weight: 25 }, { arbitrary: fc.constantFrom(-1, 1, 16), weight: 1 }),
    often('', ';a=b', ';a', ';a="b c"', ' ', ' ;a', ';', ';a(', ';a="', ';a=\x01', '\t', ';a;b=c', '; a', 'x', '\xff'),
    often('', '0', '00000000', '+', '0x', ' '),
    chunkEnd,
    chunkEnd,
  )
  .map(([data, off, extension, before, first, second]) => before + (data.length + off).toString(16) + extension + first + data + second);
const lastChunk = fc.tuple(often('0', '00', '0;a', '0 ', '-0', '0x0'), lineEnd, often('', 'X: 1\r\n', 'Content-Length: 1\r\n', 'X\r\n', ' X: 1\r\n', 'X: 1\n', 'X : 1\r\n'), lineEnd).map((parts) => parts.join(''));
const chunks = fc.tuple(fc.array(chunk, { maxLength: 3 }), lastChunk).map(([all, last]) => all.join('') + last);

const wrongFraming = fc.oneof(
  fc.tuple(length, fc.constantFrom('', 'a', 'abc')).map(([value, content]) => ({ lines: `Content-Length: ${value}\r\n`, content })),
  fc.tuple(coding, chunks).map(([value, content]) => ({ lines: `Transfer-Encoding: ${value}\r\n`, content })),
  fc.tuple(coding, length, chunks).map(([value, other, content]) => ({ lines: `Transfer-Encoding: ${value}\r\nContent-Length: ${other}\r\n`, content })),
);

const framing = fc.oneof(
  { arbitrary: fc.constant({ lines: '', content: '' }), weight: 3 },
  { arbitrary: fc.constantFrom('', 'a', 'abc', '\r\n\r\n').map((content) => ({ lines: `Content-Length: ${content.length}\r\n`, content })), weight: 4 },
  { arbitrary: chunks.map((content) => ({ lines: 'Transfer-Encoding: chunked\r\n', content })), weight: 6 },
  { arbitrary: wrongFraming, weight: 2 },
);

const fields = fc.array(field, { maxLength: 3 }).map((all) => all.join(''));
const emptyLines = often('', '\r\n', '\r\n\r\n', '\n', '\r', ' ');

const request = fc
  .tuple(emptyLines, method, often(' ', '  ', '\t'), target, version, lineEnd, fields, framing, fields, lineEnd)
  .map(([empty, verb, space, path, protocol, end, before, { lines, content }, after, last]) => `${empty}${verb}${space}${path} ${protocol}${end}Host: h\r\n${before}${lines}${after}${last}${content}`);

const statusLine = fc.tuple(often('HTTP/1.1', 'HTTP/1.0', 'HTTP/1.2', 'HTTP/2.0', 'ICY', 'http/1.1'), often(' ', '  ', '\t', ''), fc.oneof({ arbitrary: fc.constantFrom('200', '404', '500'), weight: 6 }, { arbitrary: fc.constantFrom('204', '304', '205', '999', '600', '099', '20', '2000', '2x0'), weight: 1 }), often(' OK', ' ', '', ' \xe9', ' a\x01', '  x'), lineEnd).map((parts) => parts.join(''));
const informational = often('', 'HTTP/1.1 100 Continue\r\n\r\n', 'HTTP/1.1 103 x\r\nLink: a\r\n\r\n', 'HTTP/1.1 100\n\n');
const response = fc.tuple(informational, statusLine, fields, framing, fields, lineEnd).map(([first, status, before, { lines, content }, after, last]) => `${first}${status}${before}${lines}${after}${last}${content}`);

/** Most messages stay as they are; of the others a byte is changed, added or taken away, once or twice. */
const damage = fc.oneof(
  { arbitrary: fc.constant([]), weight: 3 },
  { arbitrary: fc.array(fc.tuple(fc.nat(), fc.constantFrom('replace', 'insert', 'remove'), fc.constantFrom('\r', '\n', ' ', '\t', ':', ';', ',', '\x00', '\x7f', '\x80', '\xff', '0', 'a', '-', '+', '"')), { minLength: 1, maxLength: 2 }), weight: 1 },
);

function damaged(text: string, changes: readonly (readonly [at: number, how: string, character: string])[]): Buffer {
  let out = text;
  for (const [where, how, character] of changes) {
    const at = where % (out.length + 1);
    out = out.slice(0, at) + (how === 'remove' ? '' : character) + out.slice(how === 'insert' ? at : at + 1);
  }
  return Buffer.from(out, 'latin1');
}

/** One to three requests behind one another. */
export const requestBytes = fc.tuple(fc.array(request, { minLength: 1, maxLength: 3 }), damage).map(([all, changes]) => damaged(all.join(''), changes));
/** One response, perhaps behind an informational one. */
export const responseBytes = fc.tuple(response, damage).map(([text, changes]) => damaged(text, changes));
