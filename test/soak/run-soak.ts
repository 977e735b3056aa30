/** Runs all works at their rates for a time, and measures the proxy meanwhile. */
import { setTimeout as pause } from 'node:timers/promises';
import { sumOf } from '../support/prometheus.ts';
import { seeded } from '../support/random.ts';
import { type Drift, FIGURES, type Figure, findDrifts, type Sample } from './quarters.ts';
import { formatMove } from './table.ts';
import { EVENTS, type Work, WORKS } from './works.ts';
import type { World } from './world.ts';

/** How often one work was done. */
export interface Done {
  readonly name: string;
  readonly done: number;
  /** That did not end well: while the partner or its name fails, or a rule is gone. */
  readonly failed: number;
}

/** What came of a run. */
export interface SoakResult {
  readonly seconds: number;
  readonly drifts: readonly Drift[];
  readonly works: readonly Done[];
  readonly events: readonly Done[];
  /** Everything that is not as it should be. */
  readonly problems: readonly string[];
}

const TICK_MS = 20;
const SAMPLE_EVERY_MS = 1000;
/** Of one work under way: beyond, it is left out. */
const MOST_AT_ONCE = 50;
/** Share of one kind of work, in the last quarter. */
const MOST_FAILED = 0.5;
/** The longest timeout of world.ts is 10 s. */
const QUIET_WITHIN_MS = 30_000;
/** What the proxy opens when it first needs it, and what has just begun: a probe, a self-test. */
const QUIET_SLACK = 5;

interface Tally {
  readonly work: Work;
  due: number;
  underWay: number;
  done: number;
  failed: number;
  /** As they were when the last quarter began. */
  atLast: { readonly done: number; readonly failed: number };
}

/** @param collectEvery ms between two forced collections; @param judged figures that may not grow; @param tell hears of each quarter */
export async function runSoak(world: World, { seconds, collectEvery, judged, seed, tell }: { seconds: number; collectEvery: number; judged: readonly Figure[]; seed: number; tell: (text: string) => void }): Promise<SoakResult> {
  const random = seeded(seed);
  const { proxy } = world;
  const quiet = await countQuiet(proxy);
  const began = performance.now();
  const lasted = seconds * 1000;
  const elapsed = (): number => performance.now() - began;
  const tallies = [...WORKS, ...EVENTS].map((work): Tally => ({ work, due: 0, underWay: 0, done: 0, failed: 0, atLast: { done: 0, failed: 0 } }));
  const start = (tally: Tally): void => {
    tally.underWay += 1;
    tally.work
      .run(world, random)
      .catch(() => { tally.failed += 1; })
      .finally(() => {
        tally.done += 1;
        tally.underWay -= 1;
      });
  };
  let before = 0;
  const ticker = setInterval(() => {
    const now = elapsed();
    for (const tally of tallies) {
      tally.due += ((now - before) / 1000) * tally.work.perSecond;
      for (; tally.due >= 1; tally.due -= 1) if (tally.underWay < MOST_AT_ONCE) start(tally);
    }
    before = now;
  }, TICK_MS);

  const samples: Sample[] = [];
  let collected = 0;
  let quarter = 0;
  while (elapsed() < lasted && proxy.death === null) {
    await pause(SAMPLE_EVERY_MS);
    const at = Math.min(elapsed(), lasted - 1);
    const { samples: series } = await proxy.scrape();
    const sample = { at, resident: proxy.residentBytes(), descriptors: proxy.descriptors(), series: series.size, timers: await proxy.timers(), handles: await proxy.handles() };
    const isDue = elapsed() - collected >= collectEvery;
    if (isDue) collected = elapsed();
    samples.push(isDue ? { ...sample, heap: await proxy.heapBytesCollected() } : sample);
    if (Math.floor((at / lasted) * 4) > quarter) {
      quarter += 1;
      tell(`${Math.round(at / 1000)} s: ${(sample.resident / 2 ** 20).toFixed(1)} MiB resident, ${sample.descriptors} descriptors, ${sample.series} series, ${sample.timers} timers`);
      if (quarter === 3) for (const tally of tallies) tally.atLast = { done: tally.done, failed: tally.failed };
    }
  }
  clearInterval(ticker);
  if (proxy.death !== null) throw new Error(`the proxy ended: ${proxy.death}`);
  const left = await untilQuiet(proxy, quiet);

  const scrape = await proxy.scrape();
  const drifts = findDrifts(samples, lasted);
  const internal = sumOf(scrape, 'eco_egress_internal_errors_total') + sumOf(scrape, 'eco_egress_telemetry_failures_total');
  const reloads = (result: string): number => sumOf(scrape, 'eco_egress_policy_reloads_total', { result });
  const problems = [
    ...drifts.filter(({ figure, isTooMuch }) => isTooMuch && judged.includes(figure)).map((drift) => `${FIGURES[drift.figure].name}: ${formatMove(drift)} from the second quarter to the last: ${drift.quarters.join(', ')}`),
    ...tallies.filter(({ done, failed, atLast }) => failed - atLast.failed > (done - atLast.done) * MOST_FAILED).map(({ work, done, failed, atLast }) => `${work.name}: ${failed - atLast.failed} of ${done - atLast.done} failed in the last quarter`),
    ...left,
    ...(internal === 0 ? [] : [`${internal} internal errors`]),
    ...(['applied', 'refused'].filter((result) => reloads(result) === 0).map((result) => `no reload was ${result}`)),
  ];
  const say = (list: readonly Work[]): Done[] => tallies.filter(({ work }) => list.includes(work)).map(({ work: { name }, done, failed }) => ({ name, done, failed }));
  return { seconds, drifts, works: say(WORKS), events: say(EVENTS), problems };
}

type Counts = Readonly<Record<'descriptors' | 'timers' | 'handles', number>>;

async function countQuiet(proxy: World['proxy']): Promise<Counts> {
  return { descriptors: proxy.descriptors(), timers: await proxy.timers(), handles: await proxy.handles() };
}

/** Nobody asks for anything any more: waits until the proxy holds as little as before the first request. @returns what it holds besides, in words */
async function untilQuiet(proxy: World['proxy'], before: Counts): Promise<string[]> {
  const end = performance.now() + QUIET_WITHIN_MS;
  for (;;) {
    const now = await countQuiet(proxy);
    const left = (Object.keys(before) as (keyof Counts)[]).filter((name) => now[name] > before[name] + QUIET_SLACK);
    if (left.length === 0) return [];
    if (performance.now() > end) return left.map((name) => `${now[name]} ${name} are left when nobody asks for anything, and there were ${before[name]} before`);
    await pause(SAMPLE_EVERY_MS);
  }
}
