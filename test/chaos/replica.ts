/** How a replica is run so that its clock, the disk of its log or its memory can be taken hold of. */
import { spawnSync } from 'node:child_process';
import { closeSync, globSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';

/** Makes of the proxy's command the one that is run. */
export type Wrap = (command: readonly string[]) => readonly string[];

/** Programs that this needs, with Debian's packages. */
export const PROGRAMS = { faketime: 'faketime', prlimit: 'util-linux' };

const LIBRARY = '/usr/lib/*/faketime/libfaketimeMT.so.1';
const LOG_MEBIBYTES = 16;
const BALLAST = 'ballast';
const CHUNK = Buffer.alloc(4096);

/** The time of day is that of this machine and an offset that a file says, read each time; durations are not changed. */
export function withClock(directory: string): Wrap {
  setClock(directory, 0);
  const [library] = globSync(LIBRARY);
  if (library === undefined) throw new Error(`there is no ${LIBRARY}`);
  const settings = { LD_PRELOAD: library, FAKETIME_TIMESTAMP_FILE: clockFile(directory), FAKETIME_NO_CACHE: '1', FAKETIME_DONT_FAKE_MONOTONIC: '1', NO_FAKE_STAT: '1' };
  return (command) => ['env', ...Object.entries(settings).map(([name, value]) => `${name}=${value}`), ...command];
}

/** @param hours ahead of this machine's clock; less than 0: behind */
export function setClock(directory: string, hours: number): void {
  writeFileSync(clockFile(directory), `${hours < 0 ? '-' : '+'}${Math.abs(hours)}h`);
}

const clockFile = (directory: string): string => join(directory, 'clock');

/** The log is written to a file on a small disk of its own, which only this process sees; what is in it is printed as it comes. */
export function withLogOnDisk(directory: string): Wrap {
  const place = logPlace(directory);
  mkdirSync(place, { recursive: true });
  const script = `mount -t tmpfs -o size=${LOG_MEBIBYTES}m log "$0"; : >"$0/log"; tail -s 0.1 -n +1 -f --pid=$$ "$0/log" & exec "$@" >>"$0/log"`;
  return (command) => ['sh', '-ec', script, place, ...command];
}

const logPlace = (directory: string): string => join(directory, 'log-of-replica');

/** @param pid of the proxy, whose view of the disk it is */
export function fillDisk(pid: number, directory: string): void {
  const ballast = openSync(`/proc/${pid}/root${join(logPlace(directory), BALLAST)}`, 'w');
  try {
    for (;;) writeSync(ballast, CHUNK);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
  } finally {
    closeSync(ballast);
  }
}

/** Takes back `fillDisk`. */
export function freeDisk(pid: number, directory: string): void {
  rmSync(`/proc/${pid}/root${join(logPlace(directory), BALLAST)}`);
}

/** From now on the system gives a process no more memory than it has. */
export function capMemory(pid: number): void {
  const kibibytes = Number(/VmData:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
  const { status, stderr } = spawnSync('prlimit', [`--pid=${pid}`, `--data=${kibibytes * 1024}`], { encoding: 'utf8' });
  if (status !== 0) throw new Error(stderr);
}
