/** Results as files: what was measured, of which versions, on what machine. No host names and no paths, so that they can be published. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism, cpus, loadavg, release, totalmem, type } from 'node:os';
import { join } from 'node:path';
import type { Comparison } from '../compare.ts';
import type { Contender } from '../contenders/contender.ts';

/** How some works were measured. */
interface Run {
  /** ISO 8601. */
  readonly when: string;
  readonly runs: number;
  /** The part of the operations of each work. */
  readonly scale: number;
}

export interface Results extends Run {
  readonly machine: { readonly cpu: string; readonly cores: number; readonly memoryGiB: number; readonly kernel: string; readonly loadBefore: number };
  readonly versions: Readonly<Record<string, string>>;
  readonly comparisons: readonly Comparison[];
  /** Runs from which some of the works are: the others are from this one. */
  readonly earlier?: readonly (Run & { readonly works: readonly string[] })[];
}

export function describe(contenders: readonly Contender[], { runs, scale, when }: { runs: number; scale: number; when: Date }): Omit<Results, 'comparisons'> {
  const versions = contenders.flatMap((contender) => {
    const version = contender.version();
    return version === null ? [] : [[contender.name, version]];
  });
  return {
    when: when.toISOString(),
    machine: { cpu: cpus()[0]?.model.trim() ?? 'unknown', cores: availableParallelism(), memoryGiB: Math.round(totalmem() / 2 ** 30), kernel: `${type()} ${release()}`, loadBefore: loadavg()[0] ?? NaN },
    versions: { node: process.version, ...(Object.fromEntries(versions) as Record<string, string>) },
    runs,
    scale,
  };
}

/** Writes into `directory`, by default under the time of the run, and returns the file. */
export function saveResults(results: Results, directory: string, name = `${results.when.slice(0, 19).replaceAll(':', '-')}Z.json`): string {
  mkdirSync(directory, { recursive: true });
  const file = join(directory, name);
  writeFileSync(file, `${JSON.stringify(results, null, 1)}\n`);
  return file;
}

/** Later files replace what earlier ones say of the same work; all must be of one machine, since figures of two cannot be compared. */
export function loadResults(files: readonly string[]): Results {
  const all = files.map((file) => JSON.parse(readFileSync(file, 'utf8')) as Results);
  return all.reduce((earlier, later) => {
    const [a, b] = [earlier, later].map(({ machine: { cpu, cores, kernel } }) => `${cpu}, ${cores} cores, ${kernel}`);
    if (a !== b) throw new Error(`Results of two machines cannot be put together: ${a} and ${b}`);
    const replaced = new Set(later.comparisons.map(({ work }) => work));
    const kept = runsOf(earlier).map((run) => ({ ...run, works: run.works.filter((work) => !replaced.has(work)) }));
    return {
      ...later,
      versions: { ...earlier.versions, ...later.versions },
      comparisons: [...earlier.comparisons.filter(({ work }) => !replaced.has(work)), ...later.comparisons],
      earlier: [...kept.filter(({ works }) => works.length > 0), ...(later.earlier ?? [])],
    };
  });
}

/** Its own run, and those from which its other works are. */
function runsOf({ when, runs, scale, comparisons, earlier = [] }: Results): NonNullable<Results['earlier']> {
  const others = new Set(earlier.flatMap(({ works }) => works));
  return [{ when, runs, scale, works: [...new Set(comparisons.map(({ work }) => work))].filter((work) => !others.has(work)) }, ...earlier];
}
