/** Content by its framing: every chunk line, every trailer, in every way the bytes can be cut. */
import t from 'tap';
import type { Test } from 'tap';
import { BodyReader, CHUNKED, type Framing, NO_CONTENT, UNTIL_CLOSE } from '../../src/http1/body-reader.ts';
import { MessageError } from '../../src/http1/head-reader.ts';
import { cuts, isLinear, latin1 } from '../support/pieces.ts';

interface Read {
  readonly content: string;
  readonly trailers: readonly string[];
  readonly done: boolean;
  /** What is not this message's. */
  readonly rest: string;
}

const TERMS = { trailerBytes: 64, trailerFields: 3 };

function feed(pieces: readonly Buffer[], framing: Framing, lenient: boolean): Read | string {
  const reader = new BodyReader({ ...TERMS, lenient });
  const content: Buffer[] = [];
  let rest = '';
  reader.begin(framing);
  try {
    for (const piece of pieces) {
      const at = reader.read(piece, 0, (part) => {
        if (part.length === 0) throw new Error('content of no bytes was told');
        content.push(part);
      });
      rest += piece.toString('latin1', at);
    }
  } catch (error) {
    if (!(error instanceof MessageError)) throw error;
    return error.flaw;
  }
  return { content: Buffer.concat(content).toString('latin1'), trailers: reader.trailers, done: reader.done, rest };
}

type Row = readonly [what: string, bytes: string, strict: Partial<Read> | string, lenient?: Partial<Read> | string];

const complete = (content: string, more: Partial<Read> = {}): Partial<Read> => ({ content, done: true, ...more });

