/** Histograms that count in plain numbers and meet prom-client only when they are scraped. */
import { Histogram } from 'prom-client';
import type { Registry } from 'prom-client';

/** One series of a histogram. */
export class HistogramCell {
  readonly bounds: readonly number[];
  /** Observations per bucket, not cumulative; the last one is above every bound. */
  readonly counts: Float64Array;
  sum = 0;
  count = 0;

  constructor(bounds: readonly number[]) {
    this.bounds = bounds;
    this.counts = new Float64Array(bounds.length + 1);
  }

  observe(value: number): void {
    const { bounds, counts } = this;
    let bucket = 0;
    while (bucket < bounds.length && value > (bounds[bucket] ?? Infinity)) bucket += 1;
    counts[bucket] = (counts[bucket] ?? 0) + 1;
    this.sum += value;
    this.count += 1;
  }
}

export type Labels = Record<string, string>;

interface SampleValue {
  labels: Labels;
  sharedLabels: Labels;
  value: number;
  metricName: string;
}

interface CellHistogramOptions {
  readonly name: string;
  readonly help: string;
  readonly labelNames: readonly string[];
  readonly bounds: readonly number[];
  readonly registry: Registry;
  /** Hands every series to `add`, at scrape time. */
  readonly each: (add: (labels: Labels, cell: HistogramCell) => void) => void;
}

/**
 * A prom-client histogram whose series live in cells. `observe` of prom-client
 * hashes its labels on every call; a cell costs one scan of its bounds.
 */
export class CellHistogram extends Histogram {
  readonly #options: CellHistogramOptions;

  constructor(options: CellHistogramOptions) {
    const { name, help, labelNames, bounds, registry } = options;
    super({ name, help, labelNames, buckets: [...bounds], registers: [registry] });
    this.#options = options;
  }

  /** What `Registry.metrics()` and `Histogram.get()` of prom-client take the series from. */
  getForPromString(): Promise<object> {
    const { name, help, each } = this.#options;
    const values: SampleValue[] = [];
    each((sharedLabels, cell) => {
      let cumulative = 0;
      cell.bounds.forEach((bound, bucket) => {
        cumulative += cell.counts[bucket] ?? 0;
        values.push({ labels: { le: String(bound) }, sharedLabels, value: cumulative, metricName: `${name}_bucket` });
      });
      values.push({ labels: { le: '+Inf' }, sharedLabels, value: cell.count, metricName: `${name}_bucket` });
      values.push({ labels: {}, sharedLabels, value: cell.sum, metricName: `${name}_sum` });
      values.push({ labels: {}, sharedLabels, value: cell.count, metricName: `${name}_count` });
    });
    return Promise.resolve({ name, help, type: 'histogram', values, aggregator: 'sum' });
  }
}
