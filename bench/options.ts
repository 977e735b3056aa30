/** The command line of the benchmark. */
import { parseArgs } from 'node:util';

export interface Options {
  /** Names of works and contenders; empty: all. */
  readonly only: readonly string[];
  readonly contenders: readonly string[];
  readonly runs: number;
  /** A part of the operations of each work. */
  readonly scale: number;
  /** The same for the run before the measured ones: code has to be compiled, also for a quick look. */
  readonly warmUp: number;
  /** Whether works that take minutes are run without being named. */
  readonly long: boolean;
  readonly profile: boolean;
  /** Instead of the works: what impolite partners do to each contender. */
  readonly partners: boolean;
  /** Instead of the works: ours with circuit breaker, rates, self-test and overload protection on, against ours without. */
  readonly safeguards: boolean;
  readonly writeDocs: boolean;
  /** Result files to report instead of running anything. */
  readonly from: readonly string[];
  /** Where results go. */
  readonly out: string | null;
  readonly help: boolean;
}

export const USAGE = `npm run bench -- [OPTIONS]

  --only WORK,…        these works with all their shapes, or single shapes; the default is all, with --quick all but the long ones
  --contenders NAME,…  these proxies, as far as they are installed; the default is all
  --runs N             of each contender in each work, interleaved (default 5); works about latency have 20 short ones
  --quick              2 runs and a tenth of the operations: to see that it works
  --scale X            this part of the operations, above 0 and up to 1
  --long               with --quick: first-second, cores and memory too
  --profile            ours alone, once per work, and where its CPU time went
  --partners           instead: what impolite partners do to ours, squid, haproxy and nginx, as a table
  --safeguards         instead: what circuit breaker, rates, self-test and overload protection cost ours, as a table
  --write-docs         put the report into docs/performance.md and bench/results/published.md
  --from FILE,…        report these results again; later ones replace earlier ones
  --out DIRECTORY      for the results (default bench/results)
`;

/** Throws with what to change. Whether works and contenders exist is for the caller to say. */
export function parseOptions(args: readonly string[]): Options {
  const { values } = parseArgs({
    args: [...args],
    options: {
      only: { type: 'string', default: '' },
      contenders: { type: 'string', default: '' },
      runs: { type: 'string' },
      quick: { type: 'boolean', default: false },
      scale: { type: 'string' },
      long: { type: 'boolean', default: false },
      profile: { type: 'boolean', default: false },
      partners: { type: 'boolean', default: false },
      safeguards: { type: 'boolean', default: false },
      'write-docs': { type: 'boolean', default: false },
      from: { type: 'string', default: '' },
      out: { type: 'string' },
      help: { type: 'boolean', default: false },
    },
  });
  const runs = Number(values.runs ?? (values.quick ? 2 : 5));
  const scale = Number(values.scale ?? (values.quick ? 0.1 : 1));
  const warmUp = values.scale === undefined && values.quick ? 0.5 : scale;
  if (!Number.isInteger(runs) || runs < 1) throw new Error(`--runs ${values.runs}: a whole number of 1 or more`);
  if (!(scale > 0 && scale <= 1)) throw new Error(`--scale ${values.scale}: a number above 0 and up to 1`);
  return { only: listOf(values.only), contenders: listOf(values.contenders), runs, scale, warmUp, long: values.long || !values.quick, profile: values.profile, partners: values.partners, safeguards: values.safeguards, writeDocs: values['write-docs'], from: listOf(values.from), out: values.out ?? null, help: values.help };
}

/** The entries of `all` with these names, in the order of `all`; the name of a work selects all its shapes. Throws for an unknown name. */
export function choose<T extends { readonly name: string; readonly of?: string }>(all: readonly T[], names: readonly string[], kind: string): T[] {
  const unknown = names.find((name) => !all.some((one) => one.name === name));
  if (unknown !== undefined) throw new Error(`There is no ${kind} ${unknown}; there are ${all.map(({ name }) => name).join(', ')}`);
  return names.length === 0 ? [...all] : all.filter(({ name, of = name }) => names.includes(name) || names.includes(of));
}

function listOf(value: string): string[] {
  return value.split(',').filter((name) => name !== '');
}
