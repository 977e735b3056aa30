/** What was measured in four quarters of a run, and how far it moved from the second to the last. Pure. */

/** What is measured, with how it is shown. */
export const FIGURES = {
  heap: { name: 'Heap after a collection', unit: 'MiB' },
  resident: { name: 'Resident memory', unit: 'MiB' },
  descriptors: { name: 'File descriptors', unit: '' },
  series: { name: 'Series of metrics', unit: '' },
  timers: { name: 'Timers', unit: '' },
  handles: { name: 'Handles', unit: '' },
} as const;

/** A figure that is measured. */
export type Figure = keyof typeof FIGURES;

/** What was measured at one moment; `heap` only where a collection was forced. */
export interface Sample extends Readonly<Partial<Record<Figure, number>>> {
  /** Since the beginning, ms. */
  readonly at: number;
}

/** One figure over the run. */
export interface Drift {
  readonly figure: Figure;
  /** Medians of the quarters. */
  readonly quarters: readonly number[];
  /** From the second quarter to the last; above 0: it has grown. */
  readonly drift: number;
  readonly isTooMuch: boolean;
}

const QUARTERS = 4;
/** As a share. */
const MOST_DRIFT = 0.05;
/** A small count may differ by what comes and goes. */
const SLACK: Readonly<Record<Figure, number>> = { heap: 0, resident: 0, descriptors: 5, series: 5, timers: 5, handles: 5 };

/** @param lasted ms; @throws where a quarter has no sample of a figure */
export function findDrifts(samples: readonly Sample[], lasted: number, figures: readonly Figure[] = Object.keys(FIGURES) as Figure[]): Drift[] {
  return figures.map((figure) => {
    const quarters = Array.from({ length: QUARTERS }, (_, quarter) =>
      median(
        samples.filter(({ at }) => Math.min(QUARTERS - 1, Math.floor((at / lasted) * QUARTERS)) === quarter).flatMap((sample) => sample[figure] ?? []),
        `quarter ${quarter + 1} has no ${figure}`,
      ),
    );
    const [, from = 0, , to = 0] = quarters;
    return { figure, quarters, drift: to - from, isTooMuch: to - from > Math.max(from * MOST_DRIFT, SLACK[figure]) };
  });
}

function median(values: readonly number[], complaint: string): number {
  const sorted = values.toSorted((one, other) => one - other);
  const middle = sorted[Math.floor(sorted.length / 2)];
  if (middle === undefined) throw new Error(complaint);
  return middle;
}
