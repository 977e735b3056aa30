/** Replicas are restarted in turn, as a rollout does, under clients that work all the time: what is lost, and how reconnects are spread. */
import { setTimeout as pause } from 'node:timers/promises';
import { countBy, untilSteady } from './run-fault.ts';
import type { Stage } from './stage.ts';

/** What came of all restarts. */
export interface RestartsResult {
  readonly restarts: number;
  readonly calls: number;
  /** Calls that did not end well, by kind and outcome. */
  readonly failures: readonly (readonly [outcome: string, count: number])[];
  /** Tunnels that were cut because their time was over, as the proxies counted them. */
  readonly cut: number;
  /** Most reconnects of long tunnels in one second of a drain, by the even rate of that drain; the median and the worst of all restarts. */
  readonly peaks: { readonly median: number; readonly worst: number };
}

/** As configured in stage.ts, ms. */
const DRAIN_MS = 5000;
const DRAIN_DELAY_MS = 1000;

/** @param tell hears of each restart */
export async function restartInTurn(stage: Stage, restarts: number, tell: (text: string) => void): Promise<RestartsResult> {
  const first = stage.calls.length;
  const peaks: number[] = [];
  let cut = 0;
  for (let restart = 0; restart < restarts; restart += 1) {
    if ((await untilSteady(stage, 20_000)) === null) throw new Error('it is not steady between two restarts');
    const node = stage.nodes[restart % 2];
    if (node === undefined) continue;
    const mark = node.mark();
    const opened = stage.opened.length;
    const began = Date.now();
    await node.stop();
    const ended = node.linesFrom(mark);
    cut += ended.filter(({ code, form, durationMs, closedBy }) => durationMs !== undefined && code === 'draining' && closedBy === 'proxy' && form === undefined).length;
    const reconnects = stage.opened.slice(opened).filter(({ kind, opened: at }) => kind === 'tunnel' && at >= began + DRAIN_DELAY_MS);
    const bins = countBins(reconnects.map(({ opened: at }) => at - began - DRAIN_DELAY_MS));
    const even = reconnects.length / (DRAIN_MS / 1000);
    const peak = reconnects.length < 10 ? 0 : Math.max(...bins) / even;
    peaks.push(peak);
    await node.start();
    tell(`restart ${restart + 1}: ${reconnects.length} tunnels reconnected, ${bins.join(' ')} in each second; ${JSON.stringify(ended.findLast(({ msg }) => msg?.startsWith('drain') === true) ?? {})}`);
    await pause(500);
  }
  const calls = stage.calls.slice(first);
  const failures = countBy(calls.filter(({ outcome }) => outcome !== 'ok'), ({ kind, outcome }) => `${kind}: ${outcome}`);
  const sorted = peaks.toSorted((one, other) => one - other);
  return { restarts, calls: calls.length, failures, cut, peaks: { median: sorted[Math.floor(sorted.length / 2)] ?? 0, worst: sorted.at(-1) ?? 0 } };
}

/** How many of these moments, ms, are in each second of the window. */
function countBins(moments: readonly number[]): number[] {
  const bins = Array.from({ length: Math.ceil(DRAIN_MS / 1000) }, () => 0);
  for (const moment of moments) bins[Math.min(Math.floor(moment / 1000), bins.length - 1)] = (bins[Math.min(Math.floor(moment / 1000), bins.length - 1)] ?? 0) + 1;
  return bins;
}
