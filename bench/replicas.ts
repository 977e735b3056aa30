/** Replicas of a contender behind HAProxy in tcp mode, as behind a load balancer of connections. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { drive, type Door, type Load, type Seen } from './load/drive.ts';
import { moveToCore } from './machine/cores.ts';
import { findUnusedPort } from '../test/support/unused-port.ts';
import { startProgram, type Program } from './machine/program.ts';
import { limitCpu } from './machine/quota.ts';

export interface Replicas {
  /** The load against all of them. */
  drive(load: Load): Promise<Seen>;
  /** From now on each has this part of one core and no more. */
  limit(part: number): void;
  cpuSeconds(): number;
  stop(): Promise<void>;
}

/** `open` starts one. Each is on a core of its own, as far as there are so many. Rejects where HAProxy is not installed. */
export async function startReplicas(count: number, open: () => Promise<{ program: Program | null; door: Door }>, load: string, directory: string): Promise<Replicas> {
  if (spawnSync('haproxy', ['-v']).error !== undefined) throw new Error('not measured: haproxy not found');
  const programs: Program[] = [];
  const quotas: { remove(): void }[] = [];
  const stop = async (): Promise<void> => {
    for (const program of programs) await program.stop();
    for (const quota of quotas) quota.remove();
  };
  try {
    const doors: Door[] = [];
    for (let replica = 0; replica < count; replica += 1) {
      const { program, door } = await open();
      if (program === null) throw new Error('there are no replicas of no proxy');
      moveToCore(program.pid, replica);
      programs.push(program);
      doors.push(door);
    }
    const [door] = doors;
    if (door === undefined) throw new Error('there are no doors of no replicas');
    const port = await findUnusedPort();
    const home = mkdtempSync(join(directory, 'balancer-'));
    const file = join(home, 'haproxy.cfg');
    writeFileSync(file, balancerConfig(port, doors));
    const balancer = await startProgram({ command: 'haproxy', args: ['-db', '-f', file], role: 'upstream' }, home, port);
    return {
      drive: (work) => drive(load, { ...door, port }, work),
      limit: (part) => {
        for (const { pid } of programs) quotas.push(limitCpu(pid, part));
      },
      cpuSeconds: () => programs.reduce((sum, program) => sum + program.cpuSeconds(), 0),
      stop: async () => {
        await balancer.stop();
        await stop();
      },
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

function balancerConfig(port: number, doors: readonly Door[]): string {
  return `
global
  nbthread 1
defaults
  mode tcp
  timeout connect 5s
  timeout client 600s
  timeout server 600s
listen replicas
  bind 127.0.0.1:${port}
  balance roundrobin
${doors.map((door, index) => `  server replica${index} 127.0.0.1:${door.port}`).join('\n')}
`;
}
