/** Adds metrics, under our prefix, each with the function that hands its series over when it is scraped. */
import type { Exposition, Labels } from './exposition.ts';
import { labelText, valueText } from './exposition.ts';
import type { HistogramCell } from './histogram.ts';

const PREFIX = 'eco_egress_';

export type SetValue = (labels: Labels, value: number) => void;
export type Sample = readonly [labels: Labels, value: number];

/** Hands every series to `set` once; what is not handed over is absent. Where there may be thousands, it yields them instead, one after the other. */
type EachValue = ((set: SetValue) => void) | (() => Iterable<Sample>);
type EachCell = (add: (labels: Labels, cell: HistogramCell) => void) => void;

export function counter(exposition: Exposition, name: string, help: string, labelNames: readonly string[], each: EachValue): void {
  addValues(exposition, 'counter', name, help, labelNames, each);
}

export function gauge(exposition: Exposition, name: string, help: string, labelNames: readonly string[], each: EachValue): void {
  addValues(exposition, 'gauge', name, help, labelNames, each);
}

/** A gauge that is always 1 and tells something by its labels. */
export function constant(exposition: Exposition, name: string, help: string, labels: Labels): void {
  gauge(exposition, name, help, Object.keys(labels), (set) => {
    set(labels, 1);
  });
}

export function histogram(exposition: Exposition, name: string, help: string, labelNames: readonly string[], each: EachCell): void {
  const full = PREFIX + name;
  exposition.add({
    name: full,
    help,
    type: 'histogram',
    labelNames,
    *lines() {
      const cells: (readonly [Labels, HistogramCell])[] = [];
      each((labels, cell) => cells.push([labels, cell]));
      // The lines of one cell belong together: they are of one moment.
      for (const [labels, cell] of cells) yield* cellLines(full, labels, cell);
    },
  });
}

function addValues(exposition: Exposition, type: 'counter' | 'gauge', name: string, help: string, labelNames: readonly string[], each: EachValue): void {
  const full = PREFIX + name;
  exposition.add({
    name: full,
    help,
    type,
    labelNames,
    *lines() {
      const handed: Sample[] = [];
      const yielded = each((labels, value) => handed.push([labels, value]));
      for (const [labels, value] of yielded ?? handed) yield `${full}${labelText(labels)} ${valueText(value)}\n`;
    },
  });
}

function cellLines(name: string, labels: Labels, { bounds, counts, sum, count }: HistogramCell): string[] {
  const own = labelText(labels);
  const rest = own === '' ? '}' : `,${own.slice(1)}`;
  const lines: string[] = [];
  let cumulative = 0;
  bounds.forEach((bound, bucket) => {
    cumulative += counts[bucket] ?? 0;
    lines.push(`${name}_bucket{le="${bound}"${rest} ${valueText(cumulative)}\n`);
  });
  lines.push(`${name}_bucket{le="+Inf"${rest} ${valueText(count)}\n`, `${name}_sum${own} ${valueText(sum)}\n`, `${name}_count${own} ${valueText(count)}\n`);
  return lines;
}
