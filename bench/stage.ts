/** A contender at work: what a work may do with it, and what it brings back. */
import type { Load, Seen } from './load/drive.ts';
import type { Program } from './machine/program.ts';
import type { Replicas } from './replicas.ts';
import type { Latencies } from './report/histogram.ts';

/** What one run of a work measured. */
export interface Sample {
  /** The figure that the work is about, in its unit; null where there is no proxy to measure. */
  readonly cost: number | null;
  /** Operations, or MiB, a second. */
  readonly rate?: number;
  /** How many there were; absent where the work is not about operations. */
  readonly operations?: number;
  /** Latency in microseconds. */
  readonly p50?: number;
  readonly p99?: number;
  /** Resident memory of the contender at the end of the run. */
  readonly rssBytes?: number;
  /** Of works about latency: put together for all runs, and not kept with each. */
  readonly latencies?: Latencies;
  readonly stalls?: Stalls;
  /** What one replica carried, and what several did. */
  readonly replicas?: readonly { readonly count: number; readonly rate: number; readonly cpuMicroseconds: number; readonly opened: number }[];
}

/** What can have made a request late, in one run. */
export interface Stalls {
  /** Parts of the time: the proxy ran, on one core or more; the machine's host had a core for others; the proxy could have run, but other programs had its core. */
  readonly busy: number;
  readonly stolen: number;
  readonly waited: number;
  /** Null of programs that are none of Node's. */
  readonly longestGcMs: number | null;
  readonly loopMaxMs: number | null;
}

/** What a run more told, whose CPU time is not measured because observing takes some. The figures are of a single operation where they can be. */
export interface Observed {
  /** Null of programs that are none of Node's. */
  readonly told: { readonly allocatedBytes: number; readonly gcShare: number; readonly longestGcMs: number; readonly loopP99Ms: number; readonly loopMaxMs: number } | null;
  /** System calls by name; of a shorter run under strace, or why there was none. */
  readonly systemCalls: Readonly<Record<string, number>> | string;
}

export interface Stage {
  /** Null in a run without a proxy, which tells what latency is the upstream's and the load's. */
  readonly program: Program | null;
  /** A part of the full number of operations, at least 1. */
  count(operations: number): number;
  drive(load: Load): Promise<Seen>;
  /** The same requests from another generator; null where it is not installed. */
  driveWrk(load: { connections: number; target: string }, seconds: number): Promise<{ operations: number } | null>;
  /** The same load past the contender, to the upstream. */
  driveDirect(load: Load): Promise<Seen>;
  /** So many more of the contender, behind a balancer of connections; the caller stops them. */
  replicas(count: number): Promise<Replicas>;
  hold(tunnels: number): Promise<{ close(): Promise<void> }>;
  /** TLS connections the upstream has taken so far. */
  opened(): Promise<number>;
}
