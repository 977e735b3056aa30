/** Rules have no names: matches the rules of a changed file with those of the previous one by their content. */
import type { RuleConfig } from '../config/config.ts';

/**
 * Which rules of two files are the same rule: those with the same content, then of the others those at
 * the same position or in file order that share a client and a destination, which count as changed.
 * @returns for each rule of either file a name that is in both
 */
export function nameRules(before: readonly RuleConfig[], after: readonly RuleConfig[]): readonly [before: string[], after: string[]] {
  const names = before.map((_, index) => `before ${index}`);
  const later = after.map((_, index) => `after ${index}`);
  const contents = Map.groupBy(before.keys(), (index) => contentOfRule(before[index]));
  const taken = new Set<number>();
  const open: number[] = [];
  for (const [index, rule] of after.entries()) {
    const same = contents.get(contentOfRule(rule))?.shift();
    if (same === undefined) open.push(index);
    else {
      taken.add(same);
      later[index] = names[same] ?? '';
    }
  }
  const left = before.map((_, index) => index).filter((index) => !taken.has(index));
  for (const index of open) {
    const rule = after[index];
    const fits = (other: number): boolean => rule !== undefined && share(rule.clients, before[other]?.clients) && share(rule.destinations, before[other]?.destinations);
    const place = left.includes(index) && fits(index) ? left.indexOf(index) : left.findIndex(fits);
    const [found] = place === -1 ? [] : left.splice(place, 1);
    if (found !== undefined) later[index] = names[found] ?? '';
  }
  return [names, later];
}

function contentOfRule(rule: RuleConfig | undefined): string {
  return rule === undefined ? '' : JSON.stringify(decisiveOf(rule));
}

/** The parts that decisions depend on, without comments for people. */
export function decisiveOf({ clients, destinations, methods, paths, from, until, report }: RuleConfig): Pick<RuleConfig, 'clients' | 'destinations' | 'methods' | 'paths' | 'from' | 'until' | 'report'> {
  return { clients, destinations, methods, paths, from, until, report };
}

function share(one: readonly string[], other: readonly string[] | undefined): boolean {
  return other !== undefined && one.some((name) => other.includes(name));
}
