/** Puts metrics into a registry, under our prefix, each with the function that hands its series over at scrape time. */
import type { Registry } from 'prom-client';
import type { HistogramCell, Labels } from './histogram.ts';
import { CellHistogram } from './histogram.ts';
import type { SetValue } from './series.ts';
import { CellSeries } from './series.ts';

const PREFIX = 'eco_egress_';

type EachValue = (set: SetValue) => void;
type EachCell = (add: (labels: Labels, cell: HistogramCell) => void) => void;

export function counter(registry: Registry, name: string, help: string, labelNames: readonly string[], each: EachValue): void {
  new CellSeries({ type: 'counter', name: PREFIX + name, help, labelNames, registry, each });
}

export function gauge(registry: Registry, name: string, help: string, labelNames: readonly string[], each: EachValue): void {
  new CellSeries({ type: 'gauge', name: PREFIX + name, help, labelNames, registry, each });
}

/** A gauge that is always 1 and tells something by its labels. */
export function constant(registry: Registry, name: string, help: string, labels: Labels): void {
  gauge(registry, name, help, Object.keys(labels), (set) => {
    set(labels, 1);
  });
}

export function histogram(registry: Registry, name: string, help: string, labelNames: readonly string[], bounds: readonly number[], each: EachCell): void {
  new CellHistogram({ name: PREFIX + name, help, labelNames, bounds, registry, each });
}
