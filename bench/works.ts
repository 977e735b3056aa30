/** What the contenders do: each work once, as data and a function that runs it. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Way } from './contenders/contender.ts';
import type { Load, Seen } from './load/drive.ts';
import type { Program } from './machine/program.ts';
import { stolenSeconds } from './machine/processes.ts';
import type { Sample, Stage, Stalls } from './stage.ts';

export interface Work {
  /** For `--only`. */
  readonly name: string;
  /** The work of which this is one shape; its own name where it is the usual one. Targets hold for every shape. */
  readonly of: string;
  readonly title: string;
  readonly unit: string;
  readonly way: Way;
  /** Every run in a process of its own; otherwise all runs of the work share one, warmed up. */
  readonly fresh: boolean;
  /** Nothing is loaded before the program that would tell what it does: it would take a part of its start. */
  readonly plain: boolean;
  /** Contenders that warm themselves up do not. */
  readonly cold: boolean;
  /** Whether a run without a proxy is compared with. */
  readonly direct: boolean;
  /** So many short runs, as far as the scale goes, whatever `--runs` says: contenders take turns of seconds, so that a bad minute of the machine meets them all. */
  readonly slices?: number;
  /** The upstream is 20 ms away, there and back. */
  readonly distant: boolean;
  /** The same with another generator, right behind each run and in the same process; its cost, or null where that generator is not installed. */
  readonly again?: (stage: Stage) => Promise<number | null>;
  /** Takes minutes: left out with `--quick`. */
  readonly long: boolean;
  /** Only ours has a target here, and the others would take hours. */
  readonly oursOnly: boolean;
  run(stage: Stage): Promise<Sample>;
}

const MIB_PER_GIB = 1024;
const STREAMS = 4;
const SETUP: Load = { each: 1, connections: 16 };
const FORWARD_GET = { target: '/api/v1/problems?state=open', connections: 16 };
const GATEWAY_GET = { target: '/eco/api/v1/problems?state=open', connections: 16 };
const PING: Load = { echo: 64, connections: 64 };
const USUAL = { fresh: false, plain: false, cold: false, direct: false, distant: false, long: false, oursOnly: false };
/** Tunnels opened and closed before the idle ones, so that the code they need is not counted as theirs. */
const SETTLED = 500;
/** Of works about latency: a minute for each contender, in turns of three seconds. */
const SLICES = 20;
const SLICE_SECONDS = 3;
/** Of each of several replicas. */
const PART_OF_CORE = 0.3;
/** Requests in the first second of a process. */
const MODEST = 200;
/** wrk runs for a time: seconds, in whole numbers. */
const WRK_MS = 3_000;
/** How long idle tunnels are left alone before memory is read. */
const IDLE_MS = 2_000;

/**
 * What users do differs: in how many connections they have, in how much is
 * written at a time, in how fast they read. So most works come in several
 * shapes, and the worst of them counts.
 */
