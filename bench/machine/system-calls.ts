/** Counts system calls with strace, which slows a program several times: never while it is measured for CPU. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';

const IS_THERE = spawnSync('strace', ['-V']).status === 0;

/** Calls by name, of these processes with all their threads and children, while `act` runs. Throws with why there is no count. */
export async function countSystemCalls(pids: readonly number[], file: string, act: () => Promise<void>): Promise<Map<string, number>> {
  if (!IS_THERE) throw new Error('strace not found');
  const child = spawn('strace', ['-f', '-c', '-o', file, ...pids.flatMap((pid) => ['-p', String(pid)])], { stdio: ['ignore', 'ignore', 'pipe'] });
  const ended = once(child, 'exit');
  try {
    await attached(child.stderr, pids.length);
    await act();
  } finally {
    // It writes its table, lets the processes go on, and ends.
    child.kill('SIGINT');
    await ended;
  }
  return parseCounts(readFileSync(file, 'utf8'));
}

/** The table of `strace -c`: share, seconds, microseconds a call, calls, errors where there were any, name. */
export function parseCounts(table: string): Map<string, number> {
  const rows = [...table.matchAll(/^ *[\d.]+ +[\d.]+ +\d+ +(\d+) +(?:\d+ +)?(\w+)$/gm)];
  return new Map(rows.flatMap(([, calls, name = '']) => (name === 'total' ? [] : [[name, Number(calls)] as const])));
}

/** It says one line for each process. Rejects with its words if it ends before. */
async function attached(output: NodeJS.ReadableStream, processes: number): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    let said = '';
    output.on('data', (text) => {
      said += String(text);
      if ([...said.matchAll(/^strace: Process \d+ attached/gm)].length >= processes) resolve();
    });
    output.on('end', () => {
      reject(new Error(said.trim() || 'strace ended'));
    });
  });
}
