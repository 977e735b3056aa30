/** What a process and its children used, from /proc. */
import { readdirSync, readFileSync } from 'node:fs';

/** Ticks of /proc/PID/stat: Linux tells programs 100 a second, whatever the kernel runs at. */
const TICKS_PER_SECOND = 100;
const PAGE = 4096;

interface Stat {
  readonly pid: number;
  readonly parent: number;
  /** User and system, all threads. */
  readonly cpuSeconds: number;
  readonly rssBytes: number;
}

/** One line of /proc/PID/stat; the name in parentheses may hold anything, also spaces and parentheses (proc(5)). */
export function parseStat(line: string): Stat {
  const pid = Number(line.slice(0, line.indexOf(' ')));
  const fields = line.slice(line.lastIndexOf(')') + 2).split(' ');
  const field = (number: number): number => Number(fields[number - 3]);
  return { pid, parent: field(4), cpuSeconds: (field(14) + field(15)) / TICKS_PER_SECOND, rssBytes: field(24) * PAGE };
}

/** The process and everything it started, summed. Throws if it is gone: a contender that died has no result. */
export function usageOf(pid: number): { pids: number[]; cpuSeconds: number; rssBytes: number } {
  const all = readdirSync('/proc').filter((name) => /^\d+$/.test(name)).flatMap(readStat);
  const family = new Set([pid]);
  const sum = { pids: [pid], cpuSeconds: 0, rssBytes: 0 };
  for (let before = 0; before !== family.size;) {
    before = family.size;
    for (const stat of all) if (family.has(stat.parent)) family.add(stat.pid);
  }
  if (!all.some((stat) => stat.pid === pid)) throw new Error(`process ${pid} has ended`);
  for (const stat of all) {
    if (!family.has(stat.pid)) continue;
    sum.cpuSeconds += stat.cpuSeconds;
    sum.rssBytes += stat.rssBytes;
  }
  return { ...sum, pids: [...family] };
}

/** Seconds in which the main threads of these processes could have run, but another program had the core. */
export function waitedSeconds(pids: readonly number[]): number {
  return pids.reduce((sum, pid) => sum + parseWait(readFileSync(`/proc/${pid}/schedstat`, 'utf8')), 0);
}

/** /proc/PID/schedstat: nanoseconds on a core, nanoseconds of waiting for one, how often it got one. */
export function parseWait(line: string): number {
  return Number(line.split(' ')[1]) / 1e9;
}

/** Seconds of this machine's cores, all together, that its host gave to others. */
export function stolenSeconds(): number {
  return parseStolen(readFileSync('/proc/stat', 'utf8'));
}

/** The first line of /proc/stat: user, nice, system, idle, iowait, irq, softirq, steal (proc(5)). */
export function parseStolen(text: string): number {
  return Number(/^cpu +(?:\d+ ){7}(\d+)/.exec(text)?.[1]) / TICKS_PER_SECOND;
}

function readStat(name: string): Stat[] {
  try {
    return [parseStat(readFileSync(`/proc/${name}/stat`, 'utf8'))];
  } catch {
    // Ended between the listing and the reading.
    return [];
  }
}