const CHUNKS: readonly Row[] = [
  ['nothing', '0\r\n\r\n', complete('')],
  ['one', '3\r\nabc\r\n0\r\n\r\n', complete('abc')],
  ['what follows is left', '3\r\nabc\r\n0\r\n\r\nGET /', complete('abc', { rest: 'GET /' })],
  ['several', '1\r\na\r\n2\r\nbc\r\n0\r\n\r\n', complete('abc')],
  ['hexadecimal', `a\r\n${'x'.repeat(10)}\r\n0A\r\n${'y'.repeat(10)}\r\n0\r\n\r\n`, complete('x'.repeat(10) + 'y'.repeat(10))],
  ['line ends inside', '4\r\n\r\n\r\n\r\n0\r\n\r\n', complete('\r\n\r\n')],
  ['zeros before the size', '0003\r\nabc\r\n000\r\n\r\n', complete('abc')],
  ['13 digits', '0000000000003\r\nabc\r\n0\r\n\r\n', complete('abc')],
  ['13 digits behind zeros', '0000000000000003\r\nabc\r\n0000000000000000\r\n\r\n', complete('abc')],
  ['14 digits', '10000000000003\r\nabc\r\n0\r\n\r\n', 'framing'],
  ['a size that JavaScript cannot count', 'fffffffffffffff\r\n', 'framing'],
  ['unfinished', '3\r\nab', { content: 'ab' }],
  ['the last chunk is missing', '3\r\nabc\r\n', { content: 'abc' }],
  ['the empty line is missing', '3\r\nabc\r\n0\r\n', { content: 'abc' }],

  ['no size', '\r\nabc', 'framing'],
  ['no hexadecimal digit', 'g\r\n', 'framing'],
  ['a sign', '+3\r\nabc\r\n', 'framing'],
  ['0x', '0x3\r\nabc\r\n', 'framing'],
  ['a minus', '-1\r\n', 'framing'],
  ['an underscore', '1_0\r\n', 'framing'],
  ['a fraction', '3.0\r\n', 'framing'],
  ['a blank before', ' 3\r\nabc\r\n0\r\n\r\n', 'framing'],
  ['a blank behind', '3 \r\nabc\r\n0\r\n\r\n', 'framing', complete('abc')],
  ['a tab behind', '3\t\t\r\nabc\r\n0 \r\n\r\n', 'framing', complete('abc')],
  ['a blank inside', '1 0\r\n', 'framing'],
  ['a no-break space behind', '3\xa0\r\nabc\r\n', 'framing'],
  ['NUL', '3\x00\r\nabc\r\n', 'framing'],
  ['a chunk that is longer, and nothing more', '3\r\nabcd', 'framing'],
  ['a chunk that is longer', '3\r\nabcd\r\n0\r\n\r\n', 'framing'],
  ['a chunk that is shorter', '3\r\nab\r\n0\r\n\r\n', 'framing'],
  ['no line end behind a chunk', '3\r\nabc0\r\n\r\n', 'framing'],
  ['two behind a chunk', '3\r\nabc\r\n\r\n0\r\n\r\n', 'framing'],
  ['CR alone behind a chunk', '3\r\nabc\r0\r\n\r\n', 'framing'],
  ['CR CR LF behind a chunk', '3\r\nabc\r\r\n0\r\n\r\n', 'framing'],
  ['LF alone behind the size', '3\nabc\r\n0\r\n\r\n', 'framing', complete('abc')],
  ['LF alone behind the chunk: it has two readings', '3\r\nabc\n0\r\n\r\n', 'framing'],
  ['LF alone everywhere else', '3\nabc\r\n0\n\n', 'framing', complete('abc')],
  ['CR alone behind the size', '3\rabc\r\n0\r\n\r\n', 'framing'],
  ['CR CR LF behind the size', '3\r\r\nabc\r\n', 'framing'],
  ['a line that has no end', '1'.repeat(1025), 'framing'],

  ['an extension', '3;a=b\r\nabc\r\n0;c\r\n\r\n', complete('abc')],
  ['several', '3;a;b="c d";e=f\r\nabc\r\n0\r\n\r\n', complete('abc')],
  ['a quoted one', '3;a="b;\\"c\\""\r\nabc\r\n0\r\n\r\n', complete('abc')],
  ['an extension with blanks (RFC 9112 §7.1.1: bad whitespace)', '3 ; a = b\r\nabc\r\n0\r\n\r\n', 'framing', complete('abc')],
  ['an extension without name', '3;\r\nabc\r\n0\r\n\r\n', 'framing', complete('abc')],
  ['an extension that is no token', '3;a(b\r\nabc\r\n0\r\n\r\n', 'framing', complete('abc')],
  ['a quote that does not end', '3;a="b\r\nabc\r\n0\r\n\r\n', 'framing', complete('abc')],
  ['CR in an extension', '3;a\rb\r\nabc\r\n', 'framing'],
  ['LF in a quoted extension (RFC 9112 §7.1.1)', '3;a="\n"\r\nabc\r\n', 'framing'],
  ['NUL in an extension', '3;a=\x00\r\nabc\r\n', 'framing'],
  ['DEL in an extension', '3;a=\x7f\r\nabc\r\n', 'framing'],

  ['a trailer', '0\r\nA: 1\r\n\r\n', complete('', { trailers: ['A', '1'] })],
  ['trailers, and what follows', '1\r\nx\r\n0\r\nA: 1\r\nb: 2\r\n\r\nrest', complete('x', { trailers: ['A', '1', 'b', '2'], rest: 'rest' })],
  ['LF alone behind a trailer', '0\r\nA: 1\n\r\n', 'malformed', complete('', { trailers: ['A', '1'] })],
  ['LF alone behind the last chunk', '0\r\n\n', 'malformed', complete('')],
  ['CR alone behind the last chunk', '0\r\n\rA: 1\r\n\r\n', 'framing'],
  ['CR CR LF behind the last chunk', '0\r\n\r\r\n', 'framing'],
  ['a folded trailer', '0\r\nA: 1\r\n 2\r\n\r\n', 'malformed', complete('', { trailers: ['A', '1 2'] })],
  ['a blank before the first trailer', '0\r\n A: 1\r\n\r\n', 'malformed', 'malformed'],
  ['a trailer without colon', '0\r\nA\r\n\r\n', 'malformed', 'malformed'],
  ['Content-Length as a trailer', '0\r\ncontent-LENGTH: 1\r\n\r\n', 'framing'],
  ['Transfer-Encoding as a trailer', '0\r\nTransfer-Encoding: chunked\r\n\r\n', 'framing'],
  ['its neighbour', '0\r\nTransfer-Encodinx: chunked\r\n\r\n', complete('', { trailers: ['Transfer-Encodinx', 'chunked'] })],
  ['as many trailers as may be', '0\r\nA:1\r\nB:2\r\nC:3\r\n\r\n', complete('', { trailers: ['A', '1', 'B', '2', 'C', '3'] })],
  ['one more', '0\r\nA:1\r\nB:2\r\nC:3\r\nD:4\r\n\r\n', 'too-large'],
  ['a trailer of the longest', `0\r\nA:${'x'.repeat(62)}\r\n\r\n`, complete('', { trailers: ['A', 'x'.repeat(62)] })],
  ['one byte longer', `0\r\nA:${'x'.repeat(63)}\r\n\r\n`, 'too-large'],
  ['a trailer that has no end', `0\r\nA:${'x'.repeat(80)}`, 'too-large'],
];

