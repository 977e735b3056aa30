/** Whether a rule applies to a request: its time, its methods and its paths. */
import type { DestinationConfig } from '../config/config.ts';
import { canonicalPath, findAmbiguity } from '../targets/path.ts';
import type { CompiledRule } from './compile.ts';
import { matchesPath } from './patterns.ts';
import type { Ask } from './verdict.ts';

/** Why a rule does not apply, in the order of the checks. */
export type Miss = 'early' | 'late' | 'hidden' | 'method' | 'path' | 'ambiguous';

/** How far a rule got before it failed: the rule that almost applied is blamed. */
export const REACH: Readonly<Record<Miss, number>> = { early: 1, late: 1, hidden: 2, method: 3, path: 4, ambiguous: 5 };

/** The rule that got furthest without applying, the first of equals; null when all apply or there are none. */
export function furthestMiss(rules: readonly CompiledRule[], ask: Ask, destination: DestinationConfig): { readonly rule: CompiledRule; readonly miss: Miss } | null {
  let furthest: { rule: CompiledRule; miss: Miss } | null = null;
  for (const rule of rules) {
    const miss = missOf(rule, ask, destination);
    if (miss !== null && (furthest === null || REACH[miss] > REACH[furthest.miss])) furthest = { rule, miss };
  }
  return furthest;
}

/**
 * Null when the rule applies. A rule that lists methods or paths permits only
 * these, so it permits nothing where they are hidden, as inside a tunnel.
 */
export function missOf(rule: CompiledRule, ask: Ask, destination: DestinationConfig): Miss | null {
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
  if (ambiguityOf(ask.path, ask, destination) !== null) return 'ambiguous';
  return matchesPath(paths, canonicalPath(ask.path)) ? null : 'path';
}

/** Why the path is ambiguous, given what the destination permits (null: none is known); null when it is not. */
export function ambiguityOf(path: string, { form }: Pick<Ask, 'form'>, destination: DestinationConfig | null): string | null {
  return findAmbiguity(path, form === 'gateway' ? destination?.gateway?.encodedSlashes : 'refuse');
}
