/** Sets of paths in the words of the files: exact, in as few patterns as possible. */
import { canonicalPath } from '../targets/path.ts';
import { BoundedMeter, runSteps } from './work.ts';
import type { PathCut, PathSet } from './diff-class.ts';
import { intersects, tokenizePath } from './text-atoms.ts';

/** Steps for one pair of patterns; beyond them the patterns are assumed to overlap. */
const MOST_STEPS_OF_PAIR = 20_000;
const ANY_PATH = 'any path';

/** Empty for all paths. @param gateway the part after a prefix */
export function describePaths({ cut, atoms }: PathSet, prefix: string | null): string {
  if (atoms.length === cut.atoms.length) return '';
  const chosen = atoms.flatMap((index) => cut.atoms[index] ?? []);
  const parts: string[] = [];
  const [plain, slashed] = (['plain', 'slashed'] as const).map((kind) =>
    chosen.flatMap((atom) => (atom.kind === kind ? [atom.vector] : [])),
  );
  const text = describeVectors(cut, 'plain', plain ?? []);
  const slashedText = describeVectors(cut, 'slashed', slashed ?? []);
  const hasSlashed = cut.atoms.some(({ kind }) => kind === 'slashed');
  if (text !== '' && (!hasSlashed || text === slashedText)) parts.push(text);
  else
    parts.push(
      ...(text === '' ? [] : [`${text} without encoded slashes`]),
      ...(slashedText === '' ? [] : [`${slashedText} with encoded slashes`]),
    );
  const everything = text === slashedText || !hasSlashed;
  if (chosen.some(({ kind }) => kind === 'ambiguous') && !(everything && text.startsWith(`${ANY_PATH} but`)))
    parts.push('any path with two readings');
  // Below a prefix, an ambiguous path is refused before anything else.
  if (parts.length === 1 && parts[0] === ANY_PATH) return prefix === null ? 'any path with one reading' : '';
  return parts.join(' or ');
}

function describeVectors(cut: PathCut, kind: 'plain' | 'slashed', wanted: readonly string[]): string {
  if (wanted.length === 0) return '';
  const all = cut.atoms.flatMap((atom) => (atom.kind === kind ? [atom.vector] : []));
  const others = all.filter((vector) => !wanted.includes(vector));
  if (others.length === 0) return ANY_PATH;
  const texts: string[] = [];
  for (let left = wanted; left[0] !== undefined;) {
    const [first] = left;
    const cube = widen(first, others);
    texts.push(describeCube(cut, cube));
    left = left.filter((vector) => !fits(cube, vector));
  }
  return texts.join(' or ');
}

/** Drops redundant elements of a vector, as long as none of the others fits; `-` where it is redundant. */
function widen(vector: string, others: readonly string[]): string {
  const cube = Array.from(vector);
  /** For each of the others, where it does not fit. */
  const gaps = others.map((other) => new Set(cube.flatMap((value, at) => (value === other[at] ? [] : [at]))));
  for (const value of ['0', '1']) {
    for (let at = 0; at < cube.length; at += 1) {
      if (cube[at] !== value || gaps.some((places) => places.size === 1 && places.has(at))) continue;
      cube[at] = '-';
      for (const places of gaps) places.delete(at);
    }
  }
  return cube.join('');
}

function fits(cube: string, vector: string): boolean {
  for (let at = 0; at < cube.length; at += 1) if (cube[at] !== '-' && cube[at] !== vector[at]) return false;
  return true;
}

function describeCube({ lists }: PathCut, cube: string): string {
  const having = (value: string): string[][] =>
    lists.flatMap((list, index) => (cube[index] === value ? [list.patterns.map((pattern) => withoutBase(pattern, list.before))] : []));
  const outside = having('0').flat();
  const inside = having('1').map((patterns) => patterns.filter((pattern) => !outside.includes(pattern)));
  const except = [...new Set(outside)].filter((pattern) =>
    inside.every((patterns) => !patterns.includes(pattern) && patterns.some((one) => meet(one, pattern))),
  );
  const paths = inside.map((patterns) => [...new Set(patterns)].join(', ')).join(' that are also ');
  const but = except.join(', ');
  if (paths === '') return but === '' ? ANY_PATH : `any path but ${but}`;
  return `${paths.includes(',') || paths.includes('*') ? 'paths' : 'path'} ${paths}${but === '' ? '' : ` but not ${but}`}`;
}

/** On the gateway, patterns are about the partner's side: the common part is written once, if the patterns can express it. */
function withoutBase(pattern: string, base: string): string {
  return base === '' ? pattern : `${pattern} at the partner`;
}

function meet(one: string, other: string): boolean {
  try {
    return runSteps(
      intersects(
        tokenizePath(canonicalPath(one)),
        tokenizePath(canonicalPath(other)),
        { texts: 'path', encodedSlashes: false },
        new BoundedMeter(MOST_STEPS_OF_PAIR),
      ),
    );
  } catch {
    return true;
  }
}
