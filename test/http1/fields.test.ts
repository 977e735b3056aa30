/** Field lines: which characters, which line ends, and what may be put right in a response only. */
import t from 'tap';
import { isToken, listHas, readFields, trimBlanks } from '../../src/http1/fields.ts';
import { MessageError } from '../../src/http1/head-reader.ts';
import { isLinear } from '../support/pieces.ts';

const STRICT = { most: 10, lenient: false };
const LENIENT = { most: 10, lenient: true };

function read(text: string, rules = STRICT): string[] | string {
  const told: string[] = [];
  try {
    const fields = readFields(text, 0, rules, (name, value) => told.push(name, value));
    // Whoever decides by what is told has to see what is passed on.
    t.strictSame(told, fields, JSON.stringify(text.slice(0, 80)));
    return fields;
  } catch (error) {
    if (!(error instanceof MessageError)) throw error;
    return error.flaw;
  }
}

/** RFC 9110 §5.6.2, written down a second time. */
const TCHAR = "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

t.test('the characters of a name', async (t) => {
  for (let code = 0; code < 256; code += 1) {
    const character = String.fromCharCode(code);
    const title = `0x${code.toString(16)}`;
    const token = TCHAR.includes(character);
    t.equal(isToken(character), token, title);
    if (character === ':' || character === '\n') continue;
    for (const name of [`${character}a`, `a${character}a`, `a${character}`]) {
      t.strictSame(read(`${name}: v`), token ? [name, 'v'] : 'malformed', `${title} in ${JSON.stringify(name)}`);
      // Before the colon, and at the beginning of what is no first line.
      const blank = character === ' ' || character === '\t';
      t.strictSame(read(`${name}: v`, LENIENT), token ? [name, 'v'] : blank && name === `a${character}` ? ['a', 'v'] : 'malformed', `${title} in ${JSON.stringify(name)}, lenient`);
    }
  }
  t.equal(isToken(''), false);
  t.equal(read(': v'), 'malformed');
  t.equal(read(' : v', LENIENT), 'malformed');
});

t.test('the characters of a value', async (t) => {
  for (let code = 0; code < 256; code += 1) {
    const character = String.fromCharCode(code);
    const title = `0x${code.toString(16)}`;
    const allowed = code === 9 || (code >= 0x20 && code !== 0x7f);
    for (const rules of [STRICT, LENIENT]) {
      if (character === '\n') continue;
      const value = `b${character}c`;
      t.strictSame(read(`A: ${value}`, rules), allowed ? ['A', value] : 'malformed', title);
      const trimmed = character === ' ' || character === '\t' ? 'b' : `b${character}`;
      t.strictSame(read(`A: b${character}`, rules), allowed ? ['A', trimmed] : 'malformed', `${title} at the end`);
      t.strictSame(read(`A:${character}b`, rules), allowed ? ['A', trimmed === 'b' ? 'b' : `${character}b`] : 'malformed', `${title} at the beginning`);
    }
  }
});

t.test('lines', async (t) => {
  const rows: readonly (readonly [what: string, text: string, strict: string[] | string, lenient: string[] | string])[] = [
    ['none', '', [], []],
    ['one', 'A: 1', ['A', '1'], ['A', '1']],
    ['two', 'A: 1\r\nb:2', ['A', '1', 'b', '2'], ['A', '1', 'b', '2']],
    ['the same twice, in order and case', 'A: 2\r\na: 1\r\nA: 2', ['A', '2', 'a', '1', 'A', '2'], ['A', '2', 'a', '1', 'A', '2']],
    ['an empty value', 'A:\r\nB: ', ['A', '', 'B', ''], ['A', '', 'B', '']],
    ['blanks around the value', 'A: \t 1 \t ', ['A', '1'], ['A', '1']],
    ['blanks inside it', 'A: 1 \t 2', ['A', '1 \t 2'], ['A', '1 \t 2']],
    ['colons in it', 'A:: b:c', ['A', ': b:c'], ['A', ': b:c']],
    ['no-break space is no blank', 'A: \xa01\xa0', ['A', '\xa01\xa0'], ['A', '\xa01\xa0']],
    ['LF alone', 'A: 1\nB: 2', 'malformed', ['A', '1', 'B', '2']],
    ['LF alone, mixed', 'A: 1\r\nB: 2\nC: 3', 'malformed', ['A', '1', 'B', '2', 'C', '3']],
    ['CR alone', 'A: 1\rB: 2', 'malformed', 'malformed'],
    ['CR CR LF', 'A: 1\r\r\nB: 2', 'malformed', 'malformed'],
    ['no colon', 'A', 'malformed', 'malformed'],
    ['no colon, and one in the next line', 'A\r\nB: 1', 'malformed', 'malformed'],
    ['an empty line', 'A: 1\r\n\r\nB: 2', 'malformed', 'malformed'],
    ['a blank before the colon', 'A : 1', 'malformed', ['A', '1']],
    ['several', 'A\t : 1', 'malformed', ['A', '1']],
    ['a blank in the name', 'A B: 1', 'malformed', 'malformed'],
    ['folded', 'A: 1\r\n 2', 'malformed', ['A', '1 2']],
    ['folded by a tab', 'A: 1\r\n\t2\r\nB: 3', 'malformed', ['A', '1 2', 'B', '3']],
    ['folded twice', 'A: 1\r\n  2 \r\n\t 3\t', 'malformed', ['A', '1 2 3']],
    ['folded, the first line empty', 'A:\r\n 1', 'malformed', ['A', '1']],
    ['folded, the second line empty', 'A: 1\r\n \r\nB: 2', 'malformed', ['A', '1', 'B', '2']],
    ['folded, with LF alone', 'A: 1\n 2', 'malformed', ['A', '1 2']],
    ['folded, with a character that only looks blank', 'A: 1\r\n \xa02\xa0', 'malformed', ['A', '1 \xa02\xa0']],
    ['folded, what would be a field', 'A: 1\r\n B: 2', 'malformed', ['A', '1 B: 2']],
    ['folded, a control character', 'A: 1\r\n 2\x00', 'malformed', 'malformed'],
    ['the first line begins with a blank', ' A: 1', 'malformed', 'malformed'],
  ];
  for (const [what, text, strict, lenient] of rows) {
    t.strictSame(read(text, STRICT), strict, `${what}, strict`);
    t.strictSame(read(text, LENIENT), lenient, `${what}, lenient`);
  }
});

