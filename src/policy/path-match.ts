/** Compares a path with the patterns of a destination: exact paths, and prefixes written with a final `*`. */
import { canonicalPath } from '../target/path.ts';

export interface PathPatterns {
  readonly exact: ReadonlySet<string>;
  /** Without the star. */
  readonly prefixes: readonly string[];
}

export function compilePaths(patterns: readonly string[]): PathPatterns {
  const canonical = patterns.map(canonicalPath);
  return {
    exact: new Set(canonical.filter((pattern) => !pattern.endsWith('*'))),
    prefixes: canonical.filter((pattern) => pattern.endsWith('*')).map((pattern) => pattern.slice(0, -1)),
  };
}

/** `path` in the spelling of canonicalPath. */
export function matchesPath(patterns: PathPatterns, path: string): boolean {
  if (patterns.exact.has(path)) return true;
  for (const prefix of patterns.prefixes) if (path.startsWith(prefix)) return true;
  return false;
}