function same(t: Test, rows: readonly Row[], framing: Framing): void {
  for (const [what, bytes, strict, lenient = strict] of rows) {
    for (const [mode, outcome, isLenient] of [['strict', strict, false], ['lenient', lenient, true]] as const) {
      const expected = typeof outcome === 'string' ? outcome : { content: '', trailers: [], done: false, rest: '', ...outcome };
      for (const pieces of cuts(latin1(bytes))) {
        const found = feed(pieces, framing, isLenient);
        if (JSON.stringify(found) !== JSON.stringify(expected)) t.strictSame(found, expected, `${what}, ${mode}, cut behind ${pieces[0]?.length ?? 0} of ${bytes.length}`);
      }
      t.strictSame(feed([latin1(bytes)], framing, isLenient), expected, `${what}, ${mode}`);
    }
  }
}

t.test('chunks', async (t) => {
  same(t, CHUNKS, CHUNKED);
});

t.test('a length', async (t) => {
  same(t, [
    ['exactly', 'abc', complete('abc')],
    ['less', 'ab', { content: 'ab' }],
    ['more', 'abcde', complete('abc', { rest: 'de' })],
    ['line ends', '\r\n\r\n', complete('\r\n\r', { rest: '\n' })],
  ], { kind: 'length', length: 3 });
  same(t, [['nothing', 'abc', complete('', { rest: 'abc' })]], { kind: 'length', length: 0 });
  same(t, [['nothing', 'abc', complete('', { rest: 'abc' })]], NO_CONTENT);
});

t.test('until the connection ends', async (t) => {
  same(t, [['all of it', '0\r\n\r\nabc', { content: '0\r\n\r\nabc' }]], UNTIL_CLOSE);
  for (const [framing, bytes, complete] of [
    [UNTIL_CLOSE, '', true],
    [UNTIL_CLOSE, 'abc', true],
    [NO_CONTENT, '', true],
    [{ kind: 'length', length: 3 }, 'ab', false],
    [{ kind: 'length', length: 3 }, 'abc', true],
    [CHUNKED, '', false],
    [CHUNKED, '3\r\nabc\r\n', false],
    [CHUNKED, '3\r\nabc\r\n0\r\n', false],
    [CHUNKED, '3\r\nabc\r\n0\r\n\r', false],
    [CHUNKED, '3\r\nabc\r\n0\r\n\r\n', true],
  ] as const) {
    const reader = new BodyReader({ ...TERMS, lenient: true });
    reader.begin(framing);
    reader.read(latin1(bytes), 0, () => {});
    t.equal(reader.end(), complete, `${framing.kind} ${JSON.stringify(bytes)}`);
  }
});

