/** What a second replica brings. */
import type { Comparison } from '../compare.ts';
import { median } from './statistics.ts';
import { formatFigure, renderTable } from './table.ts';

/** Medians of the runs, one row for each number of replicas; empty if there were none. */
export function formatReplicas(comparisons: readonly Comparison[]): string {
  const groups = comparisons.flatMap(({ samples }) => samples.flatMap(({ replicas }) => replicas ?? []));
  const counts = [...new Set(groups.map(({ count }) => count))];
  const middle = (count: number, figure: 'rate' | 'cpuMicroseconds' | 'opened'): number => median(groups.filter((group) => group.count === count).map((group) => group[figure]));
  const rows = counts.map((count) => [String(count), formatFigure(middle(count, 'rate')), `${formatFigure(middle(count, 'rate') / middle(1, 'rate'))}×`, formatFigure(middle(count, 'cpuMicroseconds')), formatFigure(middle(count, 'opened'))]);
  return rows.length === 0 ? '' : renderTable(['replicas', 'requests/s', 'of one', 'µs CPU a request', 'upstream connections'], rows);
}
