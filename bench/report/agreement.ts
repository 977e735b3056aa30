/** Whether two generators say the same of two proxies: by the ratio of their costs, since each generator has a cost of its own. */
import type { Work } from '../works.ts';
import type { Summaries } from './statistics.ts';
import { formatFigure, renderTable } from './table.ts';

/** As far as two ratios may lie apart, and still agree. */
const WITHIN = 0.15;

/** One row per pair, ours and another, of each work that was run with a second generator; empty if none was. */
export function formatAgreement(works: readonly Pick<Work, 'name' | 'repeats'>[], contenders: readonly string[], summaries: Summaries): string {
  const rows = works.flatMap(({ name, repeats }) =>
    contenders.flatMap((contender) => {
      if (repeats === undefined || contender === 'ours' || summaries.of(repeats, contender) === null || summaries.of(name, contender) === null) return [];
      const ratio = (work: string): number => (summaries.of(work, 'ours')?.cost ?? NaN) / (summaries.of(work, contender)?.cost ?? NaN);
      const [one, other] = [ratio(repeats), ratio(name)];
      return [[`${repeats}, ours to ${contender}`, formatFigure(one), formatFigure(other), inWords(one, other)]];
    }),
  );
  return rows.length === 0 ? '' : renderTable(['CPU of a request', 'load.c', 'wrk', ''], rows);
}

function inWords(one: number, other: number): string {
  const apart = Math.max(one, other) / Math.min(one, other) - 1;
  if (!Number.isFinite(apart)) return 'not measured';
  return apart <= WITHIN ? `agree: ${formatFigure(apart * 100)} % apart` : `**do not agree**: ${formatFigure(apart * 100)} % apart`;
}
