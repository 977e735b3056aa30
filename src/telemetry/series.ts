/** Counters and gauges that live in plain numbers and meet prom-client only when they are scraped. */
import { Gauge } from 'prom-client';
import type { Registry } from 'prom-client';
import type { Labels } from './histogram.ts';

export type SetValue = (labels: Labels, value: number) => void;

interface CellSeriesOptions {
  readonly type: 'counter' | 'gauge';
  readonly name: string;
  readonly help: string;
  readonly labelNames: readonly string[];
  readonly registry: Registry;
  /** Hands every series to `set` once, at scrape time; what is not handed over is absent. */
  readonly each: (set: SetValue) => void;
}

/**
 * A prom-client metric of either type, without its store of values. prom-client
 * registers its own classes only, hence the Gauge; what is scraped has its own type.
 */
export class CellSeries extends Gauge {
  readonly type: CellSeriesOptions['type'];
  readonly #options: CellSeriesOptions;

  constructor(options: CellSeriesOptions) {
    const { type, name, help, labelNames, registry } = options;
    super({ name, help, labelNames, registers: [registry] });
    this.type = type;
    this.#options = options;
  }

  /** What `Registry.metrics()` of prom-client takes the series from. */
  getForPromString(): Promise<object> {
    const { type, name, help, each } = this.#options;
    const values: { labels: Labels; value: number }[] = [];
    each((labels, value) => {
      values.push({ labels, value });
    });
    return Promise.resolve({ name, help, type, values, aggregator: 'sum' });
  }
}
