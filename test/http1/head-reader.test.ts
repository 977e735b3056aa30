/** Header sections in whatever pieces they come: the same section, the same rest, the same refusal. */
import t from 'tap';
import { HeadReader, type HeadReaderOptions, MessageError } from '../../src/http1/head-reader.ts';
import { cuts, isLinear, latin1 } from '../support/pieces.ts';

const STRICT: HeadReaderOptions = { limit: 64, lenient: false, startLine: true };
const LENIENT: HeadReaderOptions = { limit: 64, lenient: true, startLine: true };

interface Found {
  /** Each section that is complete. */
  readonly texts: readonly string[];
  /** What stands behind the last one, whether it is held or not. */
  readonly rest: string;
  readonly flaw: string | null;
}

/** Gives the pieces one after the other, as a connection does; each section is followed by the next. */
function feed(pieces: readonly Buffer[], options: HeadReaderOptions): Found {
  const reader = new HeadReader(options);
  const texts: string[] = [];
  try {
    for (const piece of pieces) {
      for (let at = 0; at < piece.length; ) {
        const section = reader.read(piece, at);
        if (section === null) break;
        texts.push(section.text);
        at = section.next;
      }
    }
  } catch (error) {
    if (!(error instanceof MessageError)) throw error;
    return { texts, rest: '', flaw: error.flaw };
  }
  return { texts, rest: reader.bytes.toString('latin1'), flaw: null };
}

const SECTIONS: readonly (readonly [what: string, bytes: string, found: Partial<Found>, options?: HeadReaderOptions])[] = [
  ['one line', 'GET / HTTP/1.1\r\n\r\n', { texts: ['GET / HTTP/1.1'] }],
  ['fields', 'GET / HTTP/1.1\r\nA: 1\r\nB: 2\r\n\r\n', { texts: ['GET / HTTP/1.1\r\nA: 1\r\nB: 2'] }],
  ['what follows is left', 'A: 1\r\n\r\nrest', { texts: ['A: 1'], rest: 'rest' }],
  ['two', 'A\r\n\r\nB\r\n\r\n', { texts: ['A', 'B'] }],
  ['unfinished', 'A: 1\r\nB: 2\r\n', { texts: [], rest: 'A: 1\r\nB: 2\r\n' }],
  ['all but the last byte', 'A: 1\r\n\r', { texts: [], rest: 'A: 1\r\n\r' }],
  ['an empty line first', '\r\nA\r\n\r\n', { texts: ['A'] }],
  ['several', '\r\n\r\n\r\nA\r\n\r\n', { texts: ['A'] }],
  ['between two', 'A\r\n\r\n\r\nB\r\n\r\n', { texts: ['A', 'B'] }],
  ['nothing but empty lines', '\r\n\r\n\r\n', { texts: [], rest: '' }],
  ['CR at the beginning is no empty line', '\rA\r\n\r\n', { texts: ['\rA'] }],
  ['CR CR LF', '\r\r\nA\r\n\r\n', { texts: ['\r\r\nA'] }],
  ['LF alone', 'A\nB\r\n\r\n', { texts: ['A\nB'] }, { ...LENIENT }],
  ['LF and CR LF', 'A\n\r\nB', { texts: ['A'], rest: 'B' }, LENIENT],
  ['CR LF and LF', 'A\r\n\nB', { texts: ['A'], rest: 'B' }, LENIENT],
  ['LF and LF', 'A: 1\nB: 2\n\nrest', { texts: ['A: 1\nB: 2'], rest: 'rest' }, LENIENT],
  ['empty lines that end in LF', '\n\r\n\nA\n\n', { texts: ['A'] }, LENIENT],
  ['CR alone ends no line', 'A\rB\r\r\n\r\n', { texts: ['A\rB\r'] }, LENIENT],
  ['of the longest', `${'x'.repeat(64)}\r\n\r\nrest`, { texts: ['x'.repeat(64)], rest: 'rest' }],
  ['of the longest, in lines', `A: ${'x'.repeat(61)}\n\nrest`, { texts: [`A: ${'x'.repeat(61)}`], rest: 'rest' }, LENIENT],
  ['one byte longer', `A\r\n${'x'.repeat(62)}\r\n\r\n`, { flaw: 'too-large' }],
  ['a first line one byte longer', `${'x'.repeat(65)}\r\n\r\n`, { flaw: 'target-too-long' }],
  ['one that has no end', 'x'.repeat(80), { flaw: 'target-too-long' }],
  ['fields that have no end', `A\r\n${'x'.repeat(80)}`, { flaw: 'too-large' }],
  ['a long first line of fields', 'x'.repeat(80), { flaw: 'too-large' }, { ...STRICT, startLine: false }],
  ['LF alone, refused', 'GET / HTTP/1.1\nA: 1\r\n', { flaw: 'malformed' }],
  ['LF at the beginning, refused', '\nA', { flaw: 'malformed' }],
  ['LF and LF, refused', 'A\n\n', { flaw: 'malformed' }],
  ['LF behind an empty line, refused', '\r\n\nA', { flaw: 'malformed' }],
];

