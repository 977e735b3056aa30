/** What one process of ours carries, and how far one NAT address goes, by arithmetic from the costs. */
import type { Summaries } from './statistics.ts';
import { formatFigure, renderTable } from './table.ts';

/** Of a core: beyond it, queues make latency grow. */
const PART = 0.7;
/** Of one source address towards one address and port of a partner. */
const NAT_PORTS = 64_512;
const TIME_WAIT_SECONDS = 120;

export function formatCapacity(summaries: Summaries): string {
  const cost = (work: string): number => summaries.of(work, 'ours')?.cost ?? NaN;
  const perSecond = (work: string): number => (PART * 1e6) / cost(work);
  const rows = [
    ['tunnel set-ups a second', formatFigure(perSecond('setup')), `one NAT address allows ${formatFigure(Math.floor(NAT_PORTS / TIME_WAIT_SECONDS))} of them, with a TIME_WAIT of ${TIME_WAIT_SECONDS} s`],
    ['gateway requests a second', formatFigure(perSecond('gateway')), 'over kept connections: more requests take no more ports'],
    ['forwarded requests a second', formatFigure(perSecond('forward')), 'likewise'],
    ['64-byte messages a second, there and back', formatFigure(perSecond('ping')), ''],
    ['download through tunnels, Gbit/s', formatFigure(gigabits(cost('download'))), ''],
    ['upload through tunnels, Gbit/s', formatFigure(gigabits(cost('upload'))), ''],
    ['memory for 4,000 idle tunnels, MB', formatFigure((4_000 * cost('idle')) / 1024), 'in addition to that of the process'],
  ];
  return renderTable(['', 'one process', ''], rows.filter(([, figure]) => figure !== ''));
}

function gigabits(secondsPerGibibyte: number): number {
  return ((PART / secondsPerGibibyte) * 8 * 2 ** 30) / 1e9;
}