export const WORKS: readonly Work[] = [
  // Nothing is asked twice: a tunnel for one small request, as clients without keep-alive do.
  requests('setup', 'tunnel set-up', 'tunnel', 8_000, SETUP),
  ...connectionShapes('setup', 'tunnel set-up', 'tunnel', 4_000, SETUP, [1, 64, 512]),
  requests('setup-client', 'tunnel set-up, the client closes first', 'tunnel', 4_000, { ...SETUP, close: 'client' }, 'setup'),
  farAway(requests('setup', 'tunnel set-up, 64 connections', 'tunnel', 4_000, { ...SETUP, connections: 64 })),
  stream('download', 256, { chunk: 1_048_576 }),
  // A segment of Ethernet, a record of TLS, what Go writes at a time.
  ...[[1_400, 32], [4_096, 64], [16_384, 128], [32_768, 256], [65_536, 256]].map(([chunk = 0, mebibytes = 0]) => stream('download', mebibytes, { chunk }, `${chunk}`, `writes of ${chunk.toLocaleString('en-US')} bytes`)),
  stream('download', 64, { chunk: 1_048_576, wait: 1_000 }, 'slow', 'each read at 64 MB/s'),
  stream('download', 128, { chunk: 1_048_576, wait: 16_000, burst: 1_048_576 }, 'bursts', 'each read in bursts of 1 MiB at 64 MB/s'),
  stream('download', 128, { tls: 1 }, 'tls', 'TLS inside, in records of 16 KiB'),
  // Each of many streams is slower: what helps a fast one may not help it.
  ...[1, 16, 64].map((connections) => stream('download', 1_024 / connections, { chunk: 32_768, connections }, `${connections}`, 'writes of 32,768 bytes')),
  farAway(stream('download', 256, { chunk: 1_048_576 })),
  stream('upload', 256, { chunk: 1_048_576 }),
  ...[[1_400, 32], [16_384, 192]].map(([chunk = 0, mebibytes = 0]) => stream('upload', mebibytes, { chunk }, `${chunk}`, `writes of ${chunk.toLocaleString('en-US')} bytes`)),
  ...[16, 64].map((connections) => stream('upload', 1_024 / connections, { chunk: 32_768, connections }, `${connections}`, 'writes of 32,768 bytes')),
  requests('ping', 'ping-pong in 64 tunnels', 'tunnel', 80_000, PING),
  ...connectionShapes('ping', 'ping-pong', 'tunnel', 30_000, PING, [1], 'tunnels'),
  // So many that opening the tunnels is a small part of what is measured: each costs as much as some ten messages.
  ...connectionShapes('ping', 'ping-pong', 'tunnel', 240_000, PING, [512], 'tunnels'),
  { ...USUAL, name: 'idle', of: 'idle', title: '3,500 idle tunnels', unit: 'KB each', way: 'tunnel', fresh: true, run: measureIdle },
  withWrk(requests('forward', 'forward GET', 'forward', 20_000, FORWARD_GET), FORWARD_GET),
  ...connectionShapes('forward', 'forward GET', 'forward', 10_000, FORWARD_GET, [64, 512]),
  ...answerShapes('forward', 'forward GET', 'forward', FORWARD_GET, ''),
  farAway(requests('forward', 'forward GET, 64 connections', 'forward', 6_000, { ...FORWARD_GET, connections: 64 })),
  withWrk(requests('gateway', 'gateway GET over TLS', 'gateway', 20_000, GATEWAY_GET), GATEWAY_GET),
  ...connectionShapes('gateway', 'gateway GET over TLS', 'gateway', 12_000, GATEWAY_GET, [64, 512]),
  ...answerShapes('gateway', 'gateway GET over TLS', 'gateway', GATEWAY_GET, '/eco'),
  farAway(requests('gateway', 'gateway GET over TLS, 64 connections', 'gateway', 6_000, { ...GATEWAY_GET, connections: 64 })),
  requests('post', 'gateway POST of 64 KiB over TLS', 'gateway', 4_000, { ...GATEWAY_GET, body: 65_536 }),
  { ...USUAL, name: 'connections', of: 'connections', title: 'upstream connections for 10,000 gateway requests of 100 short-lived clients', unit: 'opened', way: 'gateway', fresh: true, run: measureConnections },
  halfLoad('gateway-half', 'p99 added at half load, gateway GET', 'gateway', 20_000, GATEWAY_GET),
  halfLoad('ping-half', 'p99 added at half load, ping-pong', 'tunnel', 60_000, PING),
  { ...USUAL, name: 'startup', of: 'startup', title: 'start-up to the first answer, without warming up', unit: 'ms', way: 'tunnel', fresh: true, plain: true, cold: true, run: measureStartup },
  { ...USUAL, name: 'startup-warm', of: 'startup-warm', title: 'start-up to the first answer, as shipped', unit: 'ms', way: 'tunnel', fresh: true, plain: true, run: measureStartup },
  { ...USUAL, name: 'first-second', of: 'first-second', title: `p99 of the first second after readiness above that of the tenth, ${MODEST} gateway GET/s`, unit: 'ms', way: 'gateway', fresh: true, long: true, oursOnly: true, slices: SLICES, run: measureFirstSecond },
  { ...USUAL, name: 'cores', of: 'cores', title: `throughput of two replicas with ${PART_OF_CORE * 100} % of a core each, against one`, unit: '×', way: 'gateway', fresh: true, long: true, oursOnly: true, run: measureCores },
  { ...USUAL, name: 'memory', of: 'memory', title: 'memory after 1,000,000 gateway requests, against after 100,000', unit: '%', way: 'gateway', fresh: true, long: true, oursOnly: true, run: measureMemory },
];

/** @param of the work of which it is a shape; absent: it is the usual one */
function requests(name: string, title: string, way: Way, operations: number, load: Load, of = name): Work {
  const run = async (stage: Stage): Promise<Sample> => {
    const count = stage.count(operations);
    const { seen, cpuSeconds } = await measure(stage, () => stage.drive({ ...load, operations: count }));
    return { cost: cpuSeconds === null ? null : (cpuSeconds * 1e6) / count, rate: count / seen.seconds, operations: count, ...latency(seen), ...memory(stage) };
  };
  return { ...USUAL, name, of, title, unit: 'µs CPU', way, direct: true, run };
}

