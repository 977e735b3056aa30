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
  const take = (index: number, found: number): void => {
    taken.add(found);
    later[index] = names[found] ?? '';
  };
  const open: number[] = [];
  for (const [index, rule] of after.entries()) {
    const same = contents.get(contentOfRule(rule))?.shift();
    if (same === undefined) open.push(index);
    else take(index, same);
  }
  // By name, the first rule last: of a rule's clients and its destinations, the side with fewer rules is searched.
  const left = [...before.entries()].filter(([index]) => !taken.has(index)).reverse();
  const [ofClient, ofDestination] = (['clients', 'destinations'] as const).map((kind) =>
    Map.groupBy(
      left.flatMap(([index, rule]) => rule[kind].map((name) => ({ name, index }))),
      ({ name }) => name,
    ),
  );
  for (const index of open) {
    const rule = after[index];
    const fits = (other: number): boolean =>
      rule !== undefined &&
      !taken.has(other) &&
      share(rule.clients, before[other]?.clients) &&
      share(rule.destinations, before[other]?.destinations);
    const sides = [
      rule?.clients.map((name) => ofClient?.get(name) ?? []),
      rule?.destinations.map((name) => ofDestination?.get(name) ?? []),
    ].map((lists = []) => ({ lists, size: lists.reduce((sum, { length }) => sum + length, 0) }));
    const [shorter] = sides.sort((one, other) => one.size - other.size);
    let found = fits(index) ? index : Infinity;
    for (const list of found === index ? [] : (shorter?.lists ?? [])) {
      while (taken.has(list.at(-1)?.index ?? -1)) list.pop();
      found = Math.min(found, list.findLast((other) => fits(other.index))?.index ?? Infinity);
    }
    if (found !== Infinity) take(index, found);
  }
  return [names, later];
}

function contentOfRule(rule: RuleConfig | undefined): string {
  return rule === undefined ? '' : JSON.stringify(decisiveOf(rule));
}

/** The parts that decisions depend on, without comments for people. */
export function decisiveOf({
  clients,
  destinations,
  methods,
  paths,
  from,
  until,
  report,
}: RuleConfig): Pick<RuleConfig, 'clients' | 'destinations' | 'methods' | 'paths' | 'from' | 'until' | 'report'> {
  return { clients, destinations, methods, paths, from, until, report };
}

function share(one: readonly string[], other: readonly string[] | undefined): boolean {
  return other !== undefined && !new Set(one).isDisjointFrom(new Set(other));
}
