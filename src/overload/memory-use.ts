/** The memory in use relative to the limits of this process: the heap of V8, and the cgroup. */
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { constants, PerformanceObserver, type PerformanceEntry } from 'node:perf_hooks';
import { getHeapStatistics, type HeapInfo } from 'node:v8';

/** Of the tighter of the two limits, in bytes. */
export interface MemoryUse {
  readonly of: 'heap' | 'cgroup';
  readonly used: number;
  readonly limit: number;
  /** 0 to 1. */
  readonly share: number;
}

/** Version 2 first; `own` finds the cgroup of the process in /proc/self/cgroup. */
const LAYOUTS = [
  { own: /^0::(\/.*)$/m, directory: '', limit: 'memory.max', used: 'memory.current', cache: 'inactive_file' },
  {
    own: /:memory:(\/.*)$/m,
    directory: 'memory',
    limit: 'memory.limit_in_bytes',
    used: 'memory.usage_in_bytes',
    cache: 'total_inactive_file',
  },
] as const;

/** More than any machine has: version 1 reports it when there is no limit. */
const NO_LIMIT = 2 ** 60;
/** After this time, ms, the result of a full collection is outdated: while all requests are refused, the next one may be far away. */
const STALE = 60_000;

type HeapUse = Pick<HeapInfo, 'used_heap_size' | 'heap_size_limit'>;

/** Observes the garbage collections while it is in use. */
export class MemoryWatch {
  readonly #root: string;
  readonly #heap: () => HeapUse;
  readonly #now: () => number;
  #observer: PerformanceObserver | null = null;
  /** The heap in use after the latest full collection, and when. */
  #left = 0;
  #at = -Infinity;

  /** @param root where the cgroups are mounted; all of them are for tests */
  constructor(root = '/sys/fs/cgroup', heap: () => HeapUse = getHeapStatistics, now: () => number = performance.now.bind(performance)) {
    this.#root = root;
    this.#heap = heap;
    this.#now = now;
  }

  /** The tighter of both, now. The first call starts observing. */
  read(): MemoryUse {
    this.#observer ??= this.#observe();
    const heap = this.#readHeap();
    const cgroup = readCgroup(this.#root);
    return cgroup !== null && cgroup.share > heap.share ? cgroup : heap;
  }

  /** Stops observing. */
  close(): void {
    this.#observer?.disconnect();
    this.#observer = null;
  }

  /** A full collection has ended: the heap in use now is live. */
  collected(): void {
    this.#left = this.#heap().used_heap_size;
    this.#at = this.#now();
  }

  /** Garbage that V8 has not collected yet does not count. */
  #readHeap(): MemoryUse {
    const { used_heap_size: all, heap_size_limit: limit } = this.#heap();
    const used = this.#now() - this.#at < STALE ? Math.min(all, this.#left) : 0;
    return { of: 'heap', used, limit, share: used / limit };
  }

  #observe(): PerformanceObserver {
    const observer = new PerformanceObserver((list) => {
      if (list.getEntries().some(isOfWholeHeap)) this.collected();
    });
    observer.observe({ entryTypes: ['gc'] });
    return observer;
  }
}

function isOfWholeHeap(entry: PerformanceEntry & { readonly detail?: unknown }): boolean {
  return (entry.detail as { readonly kind?: number } | undefined)?.kind === constants.NODE_PERFORMANCE_GC_MAJOR;
}

/**
 * Of the nearest cgroup that has a limit: in a container its own is the visible root, below systemd it is further down.
 * Pages of files that the kernel can drop do not count. Null: there is no cgroup, or no limit.
 * @param own as /proc/self/cgroup has it
 */
export function readCgroup(root: string, own = textOfFile('/proc/self/cgroup')): MemoryUse | null {
  for (const layout of LAYOUTS) {
    for (const path of upwards(layout.own.exec(own)?.[1] ?? '/')) {
      const directory = join(root, layout.directory, path);
      const limit = readNumber(join(directory, layout.limit));
      const all = readNumber(join(directory, layout.used));
      if (limit === null || all === null || limit >= NO_LIMIT) continue;
      const used = Math.max(0, all - readStat(join(directory, 'memory.stat'), layout.cache));
      return { of: 'cgroup', used, limit, share: used / limit };
    }
  }
  return null;
}

function* upwards(path: string): Generator<string> {
  for (let at = path; at !== '/'; at = dirname(at)) yield at;
  yield '/';
}

/** Null: it cannot be read, or says `max`. */
function readNumber(file: string): number | null {
  const value = Number(textOfFile(file).trim() || 'none');
  return Number.isFinite(value) && value > 0 ? value : null;
}

function readStat(file: string, key: string): number {
  return Number(new RegExp(`^${key} (\\d+)$`, 'm').exec(textOfFile(file))?.[1] ?? 0);
}

function textOfFile(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}
