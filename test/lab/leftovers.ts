/**
 * What a lab may leave on the machine: network namespaces and a directory,
 * both named after its process, so that a later lab can tell what is nobody's.
 */
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const NAME = /^eco-lab-(\d+)-/;

/** How everything begins that belongs to the lab of a process. */
export function labName(pid: number): string {
  return `eco-lab-${pid}-`;
}

export function namespacesOf(pid: number): string[] {
  return listNamespaces().filter((name) => name.startsWith(labName(pid)));
}

/** Processes that run in a namespace. */
export function pidsIn(namespace: string): number[] {
  return linesOf(['netns', 'pids', namespace]).map(Number);
}

/** As many as can be. */
export function removeNamespaces(names: readonly string[]): void {
  if (names.length > 0) spawnSync('ip', ['-force', '-batch', '-'], { input: names.map((name) => `netns del ${name}\n`).join(''), stdio: ['pipe', 'ignore', 'ignore'] });
}

/** Kills and removes what is left of labs whose process is gone. Returns the names of their namespaces. */
export function sweepLeftovers(): string[] {
  const namespaces = listNamespaces().filter(isNobodys);
  for (const pid of namespaces.flatMap(pidsIn)) killIfThere(pid);
  removeNamespaces(namespaces);
  for (const directory of readdirSync(tmpdir()).filter(isNobodys)) rmSync(join(tmpdir(), directory), { recursive: true, force: true });
  return namespaces;
}

function killIfThere(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

function isNobodys(name: string): boolean {
  const [, pid] = NAME.exec(name) ?? [];
  if (pid === undefined) return false;
  try {
    // Process numbers come round again: one that is now something else's is as good as dead.
    return !readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('lab/main.ts');
  } catch {
    return true;
  }
}

function listNamespaces(): string[] {
  return linesOf(['netns', 'list']).map((line) => line.split(' ', 1)[0] ?? '').filter((name) => NAME.test(name));
}

function linesOf(args: readonly string[]): string[] {
  const { stdout } = spawnSync('ip', args, { encoding: 'utf8' });
  return stdout.split('\n').filter((line) => line !== '');
}
