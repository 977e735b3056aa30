/** Latencies of many runs put together: a pause that only one of them had is in the p99 of all, which a median of their p99s hides. */

/** Counts by bucket, as load.c has them: bucket N is about 1.02^N µs. */
export type Histogram = Readonly<Record<string, number>>;

/** Of a proxy, and of what it is compared with. */
export interface Latencies {
  readonly own: Histogram;
  readonly baseline: Histogram;
}

const STEP = 1.02;

export function mergeLatencies(one: Latencies | undefined, other: Latencies): Latencies {
  return one === undefined ? other : { own: merge(one.own, other.own), baseline: merge(one.baseline, other.baseline) };
}

function merge(one: Histogram, other: Histogram): Histogram {
  const sum = { ...one };
  for (const [bucket, count] of Object.entries(other)) sum[bucket] = (sum[bucket] ?? 0) + count;
  return sum;
}

/** Microseconds, within 1 %; NaN of nothing. `part` is 0.99 for the p99. */
export function percentile(histogram: Histogram, part: number): number {
  const buckets = Object.entries(histogram).map(([bucket, count]) => [Number(bucket), count] as const).toSorted(([a], [b]) => a - b);
  let left = buckets.reduce((sum, [, count]) => sum + count, 0) * part;
  for (const [bucket, count] of buckets) {
    left -= count;
    if (left < 0) return STEP ** bucket;
  }
  return NaN;
}