function connectionShapes(of: string, title: string, way: Way, operations: number, load: Load, counts: readonly number[], what = 'connections'): Work[] {
  return counts.map((connections) => requests(`${of}-${connections}`, `${title}, ${connections} ${connections === 1 ? what.slice(0, -1) : what}`, way, operations, { ...load, connections }, of));
}

function answerShapes(of: string, title: string, way: Way, load: Load, prefix: string): Work[] {
  const answer = (name: string, words: string, operations: number, bytes: number): Work => requests(`${of}-${name}`, `${title}, answers of ${words}`, way, operations, { ...load, target: `${prefix}/bytes/${bytes}` }, of);
  return [answer('100b', '100 bytes', 12_000, 100), answer('10k', '10 KB', 8_000, 10_000), answer('1m', '1 MB', 400, 1_000_000)];
}

/** With the upstream where a partner is: of more requests at once than usual, since each takes 20 ms. */
function farAway(work: Work): Work {
  return { ...work, name: `${work.name}-20ms`, title: `${work.title}, 20 ms away`, distant: true };
}

/** What holds with one generator only is a figure about the generator. */
function withWrk(work: Work, load: { target: string; connections: number }): Work {
  const again = async (stage: Stage): Promise<number | null> => {
    const program = started(stage);
    const before = program.cpuSeconds();
    const seen = await stage.driveWrk(load, Math.ceil(stage.count(WRK_MS) / 1_000));
    return seen === null ? null : ((program.cpuSeconds() - before) * 1e6) / seen.operations;
  };
  return { ...work, again };
}

/**
 * @param mebibytes of each stream
 * @param load in STREAMS connections, unless it says otherwise
 * @param shape of its name and title; absent: it is the usual one
 */
function stream(mode: 'download' | 'upload', mebibytes: number, { connections = STREAMS, ...load }: Load & { connections?: number }, shape?: string, words?: string): Work {
  const run = async (stage: Stage): Promise<Sample> => {
    const operations = stage.count(mebibytes);
    const { seen, cpuSeconds } = await measure(stage, () => stage.drive({ ...load, mode, operations, connections }));
    const moved = operations * connections;
    return { cost: cpuSeconds === null ? null : (cpuSeconds * MIB_PER_GIB) / moved, rate: moved / seen.seconds, operations: moved, ...memory(stage) };
  };
  return { ...USUAL, name: shape === undefined ? mode : `${mode}-${shape}`, of: mode, title: `tunnel ${mode}, ${connections} ${connections === 1 ? 'stream' : 'streams'}${words === undefined ? '' : `, ${words}`}`, unit: 's CPU per GiB', way: 'tunnel', run };
}

/** Half load, sent at even intervals; the same at the upstream itself. The first run, which warms up, finds out how much that is. */
function halfLoad(name: string, title: string, way: Way, operations: number, load: Load): Work {
  const halves = new WeakMap<Program, number>();
  const run = async (stage: Stage): Promise<Sample> => {
    const program = started(stage);
    const rate = halves.get(program) ?? (await findHalf(stage, program, { ...load, operations: stage.count(operations) }));
    halves.set(program, rate);
    const paced = Math.ceil(rate * SLICE_SECONDS);
    // What idled out while others had their turn is opened again.
    await stage.drive({ ...load, operations: Math.ceil(paced / 10), rate });
    const { seen, stalls } = await watchStalls(program, () => stage.drive({ ...load, operations: paced, rate }));
    return { rate, stalls, ...comparedWith(seen, await stage.driveDirect({ ...load, operations: Math.ceil(paced / 3), rate })) };
  };
  return { ...USUAL, name, of: name, title, unit: 'ms', way, slices: SLICES, run };
}

/**
 * @param load as much as its code needs to be compiled
 * @returns requests a second: half of what it carries, or what keeps it busy
 *   half of the time if that is less. At full speed several requests are ready
 *   in each turn of its loop; at even intervals each has a turn of its own and
 *   costs more, so that half of the first can be nine tenths of the second
 */
async function findHalf(stage: Stage, program: Program, load: Load & { operations: number }): Promise<number> {
  await stage.drive(load);
  const rate = load.operations / (await stage.drive(load)).seconds / 2;
  const { stalls } = await watchStalls(program, () => stage.drive({ ...load, rate }));
  return rate * Math.min(1, 0.5 / stalls.busy);
}

/** Nothing is compiled yet, and no connection open, when the first requests come. */
async function measureFirstSecond(stage: Stage): Promise<Sample> {
  const second = { ...GATEWAY_GET, rate: MODEST, operations: MODEST, opening: 1 };
  const { seen, stalls } = await watchStalls(started(stage), () => stage.drive(second));
  await stage.drive({ ...second, operations: 8 * MODEST });
  return { rate: MODEST, stalls, ...comparedWith(seen, await stage.drive(second)) };
}

