/** Whether two generators say the same of two proxies: by the ratio of their costs, since each generator has a cost of its own. */
import type { Work } from '../works.ts';
import type { Summaries } from './statistics.ts';
import { formatFigure, renderTable } from './table.ts';

/** As far as two ratios may lie apart, and still agree. */
const WITHIN = 0.15;

/** One row per pair, ours and another, of each work that has a second generator; empty if none was run. */
export function formatAgreement(works: readonly Pick<Work, 'name'>[], contenders: readonly string[], summaries: Summaries): string {
  const rows = works.flatMap(({ name }) => {
    const ours = summaries.of(name, 'ours');
    return contenders.flatMap((contender) => {
      const other = summaries.of(name, contender);
      if (contender === 'ours' || ours === null || other === null || ours.costAgain === null || other.costAgain === null) return [];
      return [[`${name}, ours to ${contender}`, ...compareRatios([ours.cost / other.cost, ours.costAgain / other.costAgain])]];
    });
  });
  return rows.length === 0 ? '' : renderTable(['CPU of a request', 'load.c', 'wrk', ''], rows);
}

function compareRatios([first, second]: [number, number]): string[] {
  const apart = Math.max(first, second) / Math.min(first, second) - 1;
  const words = Number.isFinite(apart) ? `${apart <= WITHIN ? 'agree' : '**do not agree**'}: ${formatFigure(apart * 100)} % apart` : 'not measured: wrk not found';
  return [formatFigure(first), formatFigure(second), words];
}
