/**
 * All metrics as a scraper reads them, in the Prometheus text format 0.0.4,
 * written in slices: between two of them everybody else has a turn of the
 * event loop, however many series there are and however many ask at once
 * (docs/decisions/0040-metrics-and-log.md).
 */
import { Turns } from '../turns.ts';
import type { Attempt } from './attempt.ts';

export type Labels = Readonly<Record<string, string>>;

export interface MetricDefinition {
  readonly name: string;
  readonly help: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly labelNames: readonly string[];
}

export interface Family extends MetricDefinition {
  /** Its lines at this moment, each with its line feed. May be given up between two of them. */
  readonly lines: () => Iterable<string>;
}

/** Metrics that somebody else keeps: in the text format, with what it defines. */
export interface ForeignMetrics {
  readonly definitions: () => readonly MetricDefinition[];
  readonly text: () => Promise<string>;
}

/** So many lines take about a millisecond. */
const LINES_A_SLICE = 500;

export class Exposition {
  /** Of the answer to a scrape. */
  readonly contentType = 'text/plain; version=0.0.4; charset=utf-8';
  readonly #attempt: Attempt;
  readonly #families: Family[] = [];
  readonly #foreign: ForeignMetrics[] = [];
  readonly #turns = new Turns();

  /** @param attempt what fails in one family leaves the others as they are */
  constructor(attempt: Attempt) {
    this.#attempt = attempt;
  }

  add(family: Family): void {
    this.#families.push(family);
  }

  addForeign(metrics: ForeignMetrics): void {
    this.#foreign.push(metrics);
  }

  definitions(): MetricDefinition[] {
    return [...this.#families.map(({ name, help, type, labelNames }) => ({ name, help, type, labelNames })), ...this.#foreign.flatMap(({ definitions }) => definitions())];
  }

  /** The text in pieces. Each is made when it is asked for, so that a slow reader costs one of them and not all. */
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

  *#safely({ lines }: Family): Generator<string, void, undefined> {
    let iterator: Iterator<string> | null = null;
    for (;;) {
      let next: IteratorResult<string> | null = null;
      this.#attempt('metrics', () => {
        iterator ??= lines()[Symbol.iterator]();
        next = iterator.next();
      });
      // It has failed or it is over; what it had said before was true.
      const result = next as IteratorResult<string> | null;
      if (result === null || result.done === true) return;
      yield result.value;
    }
  }
}

/** As a sample has them: `{a="1",b="2"}`, empty for none. */
export function labelText(labels: Labels): string {
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