t.test('as many as may be, and one more', async (t) => {
  const lines = (count: number): string => Array.from({ length: count }, (_, i) => `A${i}: ${i}`).join('\r\n');
  for (const rules of [STRICT, LENIENT]) {
    t.equal(read(lines(10), rules).length, 20);
    t.equal(read(lines(11), rules), 'too-large');
    t.equal(read(`${lines(10)}\r\nnot looked at`, rules), 'too-large', 'one more is not looked at');
  }
  t.equal(read(`${lines(10)}\r\n folded`, LENIENT).length, 20, 'a folded line is no field');
});

t.test('reads from the given offset', async (t) => {
  t.strictSame(readFields('GET / HTTP/1.1\r\nA: 1', 16, STRICT), ['A', '1']);
  t.strictSame(readFields('HTTP/1.1 200 OK', 15, STRICT), []);
});

t.test('a list has a token', async (t) => {
  for (const [value, has] of [
    ['close', true],
    ['CLOSE', true],
    ['keep-alive, close', true],
    ['Close ,upgrade', true],
    ['\tclose\t', true],
    [',close,', true],
    ['closed', false],
    ['xclose', false],
    ['close x', false],
    ['close;q=1', false],
    ['\xa0close', false],
    ['close\xa0', false],
    ['clos', false],
    ['', false],
  ] as const) t.equal(listHas(value, 'close'), has, JSON.stringify(value));
});

t.test('blanks are space and tab', async (t) => {
  for (const [text, trimmed] of [
    ['', ''],
    [' \t ', ''],
    [' a \t', 'a'],
    ['a b', 'a b'],
    ['\xa0a\xa0', '\xa0a\xa0'],
    ['\x0ba\x0c', '\x0ba\x0c'],
  ] as const) t.equal(trimBlanks(text), trimmed, JSON.stringify(text));
});

t.test('the work grows with the input', async (t) => {
  const fields = (text: string, lenient: boolean) => (): void => {
    try {
      readFields(text, 0, { most: 1_000_000, lenient }, (_name, value) => value.charCodeAt(0));
    } catch (error) {
      if (!(error instanceof MessageError)) throw error;
    }
  };
  for (const lenient of [false, true]) {
    const mode = lenient ? 'lenient' : 'strict';
    isLinear(t, `${mode}, many fields`, 10_000, (size) => fields('a:\r\n'.repeat(size), lenient));
    isLinear(t, `${mode}, blanks in a value`, 200_000, (size) => fields(`a:${' '.repeat(size)}b${' '.repeat(size)}\x00`, lenient));
    isLinear(t, `${mode}, blanks before a colon`, 200_000, (size) => fields(`a${' '.repeat(size)}:b`, lenient));
    isLinear(t, `${mode}, blanks at the beginning`, 200_000, (size) => fields(`a:b\r\n${' '.repeat(size)}`, lenient));
    isLinear(t, `${mode}, folded lines`, 20_000, (size) => fields(`a:b${'\r\n c'.repeat(size)}`, lenient));
    isLinear(t, `${mode}, folded lines that are empty`, 20_000, (size) => fields(`a:b${'\r\n '.repeat(size)}`, lenient));
    isLinear(t, `${mode}, no colon`, 200_000, (size) => fields('a'.repeat(size), lenient));
    isLinear(t, `${mode}, CR`, 200_000, (size) => fields(`a:${'\r'.repeat(size)}`, lenient));
  }
  isLinear(t, 'a list of commas', 50_000, (size) => () => listHas(', '.repeat(size), 'close'));
  isLinear(t, 'a list of blanks', 200_000, (size) => () => listHas(`a${' '.repeat(size)}b`, 'close'));
});
