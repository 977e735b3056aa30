/** Reads a scrape the way a scraper does: families by the parser, samples by their exact line. */
import parse from 'parse-prometheus-text-format';
import type { Family } from 'parse-prometheus-text-format';

export interface Scrape {
  readonly families: Map<string, Family>;
  /** By `name{label="value",…}`, as written. */
  readonly samples: Map<string, number>;
}

/** A name, labels whose values have no raw quote, backslash or newline, and a value. */
const SAMPLE = /^([a-z][a-z0-9_]*(?:\{[a-z_]+="(?:[^"\\\n]|\\["\\n])*"(?:,[a-z_]+="(?:[^"\\\n]|\\["\\n])*")*\})?) (\S+)$/;

/** Throws at a line that is no sample, and at a sample that comes twice. */
export function readScrape(text: string): Scrape {
  const samples = new Map<string, number>();
  for (const line of text.split('\n')) {
    if (line === '' || line.startsWith('# ')) continue;
    const [, series, value] = SAMPLE.exec(line) ?? [];
    if (series === undefined) throw new Error(`not a sample: ${line}`);
    if (samples.has(series)) throw new Error(`twice: ${series}`);
    samples.set(series, Number(value));
  }
  return { families: new Map(parse(text).map((family) => [family.name, family])), samples };
}

/** The sum of the samples of one name that have all of these labels. */
export function sumOf({ samples }: Scrape, name: string, labels: Readonly<Record<string, string>> = {}): number {
  const wanted = Object.entries(labels).map(([label, value]) => `${label}="${value}"`);
  let sum = 0;
  for (const [series, value] of samples) {
    const [own = '', rest = ''] = series.split(/(?=\{)/);
    if (own === name && wanted.every((pair) => rest.includes(pair))) sum += value;
  }
  return sum;
}