t.test('a message leaves nothing behind for the next', async (t) => {
  const reader = new BodyReader({ ...TERMS, lenient: false });
  const content: string[] = [];
  const read = (text: string): number => reader.read(latin1(text), 0, (part) => content.push(part.toString()));
  reader.begin(CHUNKED);
  read('1\r\na\r\n0\r\nA: 1\r\n\r\n');
  t.strictSame(reader.trailers, ['A', '1']);
  for (const unfinished of ['', '1', '1;a', '1\r\n', '1\r\nb', '1\r\nb\r', '0\r\n', '0\r\n\r', '0\r\nB', '0\r\nB: 1\r\n\r']) {
    reader.begin(CHUNKED);
    read(unfinished);
    content.length = 0;
    reader.begin(CHUNKED);
    t.equal(read('1\r\nc\r\n0\r\n\r\nx'), 11);
    t.strictSame([content, reader.trailers, reader.done], [['c'], [], true], `behind ${JSON.stringify(unfinished)}`);
  }
});

t.test('extensions carry nothing, and cost work: a bound for each line and for all', async (t) => {
  const attempt = (text: string): string | null => {
    const found = feed([latin1(text)], CHUNKED, false);
    return typeof found === 'string' ? found : null;
  };
  t.equal(attempt(`1;${'x'.repeat(1021)}\r\na\r\n`), null);
  t.equal(attempt(`1;${'x'.repeat(1022)}\r\na\r\n`), 'framing', 'of a line');
  const chunk = `1;${'x'.repeat(1021)}\r\na\r\n`;
  t.equal(attempt(chunk.repeat(16)), null);
  t.equal(attempt(chunk.repeat(17)), 'framing', 'of all together');
});

t.test('content is passed on as it was read, without a copy', async (t) => {
  const reader = new BodyReader({ ...TERMS, lenient: false });
  reader.begin({ kind: 'length', length: 1000 });
  const piece = Buffer.alloc(600);
  reader.read(piece, 0, (part) => {
    t.equal(part, piece, 'the whole of what was read');
  });
  reader.read(piece, 0, (part) => {
    t.equal(part.buffer, piece.buffer);
    t.equal(part.length, 400);
  });
});

t.test('the work grows with the input', async (t) => {
  const read = (pieces: readonly Buffer[], lenient: boolean) => (): void => {
    const reader = new BodyReader({ trailerBytes: 16 * 1024 * 1024, trailerFields: 1_000_000, lenient });
    reader.begin(CHUNKED);
    try {
      for (const piece of pieces) reader.read(piece, 0, () => {});
    } catch (error) {
      if (!(error instanceof MessageError)) throw error;
    }
  };
  const bytewise = (text: string, size: number): Buffer[] => Array.from({ length: size }, (_, i) => latin1(text.charAt(i % text.length)));
  for (const lenient of [false, true]) {
    const mode = lenient ? 'lenient' : 'strict';
    isLinear(t, `${mode}, chunks of one byte`, 10_000, (size) => read([latin1('1\r\na\r\n'.repeat(size))], lenient));
    isLinear(t, `${mode}, byte by byte`, 20_000, (size) => read(bytewise('1\r\na\r\n', size), lenient));
    isLinear(t, `${mode}, trailers byte by byte`, 20_000, (size) => read([latin1('0\r\n'), ...bytewise('a:b\r\n', size)], lenient));
    isLinear(t, `${mode}, trailers`, 10_000, (size) => read([latin1(`0\r\n${'a:\r\n'.repeat(size)}\r\n`)], lenient));
    isLinear(t, `${mode}, lines of blanks`, 400, (size) => read([latin1(`1${' '.repeat(1000)}\r\na\r\n`.repeat(size))], lenient));
    isLinear(t, `${mode}, lines of semicolons`, 2, (size) => read([latin1(`1${';a'.repeat(500)}\r\na\r\n`.repeat(size))], lenient));
    isLinear(t, `${mode}, a large chunk in pieces of one byte`, 20_000, (size) => read([latin1('ffffff\r\n'), ...bytewise('x', size)], lenient));
  }
});

t.test('a trailer section that is too large is called one', async (t) => {
  const reader = new BodyReader({ trailerBytes: 10, trailerFields: 3, lenient: false });
  reader.begin(CHUNKED);
  t.throws(() => reader.read(Buffer.from('0\r\nName: value\r\n\r\n'), 0, () => {}), { message: 'the trailer section is larger than 10 bytes' });
});
