/** What ours is to reach, with policy, metrics and access log on: as data, and judged by the results. */
import { type Work, WORKS } from '../works.ts';
import type { Summaries } from './statistics.ts';

export interface Target {
  /** In all its shapes. */
  readonly work: string;
  readonly text: string;
  /** The largest figure that is still good; NaN where what it is compared with was not measured. */
  limit(costOf: (contender: string) => number): number;
}

export interface Judgement {
  /** The shape that is furthest from what is wanted. */
  readonly work: string;
  readonly text: string;
  readonly figure: number;
  readonly limit: number;
  /** Null: not measured, or nothing to compare with. */
  readonly met: boolean | null;
}

/** Smokescreen cannot be built without a network for Go modules: its figure is taken by its ratio to Squid's, 104 µs to 65 µs on the same machine. */
const SMOKESCREEN_PER_SQUID = 104 / 65;
const SPEAK_CONNECT = ['squid', 'tinyproxy', 'proxy-chain'];
const CARRY_TUNNELS = [...SPEAK_CONNECT, 'haproxy', 'nginx'];

const least = (figures: readonly number[]): number => Math.min(...figures.filter((figure) => !Number.isNaN(figure)), Infinity);
const fixed = (limit: number) => (): number => limit;

export const TARGETS: readonly Target[] = [
  { work: 'setup', text: 'at most 0.8 of Squid', limit: (of) => 0.8 * of('squid') },
  { work: 'setup', text: 'at most 0.5 of Smokescreen (by its ratio to Squid)', limit: (of) => 0.5 * SMOKESCREEN_PER_SQUID * of('squid') },
  { work: 'setup', text: 'below every other that speaks CONNECT', limit: (of) => least(SPEAK_CONNECT.map(of)) },
  { work: 'download', text: 'at most 0.6 of the best other', limit: (of) => 0.6 * least(CARRY_TUNNELS.map(of)) },
  { work: 'upload', text: 'at most Squid', limit: (of) => of('squid') },
  { work: 'ping', text: 'at most 1.1 of Squid', limit: (of) => 1.1 * of('squid') },
  { work: 'idle', text: 'at most 16 KB each', limit: fixed(16) },
  { work: 'forward', text: 'at most Squid', limit: (of) => of('squid') },
  { work: 'gateway', text: 'at most 0.9 of stock @fastify/http-proxy', limit: (of) => 0.9 * of('stock') },
  { work: 'gateway', text: 'at most 2.2 of nginx', limit: (of) => 2.2 * of('nginx') },
  { work: 'connections', text: 'at most 16', limit: fixed(16) },
  { work: 'gateway-half', text: 'at most 1 ms', limit: fixed(1) },
  { work: 'ping-half', text: 'at most 1 ms', limit: fixed(1) },
  { work: 'memory', text: 'within 10 %', limit: fixed(10) },
  { work: 'startup', text: 'at most 400 ms', limit: fixed(400) },
];

/** One for each target: in the shape that is furthest from it. */
export function judge(summaries: Summaries, works: readonly Pick<Work, 'name' | 'of'>[] = WORKS, targets: readonly Target[] = TARGETS): Judgement[] {
  return targets.flatMap((target) => {
    const inShapes = works.filter(({ of }) => of === target.work).map(({ name }) => judgeShape(summaries, name, target));
    const [first] = inShapes;
    const measured = inShapes.filter(({ met }) => met !== null).toSorted((one, other) => other.figure / other.limit - one.figure / one.limit);
    const worst = measured[0] ?? first;
    return worst === undefined ? [] : [worst];
  });
}

function judgeShape(summaries: Summaries, work: string, target: Target): Judgement {
  const { text } = target;
  const costOf = (contender: string): number => summaries.of(work, contender)?.cost ?? NaN;
  const figure = costOf('ours');
  const limit = target.limit(costOf);
  const known = Number.isFinite(figure) && Number.isFinite(limit);
  return { work, text, figure, limit, met: known ? figure <= limit : null };
}