function comparedWith(seen: Seen, baseline: Seen): Pick<Sample, 'cost' | 'p50' | 'p99' | 'latencies'> {
  return { cost: ((seen.p99 ?? NaN) - (baseline.p99 ?? NaN)) / 1_000, ...latency(seen), latencies: { own: seen.histogram ?? {}, baseline: baseline.histogram ?? {} } };
}

async function watchStalls(program: Program, act: () => Promise<Seen>): Promise<{ seen: Seen; stalls: Stalls }> {
  await program.tell();
  const before = { at: performance.now(), stolen: stolenSeconds(), waited: program.waitedSeconds(), busy: program.cpuSeconds() };
  const seen = await act();
  const seconds = (performance.now() - before.at) / 1e3;
  const stalls = { busy: (program.cpuSeconds() - before.busy) / seconds, stolen: (stolenSeconds() - before.stolen) / seconds, waited: (program.waitedSeconds() - before.waited) / seconds };
  const { longestGcMs = null, loopMaxMs = null } = (await program.tell()) ?? {};
  return { seen, stalls: { ...stalls, longestGcMs, loopMaxMs } };
}

/** Each with a part of a core, so that generator, balancer and upstream have enough left for both, and what is measured is not theirs. */
async function measureCores(stage: Stage): Promise<Sample> {
  const [one, two] = [await measureReplicas(stage, 1), await measureReplicas(stage, 2)];
  return { cost: two.rate / one.rate, replicas: [one, two] };
}

async function measureReplicas(stage: Stage, count: number): Promise<NonNullable<Sample['replicas']>[number]> {
  const replicas = await stage.replicas(count);
  try {
    const openedBefore = await stage.opened();
    const work = { ...GATEWAY_GET, connections: 32 * count, operations: stage.count(20_000) * count };
    // At full speed, so that code is compiled when they are kept short.
    await replicas.drive(work);
    replicas.limit(PART_OF_CORE);
    const before = replicas.cpuSeconds();
    const { seconds } = await replicas.drive(work);
    return { count, rate: work.operations / seconds, cpuMicroseconds: ((replicas.cpuSeconds() - before) * 1e6) / work.operations, opened: (await stage.opened()) - openedBefore };
  } finally {
    await replicas.stop();
  }
}

async function measureIdle(stage: Stage): Promise<Sample> {
  const program = started(stage);
  // Fewer would tell of the process rather than of its tunnels.
  const tunnels = Math.min(3_500, stage.count(35_000));
  await stage.drive({ operations: SETTLED, connections: 8, each: 1 });
  const before = program.rssBytes();
  const held = await stage.hold(tunnels);
  await delay(IDLE_MS);
  const after = program.rssBytes();
  await held.close();
  return { cost: (after - before) / 1024 / tunnels, rssBytes: after };
}

async function measureConnections(stage: Stage): Promise<Sample> {
  const requests = stage.count(10_000);
  const before = await stage.opened();
  await stage.drive({ ...GATEWAY_GET, operations: requests, connections: 100, each: 1 });
  return { cost: (await stage.opened()) - before };
}

async function measureStartup(stage: Stage): Promise<Sample> {
  const program = started(stage);
  return Promise.resolve({ cost: program.startMs, rssBytes: program.rssBytes() });
}

async function measureMemory(stage: Stage): Promise<Sample> {
  const program = started(stage);
  const tenth = stage.count(100_000);
  await stage.drive({ ...GATEWAY_GET, operations: tenth });
  const early = program.rssBytes();
  await stage.drive({ ...GATEWAY_GET, operations: 9 * tenth });
  const late = program.rssBytes();
  return { cost: (late / early - 1) * 100, rssBytes: late };
}

async function measure(stage: Stage, act: () => Promise<Seen>): Promise<{ seen: Seen; cpuSeconds: number | null }> {
  const before = stage.program?.cpuSeconds() ?? 0;
  const seen = await act();
  return { seen, cpuSeconds: stage.program === null ? null : stage.program.cpuSeconds() - before };
}

function latency({ p50, p99 }: Seen): Pick<Sample, 'p50' | 'p99'> {
  return { ...(p50 !== undefined && { p50 }), ...(p99 !== undefined && { p99 }) };
}

function memory({ program }: Stage): Pick<Sample, 'rssBytes'> {
  return program === null ? {} : { rssBytes: program.rssBytes() };
}

function started({ program }: Stage): Program {
  if (program === null) throw new Error('this work is about the process');
  return program;
}
