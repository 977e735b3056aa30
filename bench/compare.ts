/** Runs the works: all contenders of a work interleaved (A B C, A B C, …), so that whatever else the machine does meets each of them. */
import { mkdtempSync } from 'node:fs';
import { join } from 'node:path';
import type { Contender, Place } from './contenders/contender.ts';
import { drive, driveWrk, holdTunnels, type Door } from './load/drive.ts';
import type { Built } from './load/build.ts';
import { UPSTREAM_HOST, type Upstream } from './load/upstream.ts';
import { findUnusedPort } from '../test/support/unused-port.ts';
import { startProgram, type Program } from './machine/program.ts';
import { countSystemCalls } from './machine/system-calls.ts';
import { startReplicas } from './replicas.ts';
import { mergeLatencies, type Latencies } from './report/histogram.ts';
import type { Observed, Sample, Stage } from './stage.ts';
import type { Work } from './works.ts';

const ROOT = join(import.meta.dirname, '..');
/** The part of a work's operations that runs under strace. */
const UNDER_STRACE = 0.1;
/** Runs for warming up, and the part of the cost of the one before that ends them. */
const [MOST_WARMING, WARM] = [10, 0.95] as const;
/** Part of the time for which the host may have a core in a run about latency. With more, the p99 is the host's, and the run is left out. */
const MOST_STOLEN = 0.01;
/** What clients of the gateway know the proxy by. */
const OWN_NAME = 'proxy.internal';

export interface Comparison {
  readonly work: string;
  /** `direct` is the run without a proxy. */
  readonly contender: string;
  readonly samples: Sample[];
  /** Why there are no samples, or fewer than asked for. */
  failure?: string;
  /** Costs with another generator; empty where it is not installed. */
  again?: number[];
  /** Of all runs, where the work is about latency. */
  latencies?: Latencies;
  /** Of works that count operations. */
  observed?: Observed;
}

export interface Means {
  readonly built: Built;
  readonly upstream: Upstream;
  /** The same upstream, far away. */
  readonly distant: Upstream;
  /** Files of the contenders; the caller removes it. */
  readonly directory: string;
  readonly runs: number;
  /** A part of the operations, up to 1. */
  readonly scale: number;
  /** The same for runs that warm up. */
  readonly warmUp: number;
  /** Told what is under way. */
  say(text: string): void;
}

interface Opened {
  readonly program: Program | null;
  readonly door: Door;
}

interface Entry {
  readonly result: Comparison;
  readonly open: () => Promise<Opened>;
}

/** One comparison per contender that can do the work, in the order of the contenders. A contender that fails has its failure as its result. */
export async function compare(work: Work, contenders: readonly Contender[], given: Means): Promise<Comparison[]> {
  const means = meansFor(work, given);
  const entry = (contender: string, open: () => Promise<Opened>): Entry => ({ result: { work: work.name, contender, samples: [] }, open });
  const entries = contenders.filter(({ ways }) => ways[work.way] !== undefined).map((contender) => entry(contender.name, () => start(contender, work, means)));
  if (work.direct) entries.push(entry('direct', () => Promise.resolve({ program: null, door: directDoor(means.upstream) })));
  const kept = new Map<Entry, Stage>();
  for (const entry of work.fresh ? [] : entries) {
    await attempt(entry, means.directory, async () => {
      const stage = await openStage(entry.open, means);
      kept.set(entry, stage);
      await warmUp(stage, work, means);
    });
  }
  const runs = work.slices === undefined ? means.runs : counter(means.scale)(work.slices);
  for (let run = 1; run <= runs; run += 1) {
    for (const entry of entries.filter(({ result }) => result.failure === undefined)) {
      means.say(`${work.name} ${run}/${runs} ${entry.result.contender}`);
      await attempt(entry, means.directory, async () => {
        const stage = kept.get(entry) ?? (await openStage(entry.open, means));
        try {
          const { latencies, ...sample } = await runOn(stage, work);
          if ((sample.stalls?.stolen ?? 0) > MOST_STOLEN) return;
          entry.result.samples.push(sample);
          if (work.again !== undefined && stage.program !== null) (entry.result.again ??= []).push(...[await work.again(stage)].filter((cost) => cost !== null));
          if (latencies !== undefined) entry.result.latencies = mergeLatencies(entry.result.latencies, latencies);
        } finally {
          if (work.fresh) await stage.program?.stop();
        }
      });
    }
  }
  for (const { result } of entries) if (result.samples.length === 0) result.failure ??= 'not measured: the host of the machine took its cores in every run';
  for (const [entry, stage] of kept) {
    const { result } = entry;
    const { program } = stage;
    if (program === null) continue;
    if (result.failure === undefined && result.samples[0]?.operations !== undefined) {
      means.say(`${work.name} observed ${result.contender}`);
      await attempt(entry, means.directory, async () => {
        result.observed = await observe(stage, program, work, means);
      });
    }
    await program.stop();
  }
  return entries.map(({ result }) => result);
}

