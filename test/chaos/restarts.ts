/** Replicas are restarted in turn, as a rollout does, under clients that work all the time: what is lost, and how reconnects are spread. */
import { setTimeout as pause } from 'node:timers/promises';
import { countBy, untilSteady } from './run-fault.ts';
import type { Stage } from './stage.ts';

/** What came of all restarts. */
export interface RestartsResult {
  readonly problems: readonly string[];
  readonly restarts: number;
  readonly calls: number;
  /** Calls that a proxy had accepted and that did not end well, by kind and outcome. */
  readonly failures: readonly (readonly [outcome: string, count: number])[];
  /** Connections that reached no proxy: the Service led them to a replica that was gone. */
  readonly refused: number;
  /** Tunnels that the drains ended: at a quiet moment, while something moved, at the deadline. */
  readonly tunnels: Readonly<Record<'quiet' | 'busy' | 'cut', number>>;
  /** Exchanges that were cut at a deadline. */
  readonly exchangesCut: number;
  /** The most reconnects of tunnels in one second of a drain, in even rates of that drain: the median of all restarts, and the worst. */
  readonly peaks: { readonly median: number; readonly worst: number };
}

/** As configured in stage.ts, ms. */
const DRAIN_MS = 5000;
const DRAIN_DELAY_MS = 2000;
const HIGHEST_PEAK = 1.5;

/** @param tell hears of each restart */
export async function restartInTurn(stage: Stage, restarts: number, tell: (text: string) => void): Promise<RestartsResult> {
  const first = stage.calls.length;
  const peaks: number[] = [];
  const tunnels = { quiet: 0, busy: 0, cut: 0 };
  let exchangesCut = 0;
  for (let restart = 0; restart < restarts; restart += 1) {
    if ((await untilSteady(stage, 20_000)) === null) throw new Error('it is not steady between two restarts');
    const node = stage.nodes[restart % 2];
    if (node === undefined) throw new Error('there are two nodes');
    const opened = stage.opened.length;
    const began = Date.now();
    const mark = node.mark();
    await node.stop();
    const over = node.linesFrom(mark).findLast(({ msg }) => msg === 'the drain is over');
    for (const how of ['quiet', 'busy', 'cut'] as const) tunnels[how] += Number(over?.[how] ?? 0);
    exchangesCut += Number(over?.['exchangesCut'] ?? 0);
    // What reconnects is opened a moment after it was ended.
    await pause(300);
    const since = began + DRAIN_DELAY_MS;
    const moments = stage.opened.slice(opened).filter(({ kind, opened: at }) => kind === 'tunnel' && at >= since).map(({ opened: at }) => at - since);
    const bins = countBins(moments);
    // After another restart, all tunnels may be on the other replica.
    if (moments.length > 0) peaks.push(Math.max(...bins) / (moments.length / bins.length));
    await node.start();
    const refusals = stage.calls.slice(first).filter(({ outcome, at }) => outcome === 'refused' && at >= began).map(({ kind, at }) => `${kind} after ${((at - began) / 1000).toFixed(1)} s`);
    tell(`restart ${restart + 1}: ${moments.length} tunnels reconnected, by seconds ${bins.join(' ')}${refusals.length === 0 ? '' : `; refused: ${refusals.join(', ')}`}`);
  }
  await pause(1000);
  const calls = stage.calls.slice(first);
  const refused = calls.filter(({ outcome }) => outcome === 'refused').length;
  const failures = countBy(calls.filter(({ outcome }) => outcome !== 'ok' && outcome !== 'refused'), ({ kind, outcome }) => `${kind}: ${outcome}`);
  const sorted = peaks.toSorted((one, other) => one - other);
  const median = sorted[Math.floor(sorted.length / 2)] ?? 0;
  const problems = [
    ...(failures.length === 0 ? [] : [`calls were lost: ${failures.map(([outcome, count]) => `${outcome} (${count})`).join(', ')}`]),
    ...(refused === 0 ? [] : [`${refused} connections were refused`]),
    ...(exchangesCut === 0 ? [] : [`${exchangesCut} exchanges were cut`]),
    ...(median <= HIGHEST_PEAK ? [] : [`reconnects come at ${median.toFixed(2)} times the even rate`]),
  ];
  return { problems, restarts, calls: calls.length, failures, refused, tunnels, exchangesCut, peaks: { median, worst: sorted.at(-1) ?? 0 } };
}

/** How many of these moments, ms, are in each second of the window. */
function countBins(moments: readonly number[]): number[] {
  const bins = Array.from({ length: DRAIN_MS / 1000 }, () => 0);
  for (const moment of moments) {
    const place = Math.min(Math.floor(moment / 1000), bins.length - 1);
    bins[place] = (bins[place] ?? 0) + 1;
  }
  return bins;
}
