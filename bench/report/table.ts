/** Results as Markdown tables, aligned so that they read as well in a terminal. */
import type { Comparison } from '../compare.ts';
import type { Observed } from '../stage.ts';
import type { Work } from '../works.ts';
import type { Judgement } from './targets.ts';
import type { Summaries, Summary } from './statistics.ts';

const WORDS = { true: 'met', false: '**not met**', null: 'not measured' };

/** The first column is aligned left, the others right. */
export function renderTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = head.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column]?.length ?? 0)));
  const line = (cells: readonly string[]): string => `| ${widths.map((width, column) => (column === 0 ? (cells[column] ?? '').padEnd(width) : (cells[column] ?? '').padStart(width))).join(' | ')} |`;
  const rule = `|${widths.map((width, column) => (column === 0 ? '-'.repeat(width + 2) : `${'-'.repeat(width + 1)}:`)).join('|')}|`;
  return [line(head), rule, ...rows.map(line)].join('\n');
}

/** Three digits are what medians on a shared machine are worth. */
export function formatFigure(figure: number): string {
  if (!Number.isFinite(figure)) return '';
  if (Math.abs(figure) >= 100) return Math.round(figure).toLocaleString('en-US');
  return figure.toFixed(Math.abs(figure) >= 10 ? 1 : 2);
}

/** One row per work, one column per contender: the main figure, and its ratio to ours. */
export function formatCosts(works: readonly Work[], contenders: readonly string[], summaries: Summaries): string {
  const rows = works.flatMap((work) => {
    const all = contenders.map((contender) => summaries.of(work.name, contender));
    if (all.every((summary) => summary === null)) return [];
    const ours = summaries.of(work.name, 'ours')?.cost ?? NaN;
    return [[`${work.title}, ${work.unit}`, ...all.map((summary, index) => formatCost(summary, contenders[index] === 'ours' ? NaN : ours))]];
  });
  return renderTable(['work', ...contenders], rows);
}

/** One row per work and contender: how fast, and how much later than without a proxy. */
export function formatSpeeds(works: readonly Work[], contenders: readonly string[], summaries: Summaries): string {
  const rows = works.flatMap((work) =>
    contenders.flatMap((contender) => {
      const summary = summaries.of(work.name, contender);
      if (summary === null || !Number.isFinite(summary.rate)) return [];
      const ratio = summary.rate / (summaries.of(work.name, 'ours')?.rate ?? NaN);
      return [[`${work.name}, ${contender}`, formatFigure(summary.cost), formatFigure(summary.spread * 100), formatFigure(summary.rate), contender === 'ours' ? '' : formatRatio(ratio), formatFigure(summary.addedP50), formatFigure(summary.addedP99), formatFigure(summary.rssBytes / 2 ** 20)]];
    }),
  );
  return renderTable(['work, contender', 'cost', 'spread %', 'operations/s', 'of ours', 'p50 added µs', 'p99 added µs', 'memory MB'], rows);
}

/** One row per work and contender that was observed; empty if none was. */
export function formatObserved(works: readonly Work[], contenders: readonly string[], comparisons: readonly Comparison[]): string {
  const rows = works.flatMap((work) =>
    contenders.flatMap((contender) => {
      const observed = comparisons.find((one) => one.work === work.name && one.contender === contender)?.observed;
      if (observed === undefined) return [];
      const { told, systemCalls } = observed;
      const { allocatedBytes, gcShare, longestGcMs, loopP99Ms, loopMaxMs } = told ?? { allocatedBytes: NaN, gcShare: NaN, longestGcMs: NaN, loopP99Ms: NaN, loopMaxMs: NaN };
      return [[`${work.name}, ${contender}`, ...[allocatedBytes / 1e3, gcShare * 100, longestGcMs, loopP99Ms, loopMaxMs].map(formatFigure), ...formatCalls(systemCalls)]];
    }),
  );
  return rows.length === 0 ? '' : renderTable(['work, contender', 'allocated KB', 'GC %', 'longest GC ms', 'loop p99 ms', 'loop max ms', 'system calls', 'the most frequent'], rows);
}

function formatCalls(calls: Observed['systemCalls']): [sum: string, most: string] {
  if (typeof calls === 'string') return ['', calls];
  const sorted = Object.entries(calls).toSorted(([, a], [, b]) => b - a);
  return [formatFigure(sorted.reduce((sum, [, count]) => sum + count, 0)), sorted.slice(0, 3).map(([name, count]) => `${name} ${formatFigure(count)}`).join(', ')];
}

export function formatTargets(judgements: readonly Judgement[]): string {
  const rows = judgements.map(({ work, text, figure, unit, limit, met }) => [work, text, Number.isFinite(figure) ? `${formatFigure(figure)} ${unit}` : '', formatFigure(limit), WORDS[`${met}`]]);
  return renderTable(['work', 'target', 'ours', 'limit', ''], rows);
}

function formatCost(summary: Summary | null, ours: number): string {
  if (summary === null) return '';
  if (summary.runs === 0) return 'failed';
  return `${formatFigure(summary.cost)}${formatRatio(summary.cost / ours, ' (', ')')}`;
}

function formatRatio(ratio: number, before = '', after = ''): string {
  return Number.isFinite(ratio) ? `${before}${ratio.toFixed(2)}×${after}` : '';
}