/**
 * Runs whose results are thrown away: connections are opened, and code is
 * compiled. Programs differ in how long they take for that, so it goes on until a
 * run costs hardly less than the one before. A work in slices has one: it is about
 * latency, and what it costs says nothing.
 */
export async function warmUp(stage: Stage, work: Work, means: Pick<Means, 'warmUp'>): Promise<void> {
  const warming = { ...stage, count: counter(means.warmUp) };
  let before = Infinity;
  for (let run = 0; run < (work.slices === undefined ? MOST_WARMING : 1); run += 1) {
    const { cost } = await runOn(warming, work);
    if (cost === null || cost > before * WARM) return;
    before = cost;
  }
}

/** Two runs more, after those that are measured for CPU: both ways of looking cost some. */
async function observe(stage: Stage, program: Program, work: Work, { directory, scale }: Means): Promise<Observed> {
  await program.tell();
  const { operations = NaN } = await runOn(stage, work);
  const told = await program.tell();
  const short = { ...stage, count: counter(scale * UNDER_STRACE) };
  let few = NaN;
  const systemCalls = await countSystemCalls(program.pids(), join(directory, 'strace'), async () => {
    few = (await runOn(short, work)).operations ?? NaN;
  }).then((counts) => Object.fromEntries([...counts].map(([name, calls]) => [name, calls / few])), (error: unknown) => `not measured: ${String(error instanceof Error ? error.message : error)}`);
  return {
    told: told && { allocatedBytes: told.allocatedBytes / operations, gcShare: told.gcSeconds / told.seconds, longestGcMs: told.longestGcMs, loopP99Ms: told.loopP99Ms, loopMaxMs: told.loopMaxMs },
    systemCalls,
  };
}

async function attempt(entry: Entry, directory: string, act: () => Promise<void>): Promise<void> {
  try {
    await act();
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    // Results can be published, so they do not tell where things lie on this machine.
    entry.result.failure = message.replaceAll(directory, '').replaceAll(ROOT, '');
  }
}

async function runOn(stage: Stage, work: Work): Promise<Sample> {
  try {
    return await work.run(stage);
  } catch (error) {
    const complaints = stage.program?.complaints() ?? '';
    throw new Error(`${error instanceof Error ? error.message : String(error)}${complaints === '' ? '' : `; the proxy: ${complaints}`}`, { cause: error });
  }
}

/** With the upstream where the work wants it. */
export function meansFor({ distant }: Work, means: Means): Means {
  return distant ? { ...means, upstream: means.distant } : means;
}

/** `open` starts the contender, or nothing for a run without one; the caller stops it. */
export async function openStage(open: () => Promise<Opened>, { built, upstream, directory, scale }: Means): Promise<Stage> {
  const { program, door } = await open();
  const direct = directDoor(upstream);
  return {
    program,
    count: counter(scale),
    drive: (load) => drive(built.load, door, load),
    driveWrk: (load, seconds) => driveWrk(door, load, seconds),
    driveDirect: (load) => drive(built.load, direct, load),
    replicas: (count) => startReplicas(count, open, built.load, directory),
    hold: (tunnels) => holdTunnels(built.load, door, tunnels),
    opened: () => upstream.opened(),
  };
}

function counter(scale: number): Stage['count'] {
  return (operations) => Math.max(1, Math.round(operations * scale));
}

/** Starts a contender in a directory of its own. The caller stops it. */
export async function start(contender: Contender, { way, plain, cold }: Pick<Work, 'way' | 'plain' | 'cold'>, { directory, upstream }: Means): Promise<Opened> {
  const home = mkdtempSync(join(directory, `${contender.name}-`));
  const place: Place = { directory: home, port: await findUnusedPort(), gatewayPort: await findUnusedPort(), upstreamHost: UPSTREAM_HOST, plainPort: upstream.plainPort, securePort: upstream.securePort, caFile: upstream.caFile, cold };
  const port = way === 'gateway' ? place[contender.gatewayOn] : place.port;
  const program = await startProgram(contender.launch(place), home, port, plain);
  const host = `${UPSTREAM_HOST}:${upstream.plainPort}`;
  if (way === 'gateway') return { program, door: { port, connect: null, base: '', host: OWN_NAME, upstream: 'tls' } };
  return { program, door: { port, connect: contender.ways[way] === 'connect' ? host : null, base: way === 'forward' ? `http://${host}` : '', host, upstream: 'plain' } };
}

function directDoor(upstream: Upstream): Door {
  // Also for the gateway: its clients speak plain HTTP, so its TLS to the upstream is part of what it adds.
  return { port: upstream.plainPort, connect: null, base: '', host: UPSTREAM_HOST, upstream: 'plain' };
}
