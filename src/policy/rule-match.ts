/** Whether a rule applies to what is asked: its time, its methods and its paths. */
import { canonicalPath, findAmbiguity } from '../target/path.ts';
import type { CompiledRule } from './compile.ts';
import { matchesPath } from './path-match.ts';
import type { Ask } from './verdict.ts';

/** Why a rule does not apply, in the order in which it is found out. */
export type Miss = 'early' | 'late' | 'hidden' | 'method' | 'path' | 'ambiguous';

/**
 * Null when the rule applies. A rule that lists methods or paths permits only
 * these, so it permits nothing where they are hidden, as inside a tunnel.
 */
export function missOf(rule: CompiledRule, ask: Ask): Miss | null {
  if (ask.now < rule.from) return 'early';
  if (ask.now >= rule.until) return 'late';
  const { methods, paths } = rule;
  if (methods === null && paths === null) return null;
  const tunnel = ask.form === 'connect';
  if (methods !== null) {
    if (tunnel || ask.method === null) return 'hidden';
    if (!methods.has(ask.method)) return 'method';
  }
  if (paths === null) return null;
  if (tunnel || ask.path === null) return 'hidden';
  if (findAmbiguity(ask.path) !== null) return 'ambiguous';
  return matchesPath(paths, canonicalPath(ask.path)) ? null : 'path';
}
