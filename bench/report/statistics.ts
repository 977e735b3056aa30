/** Medians and ratios of samples. */
import type { Comparison } from '../compare.ts';
import type { Sample } from '../stage.ts';
import { percentile } from './histogram.ts';

type Figure = 'cost' | 'rate' | 'p50' | 'p99' | 'rssBytes';

/** NaN of nothing; the mean of the middle two of an even number. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? NaN) + upper) / 2;
}

/** How far the runs lie apart: (largest - smallest) / median. NaN of fewer than two. */
export function spread(values: readonly number[]): number {
  return values.length < 2 ? NaN : (Math.max(...values) - Math.min(...values)) / median(values);
}

export interface Summary {
  readonly runs: number;
  readonly cost: number;
  readonly spread: number;
  /** With another generator: null where the work has none, NaN where it is not installed. */
  readonly costAgain: number | null;
  readonly rate: number;
  /** Added by the proxy, in microseconds: less than direct is possible where the machine is noisy. */
  readonly addedP50: number;
  readonly addedP99: number;
  /** p99 of what a work about latency compares with, in milliseconds; NaN of others. */
  readonly baselineP99: number;
  readonly rssBytes: number;
  /** KB for each operation, or MiB; NaN where nothing observed it. */
  readonly allocatedKb: number;
  readonly failure: string | null;
}

/** All results, to be asked by work and contender. */
export interface Summaries {
  of(work: string, contender: string): Summary | null;
}

export function summarise(comparisons: readonly Comparison[]): Summaries {
  const find = (work: string, contender: string): Comparison | undefined => comparisons.find((one) => one.work === work && one.contender === contender);
  return {
    of: (work, contender) => {
      const comparison = find(work, contender);
      if (comparison === undefined) return null;
      const { samples, latencies, again, observed, failure = null } = comparison;
      const direct = find(work, 'direct')?.samples ?? [];
      const added = (figure: 'p50' | 'p99'): number => median(valuesOf(samples, figure)) - median(valuesOf(direct, figure));
      const costs = valuesOf(samples, 'cost');
      const baselineP99 = latencies === undefined ? NaN : percentile(latencies.baseline, 0.99) / 1_000;
      return {
        runs: samples.length,
        cost: latencies === undefined ? median(costs) : percentile(latencies.own, 0.99) / 1_000 - baselineP99,
        spread: spread(costs),
        costAgain: again === undefined ? null : median(again),
        rate: median(valuesOf(samples, 'rate')),
        addedP50: added('p50'),
        addedP99: added('p99'),
        baselineP99,
        rssBytes: median(valuesOf(samples, 'rssBytes')),
        allocatedKb: (observed?.told?.allocatedBytes ?? NaN) / 1e3,
        failure,
      };
    },
  };
}

function valuesOf(samples: readonly Sample[], figure: Figure): number[] {
  return samples.flatMap((sample) => sample[figure] ?? []);
}
