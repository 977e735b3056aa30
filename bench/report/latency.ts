/** What a request takes at half load, and in a young process: of all runs together, beside what it is compared with, and what may have been in the way. */
import type { Comparison } from '../compare.ts';
import type { Stalls } from '../stage.ts';
import type { Work } from '../works.ts';
import { percentile } from './histogram.ts';
import { formatFigure, renderTable } from './table.ts';

const MS = 1_000;

/** One row per work and contender; empty if no work was about latency. */
export function formatLatencies(works: readonly Pick<Work, 'name'>[], contenders: readonly string[], comparisons: readonly Comparison[]): string {
  const rows = works.flatMap(({ name }) => {
    const p99Of = (contender: string): number => percentile(find(comparisons, name, contender)?.latencies?.own ?? {}, 0.99);
    return contenders.flatMap((contender) => {
      const { latencies, samples = [] } = find(comparisons, name, contender) ?? {};
      if (latencies === undefined) return [];
      const [p50 = NaN, p99 = NaN, p999 = NaN] = [0.5, 0.99, 0.999].map((part) => percentile(latencies.own, part));
      const baseline = percentile(latencies.baseline, 0.99);
      const stalls = samples.flatMap((sample) => sample.stalls ?? []);
      const mean = (figure: 'busy' | 'stolen' | 'waited'): number => (100 * stalls.reduce((sum, one) => sum + one[figure], 0)) / stalls.length;
      return [[`${name}, ${contender}`, `${samples.length}`, ...[p50 / MS, p99 / MS, p999 / MS, baseline / MS, p99 / baseline, contender === 'stock' ? NaN : p99 / p99Of('stock'), mean('busy'), mean('stolen'), mean('waited'), longest(stalls, 'longestGcMs'), longest(stalls, 'loopMaxMs')].map(formatFigure)]];
    });
  });
  return rows.length === 0 ? '' : renderTable(['work, contender', 'runs', 'p50 ms', 'p99 ms', 'p99.9 ms', 'baseline p99 ms', 'p99 of baseline', 'p99 of stock', 'busy %', 'stolen %', 'waited %', 'longest GC ms', 'loop max ms'], rows);
}

function find(comparisons: readonly Comparison[], work: string, contender: string): Comparison | undefined {
  return comparisons.find((one) => one.work === work && one.contender === contender);
}

function longest(stalls: readonly Stalls[], figure: 'longestGcMs' | 'loopMaxMs'): number {
  const figures = stalls.flatMap((one) => one[figure] ?? []);
  return figures.length === 0 ? NaN : Math.max(...figures);
}
