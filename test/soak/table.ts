/** What came of a soak as text, for the terminal and for docs/soak.md. */
import { type Drift, FIGURES } from './quarters.ts';
import type { Done, SoakResult } from './run-soak.ts';

const MEBIBYTE = 2 ** 20;

function valueOf({ figure }: Drift, value: number): string {
  return FIGURES[figure].unit === 'MiB' ? `${(value / MEBIBYTE).toFixed(1)} MiB` : String(value);
}

/** Below, a share says little of a count. */
const FEW = 10;

/** From the second quarter to the last, as a share; of a small count, the difference. */
export function formatMove({ quarters: [, from = 0], drift }: Drift): string {
  const sign = drift < 0 ? '−' : '+';
  return from < FEW ? `${sign}${Math.abs(drift)}` : `${sign}${Math.abs((drift / from) * 100).toFixed(1)} %`;
}

/** One row for each figure: its medians in the quarters, and how far it moved. */
export function formatDrifts(drifts: readonly Drift[]): string {
  const rows = drifts.map((drift) => `| ${FIGURES[drift.figure].name} | ${drift.quarters.map((value) => valueOf(drift, value)).join(' | ')} | ${formatMove(drift)} |`);
  return ['| Median | 1st quarter | 2nd | 3rd | 4th | 2nd to 4th |', '|---|---|---|---|---|---|', ...rows, ''].join('\n');
}

/** One row for each work or event: how often it was done. */
export function formatDone(list: readonly Done[]): string {
  return list.map(({ name, done, failed }) => `| ${name} | ${done} | ${failed} |\n`).join('');
}

/** The measured part of docs/soak.md. */
export function formatSoak({ seconds, drifts, works, events }: SoakResult, note: string): string {
  return `${Math.round(seconds / 60)} minutes${note === '' ? '' : `; ${note}`}.\n\n${formatDrifts(drifts)}\n| What happened | Times | Did not end well |\n|---|---|---|\n${formatDone([...works, ...events])}`;
}
