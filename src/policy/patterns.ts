/** Patterns with `*`: for one text, for paths, and for many lists at once. */
import { canonicalPath } from '../targets/path.ts';

const STAR = 0x2a;

/**
 * Compares a text with a pattern in which `*` matches any characters, also none.
 * @param stops texts that a `*` does not go past, unless it ends the pattern; none is a part of another
 *
 * After a mismatch the last star takes one character more. An earlier star need not:
 * the last could take as much, and if a stop lies between the two, the characters
 * before it are fixed. So the time is at most the product of the lengths.
 */
export function matchWildcard(pattern: string, text: string, stops: readonly string[]): boolean {
  const last = pattern.length - 1;
  let at = 0;
  let star = -1;
  let taken = 0;
  for (let i = 0; i < text.length;) {
    const code = pattern.charCodeAt(at);
    if (code === STAR) {
      if (at === last) return true;
      star = at;
      at += 1;
      taken = i;
    } else if (at <= last && code === text.charCodeAt(i)) {
      at += 1;
      i += 1;
    } else if (star !== -1 && !isStop(stops, text, taken)) {
      taken += 1;
      i = taken;
      at = star + 1;
    } else return false;
  }
  while (pattern.charCodeAt(at) === STAR) at += 1;
  return at === pattern.length;
}

function isStop(stops: readonly string[], text: string, at: number): boolean {
  for (const stop of stops) if (text.startsWith(stop, at)) return true;
  return false;
}

/**
 * What follows a semicolon is a parameter to some servers (RFC 3986 §3.3): a star that reached past one would find its
 * end in `/admin;x.json`. Others decode before they pass a path on, so an encoded one is a stop too.
 */
export const SEGMENT_STOPS: readonly string[] = [';', '%3B'];
/** Parts of a URI, such as a SPIFFE ID, and of a token's subject. */
export const NAME_STOPS: readonly string[] = ['/', ':'];

/** Path patterns of one list, compiled. */
export interface PathPatterns {
  readonly exact: ReadonlySet<string>;
  /** Patterns whose only star is the last character, without it. */
  readonly prefixes: readonly string[];
  /** The others, by segments; null is `**`. */
  readonly globs: readonly (readonly (string | null)[])[];
}

/**
 * Compares a path with patterns. `*` matches any characters inside one segment,
 * not past a semicolon, plain or encoded, unless it ends the segment, `**` any number of whole
 * segments, and a final `*` everything that follows. No pattern can make it
 * slow: it never goes back further than the last star, so the time is at most
 * the product of the two lengths.
 */
export function compilePaths(patterns: readonly string[]): PathPatterns {
  const exact = new Set<string>();
  const prefixes: string[] = [];
  const globs: (string | null)[][] = [];
  for (const pattern of patterns.map(canonicalPath)) {
    const star = pattern.indexOf('*');
    const rest = star === -1 ? '' : pattern.slice(star);
    if (star === -1) exact.add(pattern);
    else if (rest === '*' || rest === '**') prefixes.push(pattern.slice(0, star));
    else globs.push(readSegments(pattern));
  }
  return { exact, prefixes, globs };
}

/** `path` in the spelling of canonicalPath. With an encoded slash it has to match in both readings, as part of a segment and as its end. */
export function matchesPath(patterns: PathPatterns, path: string): boolean {
  return matchesReading(patterns, path) && (!path.includes('%2F') || matchesReading(patterns, path.replaceAll('%2F', '/')));
}

function matchesReading(patterns: PathPatterns, path: string): boolean {
  if (patterns.exact.has(path)) return true;
  for (const prefix of patterns.prefixes) if (path.startsWith(prefix)) return true;
  if (patterns.globs.length === 0) return false;
  const segments = path.slice(1).split('/');
  for (const glob of patterns.globs) if (matchesSegments(glob, segments)) return true;
  return false;
}

function readSegments(pattern: string): (string | null)[] {
  const segments = pattern
    .slice(1)
    .split('/')
    .map((segment) => (segment === '**' ? null : segment));
  // A final star continues past its segment; a final `**`, like a final `*`, matches what is below the path, not the
  // path.
  if (segments.at(-1) === null) segments[segments.length - 1] = '*';
  if (segments.at(-1)?.endsWith('*') === true) segments.push(null);
  return segments;
}

