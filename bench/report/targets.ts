/** What ours is to reach, with policy, metrics and access log on: as data, and judged by the results. */
import { type Work, WORKS } from '../works.ts';
import type { Summaries, Summary } from './statistics.ts';

export interface Target {
  /** In all its shapes; null: every work. */
  readonly work: string | null;
  /** In its usual shape alone. */
  readonly usual?: true;
  readonly text: string;
  /** What is judged, of ours; absent: the cost. */
  readonly figure?: Figure;
  /** The largest figure that is still good; NaN where what it is compared with was not measured. */
  limit(costOf: (contender: string) => number, ours: Summary): number;
}

interface Figure {
  readonly unit: string;
  of(ours: Summary): number;
}

export interface Judgement {
  /** The shape that is furthest from what is wanted. */
  readonly work: string;
  readonly text: string;
  readonly figure: number;
  readonly unit: string;
  readonly limit: number;
  /** Null: not measured, or nothing to compare with. */
  readonly met: boolean | null;
}

const CARRY_TUNNELS = ['squid', 'tinyproxy', 'proxy-chain', 'haproxy', 'nginx'];
const ALLOCATED: Figure = { unit: 'KB', of: ({ allocatedKb }) => allocatedKb };
const MEMORY: Figure = { unit: 'MB', of: ({ rssBytes }) => rssBytes / 2 ** 20 };

const fixed = (limit: number) => (): number => limit;
/** This part of the cheapest of these contenders. */
const part = (factor: number, ...contenders: readonly string[]) => (of: (contender: string) => number): number => {
  const known = contenders.map(of).filter((cost) => !Number.isNaN(cost));
  return known.length === 0 ? NaN : factor * Math.min(...known);
};

export const TARGETS: readonly Target[] = [
  { work: 'setup', text: 'at most 0.9 times Squid', limit: part(0.9, 'squid') },
  { work: 'setup', text: 'at most 20 KB allocated', figure: ALLOCATED, limit: fixed(20) },
  { work: 'download', text: 'at most the best other', limit: part(1, ...CARRY_TUNNELS) },
  { work: 'download', usual: true, text: 'at most 0.6 times the best other, where reads are large', limit: part(0.6, ...CARRY_TUNNELS) },
  { work: 'upload', text: 'at most the best other', limit: part(1, ...CARRY_TUNNELS) },
  { work: 'upload', usual: true, text: 'at most 0.6 times the best other, where reads are large', limit: part(0.6, ...CARRY_TUNNELS) },
  { work: 'ping', text: 'at most 0.95 times Squid', limit: part(0.95, 'squid') },
  { work: 'ping', text: 'at most 1.1 times HAProxy', limit: part(1.1, 'haproxy') },
  { work: 'ping', text: 'at most 0.1 KB allocated', figure: ALLOCATED, limit: fixed(0.1) },
  { work: 'idle', text: 'at most 13 KB each', limit: fixed(13) },
  { work: 'forward', text: 'at most Squid', limit: part(1, 'squid') },
  { work: 'forward', usual: true, text: 'at most 8 KB allocated', figure: ALLOCATED, limit: fixed(8) },
  { work: 'gateway', text: 'at most 0.6 times stock @fastify/http-proxy', limit: part(0.6, 'stock') },
  { work: 'gateway', text: 'at most 3 times nginx', limit: part(3, 'nginx') },
  { work: 'gateway', usual: true, text: 'at most 8 KB allocated', figure: ALLOCATED, limit: fixed(8) },
  { work: 'post', text: 'at most stock @fastify/http-proxy and http-proxy-3', limit: part(1, 'stock', 'http-proxy-3') },
  { work: 'connections', text: 'at most 16', limit: fixed(16) },
  { work: 'gateway-half', text: 'at most stock @fastify/http-proxy', limit: part(1, 'stock') },
  { work: 'gateway-half', text: 'at most 2 ms', limit: fixed(2) },
  { work: 'ping-half', text: 'at most 2 ms', limit: fixed(2) },
  { work: 'first-second', text: 'at most twice the p99 of the tenth second', limit: (_costOf, ours) => ours.baselineP99 },
  { work: 'memory', text: 'within 10 %', limit: fixed(10) },
  { work: null, text: 'at most 120 MB of memory after any work', figure: MEMORY, limit: fixed(120) },
  { work: 'startup', text: 'at most 400 ms, without warming up', limit: fixed(400) },
];

/** One for each target: in the shape that is furthest from it. */
export function judge(summaries: Summaries, works: readonly Pick<Work, 'name' | 'of' | 'unit'>[] = WORKS, targets: readonly Target[] = TARGETS): Judgement[] {
  return targets.flatMap((target) => {
    const shapes = works.filter(({ name, of }) => target.work === null || (target.usual === true ? name : of) === target.work);
    const judged = shapes.map((shape) => judgeShape(summaries, shape, target));
    const [worst] = judged.filter(({ met }) => met !== null).toSorted((one, other) => other.figure / other.limit - one.figure / one.limit);
    return [worst ?? judged[0]].filter((judgement) => judgement !== undefined);
  });
}

function judgeShape(summaries: Summaries, { name, unit }: Pick<Work, 'name' | 'unit'>, target: Target): Judgement {
  const ours = summaries.of(name, 'ours');
  const costOf = (contender: string): number => summaries.of(name, contender)?.cost ?? NaN;
  const figure = ours === null ? NaN : (target.figure?.of(ours) ?? ours.cost);
  const limit = ours === null ? NaN : target.limit(costOf, ours);
  const known = Number.isFinite(figure) && Number.isFinite(limit);
  return { work: name, text: target.text, figure, unit: target.figure?.unit ?? unit, limit, met: known ? figure <= limit : null };
}