t.test('the same in every way it can be cut', async (t) => {
  for (const [what, bytes, found, options = STRICT] of SECTIONS) {
    const expected = { texts: [], rest: '', flaw: null, ...found };
    for (const pieces of cuts(latin1(bytes))) {
      const now = feed(pieces, options);
      if (JSON.stringify(now) !== JSON.stringify(expected)) t.strictSame(now, expected, `${what}, cut behind ${pieces[0]?.length ?? 0} of ${bytes.length}`);
    }
    t.strictSame(feed([latin1(bytes)], options), expected, what);
  }
});

t.test('what an unfinished section holds is its bytes, up to the limit and no more', async (t) => {
  const limit = 16_384;
  const reader = new HeadReader({ limit, lenient: false, startLine: true });
  const piece = latin1('a:\r\n'.repeat(256));
  t.throws(() => {
    for (;;) {
      reader.read(piece, 0);
      if (reader.bytes.buffer.byteLength > limit + 4) t.fail(`${reader.bytes.buffer.byteLength} bytes are held`);
    }
  }, new MessageError('too-large', `the header section is larger than ${limit} bytes`));
  const other = new HeadReader({ limit, lenient: false, startLine: true });
  const large = Buffer.alloc(1024 * 1024, 'x');
  other.read(large.subarray(0, 10), 0);
  t.ok(other.bytes.buffer.byteLength < 1024, 'a piece of what was read does not hold the whole');
});

t.test('pending, and forgotten', async (t) => {
  const reader = new HeadReader(STRICT);
  t.equal(reader.pending, false);
  reader.read(latin1('\r\n'), 0);
  t.equal(reader.pending, false, 'empty lines are nothing');
  reader.read(latin1('G'), 0);
  t.equal(reader.pending, true);
  reader.clear();
  t.equal(reader.pending, false);
  t.strictSame(reader.read(latin1('A\r\n\r\n'), 0), { text: 'A', next: 5 });
  t.equal(reader.pending, false);
});

t.test('the work grows with the input', async (t) => {
  const read = (pieces: readonly Buffer[], lenient: boolean) => (): void => {
    const reader = new HeadReader({ limit: 16 * 1024 * 1024, lenient, startLine: true });
    for (const piece of pieces) reader.read(piece, 0);
  };
  for (const lenient of [false, true]) {
    const mode = lenient ? 'lenient' : 'strict';
    isLinear(t, `${mode}, byte by byte`, 10_000, (size) => read(Array.from({ length: size }, () => latin1('x')), lenient));
    isLinear(t, `${mode}, lines byte by byte`, 10_000, (size) => read(Array.from({ length: size }, (_, i) => latin1('\r\na'.charAt(i % 3))), lenient));
    isLinear(t, `${mode}, CR without end`, 300_000, (size) => read([Buffer.alloc(size, '\r')], lenient));
    isLinear(t, `${mode}, lines in large pieces`, 300_000, (size) => read([Buffer.alloc(size, 'a:\r\n')], lenient));
    isLinear(t, `${mode}, empty lines`, 300_000, (size) => read([Buffer.alloc(size, '\r\n')], lenient));
    isLinear(t, `${mode}, empty lines byte by byte`, 10_000, (size) => read(Array.from({ length: size }, (_, i) => latin1('\r\n'.charAt(i % 2))), lenient));
  }
});
