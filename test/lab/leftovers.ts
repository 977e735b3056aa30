/**
 * What a lab makes on the machine: network namespaces with programs in them,
 * and a directory, all named after its process. So it can take away its own,
 * and a later lab can tell what is nobody's.
 */
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** What a lab calls its process, for `ps` and for other labs. */
export const TITLE = 'eco-egress lab';

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

/**
 * Ends the programs of a lab and removes all it made, as far as it is there.
 * Waits for nothing, so that it can be the last thing a process does.
 */
export function removeLab(pid: number): void {
  const namespaces = namespacesOf(pid);
  for (const program of namespaces.flatMap(pidsIn)) killIfThere(program);
  if (namespaces.length > 0) spawnSync('ip', ['-force', '-batch', '-'], { input: namespaces.map((name) => `netns del ${name}\n`).join(''), stdio: ['pipe', 'ignore', 'ignore'] });
  for (const directory of directories().filter((name) => name.startsWith(labName(pid)))) rmSync(join(tmpdir(), directory), { recursive: true, force: true });
}

/** Removes what is left of labs whose process is gone. Returns these processes. */
export function sweepLeftovers(): number[] {
  const labs = new Set([...listNamespaces(), ...directories()].map((name) => Number(NAME.exec(name)?.[1])));
  const leftovers = [...labs].filter((pid) => !isLab(pid));
  for (const pid of leftovers) removeLab(pid);
  return leftovers;
}

/** Process numbers come round again: one that is now something else's is as good as gone. */
function isLab(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').startsWith(TITLE);
  } catch {
    return false;
  }
}

function killIfThere(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

function directories(): string[] {
  return readdirSync(tmpdir()).filter((name) => NAME.test(name));
}

function listNamespaces(): string[] {
  return linesOf(['netns', 'list']).map((line) => line.split(' ', 1)[0] ?? '').filter((name) => NAME.test(name));
}

function linesOf(args: readonly string[]): string[] {
  const { stdout } = spawnSync('ip', args, { encoding: 'utf8' });
  return stdout.split('\n').filter((line) => line !== '');
}
