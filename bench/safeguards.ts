/** What the safeguards cost: ours with all of them on, against ours with all of them off, run after run. */
import { compare, type Means } from './compare.ts';
import { createOurs } from './contenders/ours.ts';
import { median, spread } from './report/statistics.ts';
import { formatFigure, renderTable } from './report/table.ts';
import type { Work } from './works.ts';

/** What is compared where nothing is named: with all shapes. */
export const SAFEGUARDED = ['setup', 'ping', 'forward', 'gateway'];

/**
 * The self-test six times as often as by default, so that some rounds of it fall into each run. Rates that are never used up, and that count
 * all there is to count; and a delay of the loop that is never reached, not even under strace on a busy machine: a refusal would end the run.
 */
const ON = createOurs([], {
  name: 'on',
  limits: ', loopDelay: 10s',
  rule: ', rate: { perAddress: { requests: 1000000/s, tunnels: 1000000/s }, perClient: { requests: 1000000/s, tunnels: 1000000/s, sent: 1000GiB/s, received: 1000GiB/s } }',
  rest: 'selfTest: { every: 10s }\n',
});
const OFF = createOurs([], { name: 'off', limits: ', memoryPercent: 100', rest: 'circuitBreaker: { enabled: false }\nselfTest: { every: off }\n' });

/**
 * A table: CPU of both, and the median of the ratios of runs that followed each
 * other. The noise of a machine is larger than what is looked for in one row;
 * the mean of all rows has less of it.
 */
export async function compareSafeguards(works: readonly Work[], means: Means): Promise<string> {
  const rows: string[][] = [];
  const logarithms: number[] = [];
  for (const work of works) {
    const results = await compare({ ...work, direct: false }, [OFF, ON], means);
    const [off = [], on = []] = results.map(({ samples }) => samples.map(({ cost }) => cost ?? NaN));
    const failure = results.find((result) => result.failure !== undefined)?.failure;
    if (failure !== undefined) throw new Error(`${work.name}: ${failure}`);
    const ratios = on.map((cost, run) => cost / (off[run] ?? NaN));
    logarithms.push(Math.log(median(ratios)));
    rows.push([`${work.title}, ${work.unit}`, ...[median(off), median(on)].map(formatFigure), median(ratios).toFixed(3), formatFigure(spread(ratios) * 100)]);
  }
  const mean = logarithms.reduce((sum, one) => sum + one, 0) / logarithms.length;
  const error = Math.sqrt(logarithms.reduce((sum, one) => sum + (one - mean) ** 2, 0) / (logarithms.length - 1) / logarithms.length);
  rows.push(['geometric mean of all, with its standard error', '', '', `${Math.exp(mean).toFixed(3)} ± ${error.toFixed(3)}`, '']);
  return renderTable(['work', 'off', 'on', 'on / off', 'spread of the ratio, %'], rows);
}
