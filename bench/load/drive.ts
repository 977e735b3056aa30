/** Runs the load generator, whose arguments are those of load.c. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { pin } from '../machine/cores.ts';

/** Where the load goes in, and how it asks there. */
export interface Door {
  readonly port: number;
  /** The HOST:PORT to ask for with CONNECT. */
  readonly connect: string | null;
  /** What comes before the path of a request: nothing, or the origin for a forward proxy. */
  readonly base: string;
  readonly host: string;
  /** Which port of the upstream has to answer: a request that took another way is no result. */
  readonly upstream: 'plain' | 'tls';
}

export type Load = Readonly<Record<string, string | number>>;

export interface Seen {
  readonly seconds: number;
  /** Microseconds; of modes that have requests. */
  readonly p50?: number;
  readonly p99?: number;
}

/** Rejects with the generator's words if an answer was wrong or a connection broke: then there is no result. */
export async function drive(program: string, door: Door, load: Load): Promise<Seen> {
  const child = spawn(...pin('load', program, argumentsOf(door, load)), { stdio: ['ignore', 'pipe', 'pipe'] });
  const [output, errors, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'exit') as Promise<[number | null]>]);
  if (code !== 0) throw new Error(errors.trim() || `load ended with ${code}`);
  return JSON.parse(output) as Seen;
}

/** Opens `operations` tunnels, used once each, and resolves when they are up. `close` closes them. */
export async function holdTunnels(program: string, door: Door, operations: number): Promise<{ close(): Promise<void> }> {
  const child = spawn(...pin('load', program, argumentsOf(door, { mode: 'idle', operations })), { stdio: ['pipe', 'pipe', 'pipe'] });
  const ended = once(child, 'exit');
  const errors = text(child.stderr);
  await Promise.race([once(child.stdout, 'data'), ended]);
  if (child.exitCode !== null) throw new Error(await errors);
  return {
    close: async () => {
      child.stdin.end();
      await ended;
    },
  };
}

function argumentsOf(door: Door, load: Load): string[] {
  const target = `${door.base}${load['target'] ?? '/'}`;
  const all: Load = { port: door.port, host: door.host, upstream: door.upstream, ...(door.connect === null ? {} : { connect: door.connect }), ...load, target };
  return Object.entries(all).map(([key, value]) => `${key}=${value}`);
}