/** The usual algorithm: after a mismatch, the last `**` takes one segment more. An earlier one need not, for the last could take as much. */
function matchesSegments(glob: readonly (string | null)[], segments: readonly string[]): boolean {
  let at = 0;
  let star = -1;
  let taken = 0;
  for (let i = 0; i < segments.length;) {
    const expected = glob[at];
    if (expected === null) {
      star = at;
      at += 1;
      taken = i;
    } else if (expected !== undefined && matchWildcard(expected, segments[i] ?? '', SEGMENT_STOPS)) {
      at += 1;
      i += 1;
    } else if (star !== -1) {
      taken += 1;
      i = taken;
      at = star + 1;
    } else return false;
  }
  while (glob[at] === null) at += 1;
  return at === glob.length;
}

// Finds the lists that have an entry for a text, exact or with `*`, in time
// independent of their number: patterns are stored in a tree of their prefixes
// before the first star, which is walked once along the text.

/** Several lists of text patterns, compiled: which lists have a pattern that a text matches. */
export interface PatternTable {
  /** Indexes of the lists, each once, in ascending order. */
  find(text: string): readonly number[];
}

interface PatternEntry {
  readonly pattern: string;
  readonly list: number;
}

/** The prefix common to everything below it, after that of its parent. */
interface PrefixNode {
  readonly edge: string;
  /** Patterns whose first star is here. */
  readonly here: readonly PatternEntry[];
  /** By the code of the first character of their edge. */
  readonly below: ReadonlyMap<number, PrefixNode>;
}

const NO_PATTERNS: readonly number[] = [];

/**
 * @param lists index and entries of each list, in ascending order
 * @param stops texts that a star does not go past, unless it ends its entry
 */
export function buildPatternTable(
  lists: Iterable<readonly [index: number, entries: readonly string[]]>,
  stops: readonly string[],
): PatternTable {
  const exact = new Map<string, number[]>();
  const wild: PatternEntry[] = [];
  for (const [list, entries] of lists) {
    for (const entry of new Set(entries)) {
      if (entry.includes('*')) wild.push({ pattern: entry, list });
      else if (exact.get(entry)?.push(list) === undefined) exact.set(entry, [list]);
    }
  }
  const root = wild.length === 0 ? null : buildNode(wild, 0);

  return {
    find(text) {
      const same = exact.get(text) ?? NO_PATTERNS;
      if (root === null) return same;
      const found = findBelow(root, text, stops);
      if (found === NO_PATTERNS) return same;
      return [...new Set([...same, ...found])].sort((a, b) => a - b);
    },
  };
}

/** @param depth length of the prefix that all entries have in common already */
function buildNode(entries: readonly PatternEntry[], depth: number): PrefixNode {
  const literals = entries.map(({ pattern }) => pattern.slice(0, pattern.indexOf('*')));
  const edge = commonPrefix(literals).slice(depth);
  const end = depth + edge.length;
  const groups = new Map<number, PatternEntry[]>();
  const here: PatternEntry[] = [];
  for (const [index, entry] of entries.entries()) {
    const literal = literals[index] ?? '';
    if (literal.length === end) {
      here.push(entry);
      continue;
    }
    const code = literal.charCodeAt(end);
    if (groups.get(code)?.push(entry) === undefined) groups.set(code, [entry]);
  }
  return { edge, here, below: new Map([...groups].map(([code, group]) => [code, buildNode(group, end)])) };
}

function commonPrefix(texts: readonly string[]): string {
  const [first = ''] = texts;
  let length = first.length;
  for (const text of texts) {
    let same = 0;
    while (same < length && text.charCodeAt(same) === first.charCodeAt(same)) same += 1;
    length = same;
  }
  return first.slice(0, length);
}

function findBelow(root: PrefixNode, text: string, stops: readonly string[]): readonly number[] {
  let found: number[] | null = null;
  let depth = 0;
  for (let node: PrefixNode | undefined = root; node !== undefined && text.startsWith(node.edge, depth);) {
    depth += node.edge.length;
    for (const { pattern, list } of node.here) if (matchWildcard(pattern, text, stops)) (found ??= []).push(list);
    node = node.below.get(text.charCodeAt(depth));
  }
  return found ?? NO_PATTERNS;
}
