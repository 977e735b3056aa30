/** The metrics of docs/metrics.md, which another test holds to the code, as queries see them. */
import { FAULTS } from '../../src/errors.ts';
import { readDocRows } from './doc-table.ts';
import { type QueryReading, readQuery } from './promql.ts';

/** What a scraper adds to every series. */
const TARGET_LABELS = ['job', 'instance', 'namespace', 'pod'];
const CODES = new Set<string>([...Object.keys(FAULTS), 'ok']);

/** Every series name with its labels. */
export function readCatalogue(): ReadonlyMap<string, ReadonlySet<string>> {
  const catalogue = new Map<string, ReadonlySet<string>>([['up', new Set(TARGET_LABELS)]]);
  for (const [name = '', type, labels = ''] of readDocRows('docs/metrics.md')) {
    const own = [...labels.split(', ').filter((label) => label !== ''), ...TARGET_LABELS];
    if (type === 'histogram') {
      catalogue.set(`${name}_bucket`, new Set([...own, 'le']));
      for (const suffix of ['_sum', '_count']) catalogue.set(name + suffix, new Set(own));
    } else catalogue.set(name, new Set(own));
  }
  return catalogue;
}

/** What is wrong with a query: metrics and labels that do not exist, codes that nothing has. Throws at what is no PromQL. */
export function findStrangers(query: string, catalogue: ReadonlyMap<string, ReadonlySet<string>>): string[] {
  const { selectors, grouping }: QueryReading = readQuery(query);
  const strangers: string[] = [];
  const known = new Set<string>();
  for (const { metric, matchers } of selectors) {
    const labels = catalogue.get(metric);
    if (labels === undefined) strangers.push(`no metric ${metric}`);
    for (const label of labels ?? []) known.add(label);
    for (const { label, value } of matchers) {
      if (labels?.has(label) === false) strangers.push(`${metric} has no label ${label}`);
      if (label === 'error' || label === 'code') strangers.push(...value.split('|').filter((code) => !CODES.has(code)).map((code) => `no code ${code}`));
    }
  }
  if (selectors.length === 0) strangers.push('it asks for no metric');
  strangers.push(...grouping.filter((label) => !known.has(label)).map((label) => `nothing selected has the label ${label}`));
  return strangers;
}
