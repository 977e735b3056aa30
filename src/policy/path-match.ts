/**
 * Compares a path with patterns. `*` stands for any characters inside one
 * segment, `**` for any number of whole segments, and a final `*` for whatever
 * follows. No pattern can make it slow: it never goes back further than the
 * last star, so the time is at most the product of the two lengths.
 */
import { canonicalPath } from '../target/path.ts';
import { matchWildcard } from './wildcard.ts';

export interface PathPatterns {
  readonly exact: ReadonlySet<string>;
  /** Patterns whose only star is the last character, without it. */
  readonly prefixes: readonly string[];
  /** The others, by segments; null stands for `**`. */
  readonly globs: readonly (readonly (string | null)[])[];
}

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
  const segments = pattern.slice(1).split('/').map((segment) => (segment === '**' ? null : segment));
  // A final star goes on past its segment; a final `**`, like a final `*`, covers what is below the path, not the path.
  if (segments.at(-1) === null) segments[segments.length - 1] = '*';
  if (segments.at(-1)?.endsWith('*') === true) segments.push(null);
  return segments;
}

/** The usual walk: after a mismatch, the last `**` takes one segment more. An earlier one need not, for the last could take as much. */
function matchesSegments(glob: readonly (string | null)[], segments: readonly string[]): boolean {
  let at = 0;
  let star = -1;
  let taken = 0;
  for (let i = 0; i < segments.length; ) {
    const expected = glob[at];
    if (expected === null) {
      star = at;
      at += 1;
      taken = i;
    } else if (expected !== undefined && matchWildcard(expected, segments[i] ?? '', '')) {
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
