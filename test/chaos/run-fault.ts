/** One fault from beginning to end: steady, broken, healed, and what was seen of it. */
import { setTimeout as pause } from 'node:timers/promises';
import { sumOf } from '../support/prometheus.ts';
import type { CallReport } from './actors/client.ts';
import { findAlerts } from './alerts.ts';
import type { ChaosFault } from './faults.ts';
import { type Look, lookOnce, reasonsGiven, watchReplicas, whenNamed } from './observe.ts';
import type { Stage } from './stage.ts';

/** What came of a fault. */
export interface FaultResult {
  readonly fault: ChaosFault;
  /** Everything that is not as it should be. */
  readonly problems: readonly string[];
  /** Calls between the beginning of the fault and the end of healing. */
  readonly calls: number;
  /** Those that were not `ok`, by outcome, the most frequent first. */
  readonly failures: readonly (readonly [outcome: string, count: number])[];
  /** From the beginning until the log named it, s; null: it did not. */
  readonly namedAfter: number | null;
  /** Until the status page of a replica did, s; null: it did not, or does not have to. */
  readonly shownAfter: number | null;
  /** What would fire if it lasted; null: not known, for want of promtool or of a steady state before. */
  readonly alerts: readonly string[] | null;
  /** From the end of the fault, s; null: it did not heal. */
  readonly healedAfter: number | null;
}

/** So long, ms, all kinds of calls have to end well before it counts as steady. */
const STEADY_MS = 1500;
const KINDS = ['gateway', 'forward', 'connect', 'tunnel', 'parent'] as const;
/** A call that was under way when the fault began, ms. */
const BEFORE_MS = 500;
/** Descriptors may differ by as many as the pools and tunnels of a moment. */
const DESCRIPTORS_SLACK = 40;
/** After the fault before: the longest pause of a circuit, and some. */
const CALM_WITHIN_MS = 40_000;

/** @param inForce is waited for while the fault is in force, when it has lasted its time; absent: nothing is */
export async function runFault(stage: Stage, fault: ChaosFault, inForce: () => Promise<void> = () => Promise.resolve()): Promise<FaultResult> {
  const problems: string[] = [];
  const [first] = stage.nodes;
  if (fault.replica !== undefined) {
    await first.stop();
    await first.start(fault.replica(stage));
  }
  const calm = await untilCalm(stage);
  const before = calm.unrest === null ? calm.looks : null;
  if (calm.unrest !== null) problems.push(`it was not steady before: ${calm.unrest}`);
  const starts = stage.nodes.map((node) => node.starts);
  const descriptors = await Promise.all(stage.nodes.map((node) => descriptorsBesideTunnels(stage, node)));
  const marks = stage.nodes.map((node) => node.mark());
  const done = stage.calls.length;
  const endWatch = watchReplicas(stage);
  const began = Date.now();
  await fault.inject(stage);
  await pause((fault.lasts ?? 5) * 1000 - Math.min(Date.now() - began, 1000));
  await inForce();
  const lines = new Map(stage.nodes.map((node, index) => [node, node.linesFrom(marks[index] ?? 0)]));
  const ended = Date.now();
  const during = await endWatch();
  await fault.heal(stage);
  const healed = await untilSteady(stage, Math.max((fault.healsWithin ?? 5) * 2000, 20_000));
  const healedAfter = healed === null ? null : Math.max(0, (healed - ended) / 1000);
  if (healedAfter === null || healedAfter > (fault.healsWithin ?? 5)) problems.push(`it healed ${healedAfter === null ? 'never' : `after ${healedAfter.toFixed(1)} s`}, and not within ${fault.healsWithin ?? 5} s`);

  // What began long before hung in an earlier fault.
  const calls = stage.calls.slice(done).filter(({ at }) => at >= began - BEFORE_MS);
  const failed = calls.filter(({ outcome }) => outcome !== 'ok');
  const unexpected = countBy(failed.filter(({ kind, outcome }) => fault.sees[kind]?.test(outcome) !== true), ({ kind, outcome }) => `${kind}: ${outcome}`);
  const lost = unexpected.reduce((sum, [, count]) => sum + count, 0);
  if (lost > (fault.mayLose ?? 0)) problems.push(`clients saw what they should not: ${unexpected.map(([outcome, count]) => `${outcome} (${count})`).join(', ')}`);

  const { named } = fault;
  const moments = named === undefined ? [] : [...lines.values()].flat().filter(named).map(({ time }) => (Date.parse(String(time)) - began) / 1000);
  const namedAfter = moments.length === 0 ? null : Math.max(0, Math.min(...moments));
  if (named !== undefined && (namedAfter === null || namedAfter > (fault.namedWithin ?? 5))) problems.push(`the log names it ${namedAfter === null ? 'never' : `after ${namedAfter.toFixed(1)} s`}`);

  const shown = fault.page === undefined ? null : whenNamed(fault.page, before ?? [], during);
  const shownAfter = shown === null ? null : Math.max(0, (shown - began) / 1000);
  if (fault.page !== undefined && (shownAfter === null || shownAfter > (fault.namedWithin ?? 5))) problems.push(`the status page names it ${shownAfter === null ? 'never' : `after ${shownAfter.toFixed(1)} s`}: ${reasonsGiven(during).join(' | ')}`);
  // Without a state before, rates and times have nothing to be compared with.
  const alerts = before === null ? null : findAlerts(before, during);
  const missing = alerts === null ? [] : (fault.alerts ?? []).filter((wanted) => ![wanted].flat().some((name) => alerts.includes(name)));
  if (missing.length > 0) problems.push(`if it lasted, ${missing.map((wanted) => [wanted].flat().join(' or ')).join(', ')} would not fire; ${alerts?.join(', ') ?? ''} would`);

  for (const [index, node] of stage.nodes.entries()) {
    const open = await descriptorsBesideTunnels(stage, node);
    // A process that was started anew has its own.
    if (node.starts !== starts[index] || open - (descriptors[index] ?? 0) <= DESCRIPTORS_SLACK) continue;
    problems.push(`${node.name} has ${open} descriptors open besides those of its tunnels, and had ${descriptors[index] ?? 0}`);
  }
  for (const node of stage.nodes) {
    const internal = sumOf(await node.scrape(), 'eco_egress_requests_total', { code: 'internal' });
    if (internal > 0) problems.push(`${node.name} has ${internal} internal errors`);
  }
  if (fault.replica !== undefined) {
    await first.stop();
    await first.start();
  }
  return { fault, problems, calls: calls.length, failures: countBy(failed, ({ outcome }) => outcome), namedAfter, shownAfter, alerts, healedAfter };
}

