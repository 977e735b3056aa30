/**
 * test/docs/messages.txt has every text that a user or an operator can read, so
 * that all of them can be read in one go, and a change of one shows in a review.
 * After a change of a text, `bin/node test/docs/write-messages.ts` writes it anew.
 */
import t from 'tap';
import { readFileSync } from 'node:fs';
import { FAULTS } from '../../src/errors.ts';
import { collectMessages, formatMessages, LIST } from '../support/messages.ts';

/** What plain technical English does without, and what it says instead. */
const AVOID: readonly (readonly [words: RegExp, instead: string])[] = [
  [/\bmend(?:s|ed|ing)?\b/i, 'fix'],
  [/\bbe(?:fall|fell)/i, 'happen to'],
  [/\b(?:hither|thither|whither|hence|whence|thereof|therein|whereby|whereupon|lest|anew)\b/i, 'a plain word'],
  [/\bwhom\b/i, 'who, or name it'],
  [/\b(?:whoever|whosoever)\b/i, 'every client that, everyone who'],
  [/\bnobody(?:'s)?\b/i, 'no client, no request'],
  [/\beverybody\b/i, 'every client, every address'],
  [/(?<!there )\b(?:is|are|begins?|knows?) no (?!longer\b)(?!more\b)\w/i, 'is not a'],
  [/\bof late\b/i, 'recently'],
  [/\bknows? of\b/i, 'knows, or has'],
  [/\bunheard\b/i, 'is not logged'],
  [/\bin vain\b/i, 'failed'],
  [/\bby the way\b/i, 'over the same route'],
  [/\bthe way (?:to|from|out|there|here|leads?)\b/i, 'route'],
  [/\b(?:a|other|own|this) way (?:to|than|of)\b/i, 'route'],
  [/(?<!you )\bstands?\b(?!-in)/i, 'is, comes, means, goes'],
  [/\bturn(?:s|ed)? [\w ]+ away\b/i, 'refuse'],
  [/\bjudged?\b/i, 'check'],
  [/\bspeaks? for\b/i, 'name'],
  [/\b(?:is|are) well\b|\d well\b/i, 'ok, works'],
  [/\bhas not (?:this|the|a)\b/i, 'does not have'],
  [/\bno\w* .* any more\b/i, 'no longer'],
  [/\bis told\b/i, 'is logged'],
  [/\bcomes? about\b/i, 'succeeds'],
  [/\bKnown here\b/i, 'Valid keys'],
];

const messages = collectMessages();

t.test('the list is what the source says', async (t) => {
  const listed = readFileSync(LIST, 'utf8').split('\n');
  const now = formatMessages(messages).split('\n');
  t.same(now.filter((line) => !listed.includes(line)), [], 'nothing is missing in the list: bin/node test/docs/write-messages.ts');
  t.same(listed.filter((line) => !now.includes(line)), [], 'the list has nothing that is gone');
  t.same(listed, now);
});

t.test('all of it is plain technical English', async (t) => {
  const found = messages.flatMap(({ kind, text }) => AVOID.filter(([words]) => words.test(text)).map(([words, instead]) => `${kind}: ${text} | ${words.source}: ${instead}`));
  t.same(found, []);
});

t.test('each kind of text is found', async (t) => {
  const textsOf = (kind: string): string[] => messages.filter((message) => message.kind === kind).map(({ text }) => text);
  for (const [code, { title }] of Object.entries(FAULTS)) t.ok(textsOf(`Fault ${code}`).includes(title), code);
  for (const kind of ['Command help', 'Configuration', 'Doctor', 'Log', 'Metrics']) t.ok(textsOf(kind).length > 15, kind);
});
