/** Which processor core each program of the benchmark runs on: the load must not take the contender's. Linux with taskset; elsewhere nothing is pinned. */
import { spawnSync } from 'node:child_process';
import { availableParallelism } from 'node:os';

export type Role = 'contender' | 'load' | 'upstream';

const CORES = availableParallelism();
const PINS = CORES > 1 && spawnSync('taskset', ['-V']).status === 0;

/** The list for `taskset -c`. With two cores, load and upstream share one. */
export function coresOf(role: Role, cores: number): string {
  const last = cores - 1;
  if (role === 'load') return String(last);
  if (role === 'upstream') return String(cores > 2 ? last - 1 : last);
  return cores > 3 ? `0-${last - 2}` : '0';
}

/** The same command, kept to the cores of its role. */
export function pin(role: Role, command: string, args: readonly string[]): [string, string[]] {
  return PINS ? ['taskset', ['-c', coresOf(role, CORES), command, ...args]] : [command, [...args]];
}

/** Moves a process that runs, with all its threads, to a core of its own; where nothing is pinned, or there are not so many, it stays. */
export function moveToCore(pid: number, core: number): void {
  if (PINS && core < CORES) spawnSync('taskset', ['-a', '-p', '-c', String(core), String(pid)]);
}
