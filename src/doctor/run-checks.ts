/** Runs checks, each as soon as those it needs have ended. */
import { Fault } from '../errors.ts';
import { failBy, type Finding } from './finding.ts';

export interface Check<Context> {
  /** Stable: for --only and --json. */
  readonly name: string;
  /** What it asks, for people. */
  readonly title: string;
  /** Checks whose results it uses; they stand earlier in the table. */
  readonly needs: readonly string[];
  /** A line for each thing that was looked at; empty: there is nothing of the kind. */
  run(context: Context): Promise<readonly Finding[]>;
}

export interface CheckResult {
  readonly name: string;
  readonly title: string;
  readonly findings: readonly Finding[];
}

/**
 * In the order of the table. A check that was not asked for and is needed runs
 * too, and appears only with what is wrong.
 *
 * @param only names of checks; empty: all
 */
export async function runChecks<Context>(checks: readonly Check<Context>[], context: Context, only: readonly string[]): Promise<CheckResult[]> {
  const wanted = new Set(only.length === 0 ? checks.map(({ name }) => name) : only);
  const running = new Map<string, Promise<CheckResult>>();
  const byName = new Map(checks.map((check) => [check.name, check]));

  const start = (name: string): Promise<CheckResult> => {
    const known = running.get(name);
    if (known !== undefined) return known;
    const check = byName.get(name);
    if (check === undefined) throw new Error(`there is no check ${name}`);
    const result = Promise.all(check.needs.map(start)).then(() => runOne(check, context));
    running.set(name, result);
    return result;
  };
  for (const name of wanted) void start(name);

  const results = await Promise.all(checks.flatMap(({ name }) => running.get(name) ?? []));
  return results.flatMap((result) => {
    const findings = wanted.has(result.name) ? result.findings : result.findings.filter(({ state }) => state === 'fail');
    return findings.length === 0 ? [] : [{ ...result, findings }];
  });
}

/** Whatever a check throws is a finding: the others go on. */
async function runOne<Context>(check: Check<Context>, context: Context): Promise<CheckResult> {
  const { name, title } = check;
  try {
    return { name, title, findings: await check.run(context) };
  } catch (error) {
    return { name, title, findings: [failBy('', Fault.from(error))] };
  }
}
