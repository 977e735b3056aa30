/** What bench/overload.ts prints of its runs. */
import { formatFigure, renderTable } from './table.ts';

/** As load/open.c prints it: numbers a second, and times in ms. */
export interface OverloadRun {
  /** Asked for. */
  readonly offered: number;
  readonly ok: number;
  readonly refused: number;
  readonly failed: number;
  /** In all. */
  readonly unanswered: number;
  readonly p50: number;
  readonly p99: number;
  readonly most: number;
  /** Part of the time in which the generator, or the proxy, could have run but had no core. */
  readonly waited: number;
}

export const overloadKey = (title: string, load: number): string => `${title} ${load}`;

/** Medians. @param loads parts of the capacity, the first is the unloaded proxy @param seen by `overloadKey`; each run was driven with the capacity known by then */
export function tabulateOverload(titles: readonly string[], loads: readonly number[], seen: ReadonlyMap<string, readonly OverloadRun[]>, capacity: number): string {
  const of = (title: string, load: number, figure: (run: OverloadRun) => number): number => median((seen.get(overloadKey(title, load)) ?? []).map(figure));
  const rows = titles.flatMap((title) =>
    loads.map((load) => {
      const p99 = of(title, load, (run) => run.p99);
      const served = of(title, load, ({ ok }) => ok);
      return [
        `${title}, ${load}×`,
        ...[of(title, load, ({ offered }) => offered), served, (served / capacity) * 100, of(title, load, ({ refused }) => refused), of(title, load, ({ failed }) => failed), of(title, load, ({ unanswered }) => unanswered), of(title, load, ({ p50 }) => p50), p99, p99 / of(title, loads[0] ?? load, (run) => run.p99), of(title, load, ({ most }) => most), of(title, load, ({ waited }) => waited) * 100].map(formatFigure),
      ];
    }),
  );
  return renderTable(['`limits.loopDelay`, load', 'asked/s', 'served/s', '% of capacity', 'refused/s', 'failed/s', 'unanswered', 'p50 ms', 'p99 ms', '× unloaded', 'most at once', 'waited %'], rows);
}

function median(values: readonly number[]): number {
  return values.toSorted((one, other) => one - other)[Math.floor(values.length / 2)] ?? NaN;
}
