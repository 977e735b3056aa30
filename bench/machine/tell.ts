/**
 * Loaded before a program of Node: at each SIGURG it writes what V8 and the
 * event loop did since the one before, to the file that its own URL names behind
 * the question mark. The first one begins: until then nothing is observed, so a
 * program that is measured for CPU pays for a signal handler and no more. SIGURG,
 * because nothing else uses it, and a process without a handler ignores it.
 */
import { renameSync, writeFileSync } from 'node:fs';
import { monitorEventLoopDelay, performance, PerformanceObserver, type PerformanceEntryList } from 'node:perf_hooks';
import { getHeapStatistics } from 'node:v8';
import type { Told } from './told.ts';

/** Milliseconds between two looks at the loop; the histogram has them in each of its values. */
const RESOLUTION = 1;

const file = decodeURIComponent(new URL(import.meta.url).search.slice(1));
const loop = monitorEventLoopDelay({ resolution: RESOLUTION });
let pauses: number[] = [];
const keep = (entries: PerformanceEntryList): void => {
  for (const { duration } of entries) pauses.push(duration);
};
const collections = new PerformanceObserver((list) => {
  keep(list.getEntries());
});
let since = NaN;
let allocatedBefore = 0;

process.on('SIGURG', () => {
  if (Number.isNaN(since)) {
    collections.observe({ entryTypes: ['gc'] });
    loop.enable();
  }
  keep(collections.takeRecords());
  const now = performance.now();
  const allocated = allocatedBytes();
  const told: Told = {
    seconds: (now - since) / 1e3,
    allocatedBytes: allocated - allocatedBefore,
    gcSeconds: pauses.reduce((sum, pause) => sum + pause, 0) / 1e3,
    longestGcMs: Math.max(0, ...pauses),
    loopP99Ms: Math.max(0, loop.percentile(99) / 1e6 - RESOLUTION),
    loopMaxMs: Math.max(0, loop.max / 1e6 - RESOLUTION),
  };
  pauses = [];
  since = now;
  allocatedBefore = allocated;
  loop.reset();
  // Renamed, so that a file that is there is whole.
  writeFileSync(`${file}.new`, JSON.stringify(told));
  renameSync(`${file}.new`, file);
});

/** Dead or alive; what lies outside of V8's heap is not counted. Node has the figure since version 25; its types do not know it yet. */
function allocatedBytes(): number {
  return (getHeapStatistics() as ReturnType<typeof getHeapStatistics> & { total_allocated_bytes: number }).total_allocated_bytes;
}
