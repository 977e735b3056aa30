/**
 * All metrics in the Prometheus text format 0.0.4, written in slices: between
 * two slices the event loop serves other work, regardless of the number of
 * series and scrapers (docs/decisions/0040-metrics-and-log.md).
 */
import { Turns } from '../turns.ts';
import type { Attempt } from './telemetry.ts';
import type { HistogramCell } from './cells.ts';

type Labels = Readonly<Record<string, string>>;

/** Name, type and labels of a metric. */
export interface MetricDefinition {
  readonly name: string;
  readonly help: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly labelNames: readonly string[];
}

interface MetricFamily extends MetricDefinition {
  /** Its current lines, each with its line feed. The caller may stop between two of them. */
  readonly lines: () => Iterable<string>;
}

/** Metrics kept by another library, in the text format, with their definitions. */
export interface ForeignMetrics {
  readonly definitions: () => readonly MetricDefinition[];
  readonly text: () => Promise<string>;
}

/** Lines per slice: they take about a millisecond. */
const LINES_A_SLICE = 500;

/** All metrics of a process; values are read at each scrape. */
export class Exposition {
  /** Of the answer to a scrape. */
  readonly contentType = 'text/plain; version=0.0.4; charset=utf-8';
  readonly #attempt: Attempt;
  readonly #families: MetricFamily[] = [];
  readonly #foreign: ForeignMetrics[] = [];
  readonly #turns = new Turns();

  /** @param attempt an error in one family does not affect the others */
  constructor(attempt: Attempt) {
    this.#attempt = attempt;
  }

  /** Families are written in this order. */
  add(family: MetricFamily): void {
    this.#families.push(family);
  }

  /** Written behind all families of our own. */
  addForeign(metrics: ForeignMetrics): void {
    this.#foreign.push(metrics);
  }

  /** Of every metric, for documentation and tests. */
  definitions(): MetricDefinition[] {
    return [
      ...this.#families.map(({ name, help, type, labelNames }) => ({ name, help, type, labelNames })),
      ...this.#foreign.flatMap(({ definitions }) => definitions()),
    ];
  }

  /** The text in slices. Each is created on demand, so a slow reader holds one slice, not all. */
  async *slices(): AsyncGenerator<string, void, undefined> {
    await this.#turns.next();
    let slice = '';
    let lines = 0;
    for (const family of this.#families) {
      slice += `# HELP ${family.name} ${family.help}\n# TYPE ${family.name} ${family.type}\n`;
      for (const line of this.#safely(family)) {
        slice += line;
        lines += 1;
        if (lines < LINES_A_SLICE) continue;
        yield slice;
        slice = '';
        lines = 0;
        await this.#turns.next();
      }
    }
    if (slice !== '') yield slice;
    for (const { text } of this.#foreign) {
      await this.#turns.next();
      yield await text();
    }
  }

  /** All of it at once. */
  async text(): Promise<string> {
    let text = '';
    for await (const slice of this.slices()) text += slice;
    return text;
  }

  *#safely({ lines }: MetricFamily): Generator<string, void, undefined> {
    let iterator: Iterator<string> | null = null;
    for (;;) {
      let next: IteratorResult<string> | null = null;
      this.#attempt('metrics', () => {
        iterator ??= lines()[Symbol.iterator]();
        next = iterator.next();
      });
      // It has failed or ended; its earlier lines are valid.
      const result = next as IteratorResult<string> | null;
      if (result === null || result.done === true) return;
      yield result.value;
    }
  }
}

/** As in a sample: `{a="1",b="2"}`, empty for none. */
function labelText(labels: Labels): string {
  let text = '';
  for (const [name, value] of Object.entries(labels)) text += `${text === '' ? '{' : ','}${name}="${escapeLabel(value)}"`;
  return text === '' ? '' : `${text}}`;
}

const NEEDS_ESCAPE = /[\\\n"]/;

function escapeLabel(value: string): string {
  return NEEDS_ESCAPE.test(value) ? value.replaceAll('\\', '\\\\').replaceAll('\n', '\\n').replaceAll('"', '\\"') : value;
}

/** As the text format spells them. */
export function valueText(value: number): string {
  if (value === Infinity) return '+Inf';
  return value === -Infinity ? '-Inf' : String(value);
}

const PREFIX = 'eco_egress_';

type ValueType = 'counter' | 'gauge';
/** The series of a metric at a scrape; others are absent. Where there may be thousands, they are yielded one by one. */
type ReadSeries<Value> = () => Iterable<readonly [labels: Labels, value: Value]>;

/** Adds a counter or gauge, whose series are read at every scrape. The name gets the prefix of all metrics. */
export function metric(
  exposition: Exposition,
  type: ValueType,
  name: string,
  help: string,
  labelNames: readonly string[],
  read: ReadSeries<number>,
): void {
  const full = PREFIX + name;
  exposition.add({
    name: full,
    help,
    type,
    labelNames,
    *lines() {
      for (const [labels, value] of read()) yield `${full}${labelText(labels)} ${valueText(value)}\n`;
    },
  });
}

/** As `metric`, with one label: `read` has its values, each with that of the series. */
export function labelled(
  exposition: Exposition,
  type: ValueType,
  name: string,
  help: string,
  label: string,
  read: () => Iterable<readonly [string, number]>,
): void {
  metric(exposition, type, name, help, [label], () => Array.from(read(), ([text, value]) => [{ [label]: text }, value]));
}

/** As `metric`, without labels; null: it is absent from this scrape. */
export function single(exposition: Exposition, type: ValueType, name: string, help: string, read: () => number | null): void {
  metric(exposition, type, name, help, [], () => {
    const value = read();
    return value === null ? [] : [[{}, value]];
  });
}

/** Adds a histogram, whose cells are read at every scrape: those with an observation. The name gets the prefix of all metrics. */
export function histogram(
  exposition: Exposition,
  name: string,
  help: string,
  labelNames: readonly string[],
  read: ReadSeries<HistogramCell>,
): void {
  const full = PREFIX + name;
  exposition.add({
    name: full,
    help,
    type: 'histogram',
    labelNames,
    *lines() {
      // The lines of one cell belong together: they are from one moment.
      for (const [labels, cell] of read()) if (cell.count > 0) yield* cellLines(full, labels, cell);
    },
  });
}

function cellLines(name: string, labels: Labels, { bounds, counts, sum, count }: HistogramCell): string[] {
  const own = labelText(labels);
  const rest = own === '' ? '}' : `,${own.slice(1)}`;
  const lines: string[] = [];
  let cumulative = 0;
  bounds.forEach((bound, bucket) => {
    cumulative += counts[bucket] ?? 0;
    lines.push(`${name}_bucket{le="${bound}"${rest} ${valueText(cumulative)}\n`);
  });
  lines.push(
    `${name}_bucket{le="+Inf"${rest} ${valueText(count)}\n`,
    `${name}_sum${own} ${valueText(sum)}\n`,
    `${name}_count${own} ${valueText(count)}\n`,
  );
  return lines;
}
