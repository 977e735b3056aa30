import fc from 'fast-check';
import t from 'tap';
import { bound, jsonText, escapeText, printableJson, printableLine } from '../../src/telemetry/safe-text.ts';

t.test('any text as a JSON string: the same text for who reads it, and nothing in it that acts', async (t) => {
  for (const text of ['', 'plain /api?x=1', 'a"b', 'a\\b', '\x7f', '\x1b[31m', 'ü', '\u2028', '\ud800']) {
    t.equal(JSON.parse(jsonText(text)), text);
    t.match(jsonText(text), /^"[ -~ü]*"$/);
  }
  fc.assert(fc.property(fc.string({ unit: 'binary' }), (text) => JSON.parse(jsonText(text)) === text));
});

t.test('a cut is between characters', async (t) => {
  t.equal(bound('abc', 3), 'abc');
  t.equal(bound('abcd', 3), 'ab…');
  fc.assert(fc.property(fc.string({ unit: 'grapheme', minLength: 1 }), fc.integer({ min: 1, max: 30 }), (text, length) => {
    const cut = bound(text, length);
    return cut.length <= length && cut.isWellFormed();
  }));
});

t.test('lines and documents for people: the same text, and nothing in it that acts', async (t) => {
  t.equal(printableLine('a "b" C:\\c \\u001b\u001b[31m\u009b1m\u202e\n'), 'a "b" C:\\c \\u001b\\u001b[31m\\u009b1m\\u202e\\n');
  const value = { name: 'x\u001b[31m\u009b1m\u202e\u2028', list: [1, null] };
  t.same(JSON.parse(printableJson(value)), value);
  t.match(printableJson(value), /^[\n\x20-\x7e]*$/);
});

t.test('text for people: one line, printable, quotes as they are', async (t) => {
  for (const [text, shown] of [['"a" is no name', '"a" is no name'], ['a\\"b', 'a\\\\"b'], ['a\nb\u001b[2J\u202e', 'a\\nb\\u001b[2J\\u202e'], ['ends in \\', 'ends in \\\\']] as const) t.equal(escapeText(text), shown);
});
