/** Lists of patterns cut texts as the policy's own comparison does: no text is in a set that is not told, and each told set has its text. */
import t from 'tap';
import { compilePaths, matchesPath, matchWildcard, NAME_STOPS } from '../../src/policy/patterns.ts';
import { cutTexts, type TextAtom, tokenizePath, tokenizeText } from '../../src/policy-diff/text-atoms.ts';
import { BoundedMeter, NO_BOUND, runSteps } from '../../src/policy-diff/work.ts';
import { findAmbiguity } from '../../src/targets/path.ts';
import { pick } from '../support/random-policies.ts';
import { between, seeded } from '../support/random.ts';

const PARTS = ['a', 'b', '*', '**', 'a*', '*b', 'a*b', '%20', '*0', '.a', 'a.', '..a', '%25', '2e', 'a;b', 'a%3B*b', '*a%3B', '*.', '%E0', '%25*', '*%20*'];
const PIECES = ['a', 'b', '/', '/', 'a', '.', ';', '%3B', '%20', '0', '2', 'e', '%25', '%2F', '%E0', 'x', 'c', '%80'];

function randomPattern(random: () => number): string {
  const pattern = `${Array.from({ length: between(random, 1, 4) }, () => `/${pick(random, PARTS)}`).join('')}${pick(random, ['', '', '*', '/', '/*'])}`;
  // As the configuration takes them.
  const faulty = pattern.includes('***') || pattern.split('/').some((segment) => segment.includes('**') && segment !== '**') || findAmbiguity(pattern.replaceAll(/\*+/g, 'x')) !== null;
  return faulty ? randomPattern(random) : pattern;
}

/** Null: many stars side by side can take any time, so that there is a bound. */
function cut(lists: Parameters<typeof cutTexts>[0], encodedSlashes: boolean): TextAtom[] | null {
  try {
    return runSteps(cutTexts(lists, { texts: 'path', encodedSlashes }, new BoundedMeter(40_000)));
  } catch {
    return null;
  }
}

t.test('paths', async (t) => {
  const random = seeded(1);
  let cuts = 0;
  for (let round = 0; round < 1000; round += 1) {
    const lists = Array.from({ length: between(random, 1, 4) }, () => Array.from({ length: between(random, 1, 3) }, () => randomPattern(random)));
    const encodedSlashes = random() < 0.5;
    const mode = encodedSlashes ? 'allow' : 'refuse';
    const atoms = cut(lists.map((list) => ({ patterns: list.map(tokenizePath), before: '' })), encodedSlashes);
    if (atoms === null) continue;
    cuts += 1;
    const compiled = lists.map(compilePaths);
    const vectorOf = (path: string): string => compiled.map((list) => (matchesPath(list, path) ? '1' : '0')).join('');
    for (const { text, vector } of atoms) {
      if (findAmbiguity(text, mode) !== null || vectorOf(text) !== vector) t.fail(text, { lists, vector, is: vectorOf(text) });
    }
    const told = new Set(atoms.map(({ vector, slashed }) => `${vector} ${slashed}`));
    for (let count = 0; count < 100; count += 1) {
      const path = `/${Array.from({ length: between(random, 0, 7) }, () => pick(random, PIECES)).join('')}`;
      if (findAmbiguity(path, mode) === null && !told.has(`${vectorOf(path)} ${path.includes('%2F')}`)) t.fail(path, { lists, vector: vectorOf(path) });
    }
  }
  t.ok(cuts > 900, `${cuts} sets of lists`);
});

t.test('subjects', async (t) => {
  const random = seeded(2);
  const random0 = (): string => `${pick(random, ['a', '*', 'a*', 'a:*', 'a/*:b', '*:*', 'ab', '*b', ''])}${pick(random, ['', ':x', ':*', '/b', '*'])}`;
  const pattern = (): string => {
    const text = random0();
    return text === '' || text.includes('**') ? pattern() : text;
  };
  for (let round = 0; round < 500; round += 1) {
    const lists = Array.from({ length: between(random, 1, 4) }, () => Array.from({ length: between(random, 1, 2) }, pattern));
    const atoms = runSteps(cutTexts(lists.map((list) => ({ patterns: list.map((one) => tokenizeText(one, NAME_STOPS)), before: '' })), { texts: 'text', encodedSlashes: false }, NO_BOUND));
    const vectorOf = (text: string): string => lists.map((list) => (list.some((one) => (one.includes('*') ? matchWildcard(one, text, NAME_STOPS) : one === text)) ? '1' : '0')).join('');
    for (const { text, vector } of atoms) if (text === '' || vectorOf(text) !== vector) t.fail(text, { lists, vector, is: vectorOf(text) });
    const told = new Set(atoms.map(({ vector }) => vector));
    for (let count = 0; count < 100; count += 1) {
      const text = `${pick(random, ['a', 'b', ':', '/', 'x'])}${Array.from({ length: between(random, 0, 5) }, () => pick(random, ['a', 'b', ':', '/', 'x'])).join('')}`;
      if (!told.has(vectorOf(text))) t.fail(text, { lists, vector: vectorOf(text) });
    }
  }
  t.pass('500 sets of lists');
});

t.test('a bound holds', async (t) => {
  const patterns = ['/*a*b*c*/**/*d*', '/**/a/**/b/**/c', '/*b*a*/**/x*'].map((pattern) => ({ patterns: [tokenizePath(pattern)], before: '' }));
  t.throws(() => runSteps(cutTexts(patterns, { texts: 'path', encodedSlashes: false }, new BoundedMeter(100))), { message: 'more than 100 steps' });
});
