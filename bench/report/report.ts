/** The report: its summary for docs/performance.md, its details beside the published results, both for the terminal. */
import { CONTENDERS } from '../contenders/list.ts';
import { WORKS } from '../works.ts';
import type { Results } from './results.ts';
import { formatAgreement } from './agreement.ts';
import { formatLatencies } from './latency.ts';
import { formatCapacity } from './capacity.ts';
import { summarise } from './statistics.ts';
import { formatCosts, formatObserved, formatSpeeds, formatTargets } from './table.ts';
import { formatReplicas } from './replicas.ts';
import { judge, TARGETS } from './targets.ts';

const BEGIN = '<!-- measured: written by npm run bench -- --write-docs -->';
const END = '<!-- /measured -->';

/** What each work costs, the targets, latency, and what one process carries. */
export function formatSummary(results: Results): string {
  const { summaries, contenders, run } = evaluate(results);
  const measuredWorks = new Set(WORKS.filter(({ name }) => run.has(name)).map(({ of }) => of));
  const missing = [...new Set(TARGETS.flatMap(({ work }) => work ?? []))].filter((of) => !measuredWorks.has(of));
  const failures = results.comparisons.flatMap(({ work, contender, failure }) => (failure === undefined ? [] : [`- ${work}, ${contender}: ${failure.replaceAll(/\s+/g, ' ').slice(0, 500)}`]));
  return [
    describeRun(results),
    `Medians, with their ratio to ours: above 1 costs more than ours. CPU is of the proxy's process, all its threads and children. haproxy and nginx pass tunnels on as bytes (L4): no CONNECT, no name, no choice of destination.`,
    formatCosts(WORKS, contenders, summaries),
    `Targets, all with policy, metrics and access log on. Each is checked in the shape of the work that is furthest from it${missing.length === 0 ? '' : ` (not run: ${missing.join(', ')})`}:`,
    formatTargets(judge(summaries).filter(({ work }) => run.has(work))),
    ...section('Latency, of all runs together in which the host of the machine had a core for at most a hundredth of the time. The baseline is the same requests sent directly to the upstream in the same minute; in first-second, the requests of the tenth second. A request may have been delayed by others before it (busy: how much of one core the proxy used), by the host of the machine (stolen), by other programs on the core of the proxy (waited), by garbage collections, or by a long turn of the event loop:', formatLatencies(WORKS, contenders, results.comparisons)),
    ...section('The same requests from two generators. The generators agree if their ratios of one proxy to another are within 15 %:', formatAgreement(WORKS, contenders, summaries)),
    ...section('Replicas behind a balancer of connections, each limited to the same share of a core of its own, with 32 connections for each. The cost of a request and the total throughput show whether replicas get in the way of each other. The table does not show what two cores at their limit carry, which share caches and memory, nor the effect of an uneven balancer:', formatReplicas(results.comparisons)),
    'What one process carries, on one core at 70 % of its time:',
    formatCapacity(summaries),
    ...(failures.length === 0 ? [] : [`No result, or cut short:\n\n${failures.join('\n')}`]),
  ].join('\n\n');
}

/** Of each work and contender: spread, speed, added latency and memory; what was observed, and the system calls. */
export function formatDetails(results: Results): string {
  const { summaries, contenders } = evaluate(results);
  return [
    describeRun(results),
    `Speed of one process, and what it adds to a request sent directly to the upstream ("direct", which is also what load and upstream can do by themselves). Spread is (largest - smallest) / median of the cost:`,
    formatSpeeds(WORKS, [...contenders, 'direct'], summaries),
    ...section(`For an operation, or a MiB of a stream, in one more run that is observed and not measured for CPU: what V8 allocated, how long garbage collections stopped the main thread, and how late the event loop was. The system calls are from a shorter run under strace:`, formatObserved(WORKS, contenders, results.comparisons)),
  ].join('\n\n');
}

function evaluate({ comparisons }: Results): { summaries: ReturnType<typeof summarise>; contenders: string[]; run: Set<string> } {
  const measured = new Set(comparisons.map(({ contender }) => contender));
  return { summaries: summarise(comparisons), contenders: CONTENDERS.map(({ name }) => name).filter((name) => measured.has(name)), run: new Set(comparisons.map(({ work }) => work)) };
}

/** Nothing where nothing was measured. */
function section(words: string, table: string): string[] {
  return table === '' ? [] : [words, table];
}

/** The page with a new report between its markers. Throws if they are not there. */
export function replaceMeasured(page: string, report: string): string {
  const [begin, end] = [page.indexOf(BEGIN), page.indexOf(END)];
  if (begin === -1 || end < begin) throw new Error(`The page has no lines ${BEGIN} and ${END}`);
  return `${page.slice(0, begin)}${BEGIN}\n\n${report}\n\n${page.slice(end)}`;
}

function describeRun({ when, machine, versions, runs, scale, earlier = [] }: Results): string {
  const names = Object.entries(versions).map(([name, version]) => `${name} ${version.replace(/^v/, '')}`);
  const quick = scale < 1 ? ` Only ${scale * 100} % of the operations: a rough result.` : '';
  const noise = machine.loadBefore > 0.5 ? ` The machine was not idle before (load ${machine.loadBefore.toFixed(1)}).` : '';
  const others = earlier.map((run) => ` ${run.works.join(', ')}: from ${run.when.slice(0, 10)}, ${run.runs} runs${run.scale < 1 ? ` with ${run.scale * 100} % of the operations` : ''}.`);
  return `${when.slice(0, 10)}, ${machine.cpu}, ${machine.cores} cores, ${machine.kernel}, ${runs} interleaved runs of each.${quick}${noise} ${names.join(', ')}.${others.join('')}`;
}
