/**
 * Whether the tests notice when a guard is gone: npm run mutants
 * Each mutant of mutants.ts is put into a copy of the project, and the tests
 * that it names have to fail there. They have to pass without it first.
 * Ends with 1 where a mutant survived or could not be tried.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readOptions, refuse } from '../support/command-line.ts';
import { Copy, killAll, type Outcome } from './copy.ts';
import { type Mutant, mutate, StaleMutant } from './mutant.ts';
import { INVARIANTS, QUICK } from './mutants.ts';

const ROOT = join(import.meta.dirname, '../..');
/** Test files at once: many of them start servers and measure how much is held. */
const AT_ONCE = 2;

const USAGE = `npm run mutants -- [--only NAME]… [--invariant N]… [--quick] [--list]
  --only NAME    one mutant
  --invariant N  those of one invariant, by its number in docs/invariants.md
  --quick        two of each invariant, whose tests start no whole proxy
  --list         print which, and run nothing
`;
const values = readOptions(
  {
    only: { type: 'string', multiple: true, default: [] },
    invariant: { type: 'string', multiple: true, default: [] },
    quick: { type: 'boolean', default: false },
    list: { type: 'boolean', default: false },
  },
  USAGE,
);

const say = (line: string): void => {
  process.stdout.write(`${line}\n`);
};

/** What each names must be there: a name that is misspelt must not look like a run that found nothing. */
function choose(): [invariant: string, mutants: readonly Mutant[]][] {
  const numbers = INVARIANTS.map((_, index) => String(index + 1));
  const names = INVARIANTS.flatMap(([, mutants]) => mutants.map(({ name }) => name));
  const unknown = [...values.only.filter((name) => !names.includes(name)), ...values.invariant.filter((number) => !numbers.includes(number))];
  if (unknown.length > 0) refuse(`There is no ${unknown.join(', ')}. --list shows names and numbers.`, USAGE);
  const wanted = (mutant: Mutant): boolean => (values.only.length === 0 || values.only.includes(mutant.name)) && (!values.quick || QUICK.has(mutant));
  return INVARIANTS.filter((_, index) => values.invariant.length === 0 || values.invariant.includes(String(index + 1))).map(([invariant, mutants]) => [invariant, mutants.filter(wanted)]);
}

/** Runs `work` for each item, so many at once, each of these with a copy of its own. */
async function forEach<T>(items: readonly T[], copies: readonly Copy[], work: (item: T, copy: Copy) => Promise<void>): Promise<void> {
  const queue = [...items];
  await Promise.all(
    copies.map(async (copy) => {
      for (let item = queue.shift(); item !== undefined; item = queue.shift()) await work(item, copy);
    }),
  );
}

const seconds = (since: number): string => `${((performance.now() - since) / 1000).toFixed(1)} s`;

async function run(mutants: readonly Mutant[], copies: readonly Copy[]): Promise<boolean> {
  const began = performance.now();
  const tests = [...new Set(mutants.flatMap((mutant) => mutant.tests))];
  const failing = new Map<string, Outcome>();
  await forEach(tests, copies, async (test, copy) => {
    const outcome = await copy.run(test, null);
    if (outcome.result !== 'passed') failing.set(test, outcome);
  });
  for (const [test, { result, title }] of failing) say(`FAILS UNMUTATED ${test} (${result}): ${title}`);
  say(`${tests.length} test files without a mutant: ${tests.length - failing.size} pass, ${seconds(began)}`);

  let killed = 0;
  const left: string[] = [];
  await forEach(mutants, copies, async (mutant, copy) => {
    const since = performance.now();
    const problem = await survives(mutant, copy, failing);
    if (typeof problem === 'object') {
      killed += 1;
      say(`killed   ${mutant.name.padEnd(34)} ${seconds(since).padStart(7)}  ${problem.by}`);
    } else {
      left.push(mutant.name);
      say(`SURVIVED ${mutant.name.padEnd(34)} ${seconds(since).padStart(7)}  ${problem}`);
    }
  });
  say(`${mutants.length} mutants: ${killed} killed, ${left.length} not${left.length === 0 ? '' : ` (${left.join(', ')})`}; ${seconds(began)}`);
  return left.length === 0 && failing.size === 0;
}

/** @returns which assertion killed it; as a text, why it is not known to be dead */
async function survives(mutant: Mutant, copy: Copy, failing: ReadonlyMap<string, Outcome>): Promise<{ readonly by: string } | string> {
  let by = '';
  for (const test of mutant.tests) {
    if (failing.has(test)) return `${test} fails without it, too`;
    const { result, title } = await copy.run(test, mutant);
    if (result === 'passed') return `${test} passes with it`;
    if (result !== 'failed') return `no verdict, ${result} in ${test}: ${title}`;
    by ||= `${test}: ${title}`;
  }
  return { by };
}

const chosen = choose();
const mutants = chosen.flatMap(([, some]) => some);
// All that are stale, at once and before anything is run.
const stale = mutants.flatMap((mutant) => {
  try {
    mutate(readFileSync(join(ROOT, mutant.file), 'utf8'), mutant);
    return [];
  } catch (error) {
    if (error instanceof StaleMutant) return [error.message];
    throw error;
  }
});
for (const message of stale) process.stderr.write(`${message}\n`);
if (stale.length > 0) process.exit(1);

if (values.list) {
  for (const [invariant, some] of chosen) {
    if (some.length > 0) say(invariant);
    for (const { name, file, tests } of some) say(`  ${name.padEnd(34)} ${file}  ${tests.join(' ')}`);
  }
} else {
  const scratch = mkdtempSync(join(tmpdir(), 'eco-egress-mutants-'));
  process.on('exit', () => {
    killAll();
    rmSync(scratch, { recursive: true, force: true, maxRetries: 5 });
  });
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => process.exit(1));
  const copies = Array.from({ length: AT_ONCE }, (_, index) => new Copy(ROOT, join(scratch, String(index))));
  if (!(await run(mutants, copies))) process.exitCode = 1;
}