/** Resolves to what the replicas show once every kind of call ends well and no status page gives a reason for anything. `unrest`: what did not come to rest in time; null: all did. */
async function untilCalm(stage: Stage): Promise<{ readonly looks: readonly Look[]; readonly unrest: string | null }> {
  const end = Date.now() + CALM_WITHIN_MS;
  let looks: readonly Look[] = [];
  while (Date.now() < end) {
    if ((await untilSteady(stage, CALM_WITHIN_MS)) === null) return { looks, unrest: 'calls fail' };
    looks = await lookOnce(stage);
    if (reasonsGiven(looks).length === 0 && looks.every(({ band }) => band !== null)) return { looks, unrest: null };
    await pause(STEADY_MS);
  }
  return { looks, unrest: reasonsGiven(looks).join(' | ') || 'a replica does not answer' };
}

/** Tunnels move to the other replica while one is gone, and each takes two along. */
async function descriptorsBesideTunnels(stage: Stage, node: Stage['nodes'][number]): Promise<number> {
  return stage.descriptors(node) - 2 * sumOf(await node.scrape(), 'eco_egress_tunnels_active', {});
}

/** Resolves to the moment since when every kind of call ends well, ms since the epoch; null: not within `patience`. */
export async function untilSteady({ calls }: Stage, patience: number): Promise<number | null> {
  const end = Date.now() + patience;
  while (Date.now() < end) {
    await pause(100);
    const now = Date.now();
    const recent = calls.slice(-500).filter(({ at }) => at >= now - STEADY_MS);
    if (KINDS.every((kind) => recent.some((call) => call.kind === kind)) && recent.every(({ outcome }) => outcome === 'ok')) {
      const lastFailure = calls.slice(-2000).findLast(({ outcome }) => outcome !== 'ok');
      return lastFailure === undefined ? now - STEADY_MS : Math.max(lastFailure.at + lastFailure.ms, now - STEADY_MS);
    }
  }
  return null;
}

export function countBy(calls: readonly CallReport[], nameOf: (call: CallReport) => string): (readonly [string, number])[] {
  return [...Map.groupBy(calls, nameOf)].map(([name, group]) => [name, group.length] as const).sort((one, other) => other[1] - one[1]);
}
