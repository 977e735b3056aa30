/** What a check found: one line each, with a stable code where something is wrong; and the run of all checks, into a report. */
import { Fault, type FaultCode } from '../errors.ts';

/** What only the doctor says; the rest are codes of faults. docs/doctor.md lists them, a test holds the two together. */
export const DOCTOR_CODES = [
  'config-faulty',
  'config-warning',
  'dns-captured',
  'steered-loop',
  'certificate-expiring',
  'private-behind-nat',
  'source-address-wrong',
  'source-address-unjudged',
  'partner-silent',
  'partner-error',
  'nat-ports-exhausted',
  'nat-ports-short',
  'clock-skew',
  'files-limit',
  'proxy-not-ours',
  'proxy-speaks-tls',
  'proxy-silent',
  'connect-answered-by-sidecar',
  'https-proxy-on-plain-port',
  'proxy-url-malformed',
  'proxy-scheme-missing',
  'variables-differ',
  'variable-in-one-case',
  'no-proxy-hides-partner',
  'no-proxy-address-hides-partner',
  'no-proxy-incomplete',
  'java-ignores-proxy',
  'java-proxy-malformed',
  'java-hides-partner',
  'node-ignores-proxy',
  'reached-past-proxy',
  'reached-through-sidecar',
] as const;

/** A stable word for what is wrong: one of the doctor's own, or that of a Fault. */
export type DoctorCode = (typeof DOCTOR_CODES)[number] | FaultCode;

/** One line of the report. */
export interface DoctorFinding {
  /** `warn`: it works, and deserves a look. `skipped`: it does not apply here, or something before it is broken. */
  readonly state: 'ok' | 'warn' | 'fail' | 'skipped';
  /** What was looked at: `eco-sit.telus.internal:443`; '' for this host as a whole. */
  readonly subject: string;
  /** Null with `ok` and `skipped`. */
  readonly code: DoctorCode | null;
  readonly seen: string;
  /** What to do; null where nothing is to be done. */
  readonly advice: string | null;
}

/** It works. */
export function ok(subject: string, seen: string): DoctorFinding {
  return { state: 'ok', subject, code: null, seen, advice: null };
}

/** It was not tried; `seen` says why. */
export function skipped(subject: string, seen: string, advice: string | null = null): DoctorFinding {
  return { state: 'skipped', subject, code: null, seen, advice };
}

/** It works, and deserves a look. */
export function warn(subject: string, code: DoctorCode, seen: string, advice: string): DoctorFinding {
  return { state: 'warn', subject, code, seen, advice };
}

/** It is broken. */
export function fail(subject: string, code: DoctorCode, seen: string, advice: string | null): DoctorFinding {
  return { state: 'fail', subject, code, seen, advice };
}

/** The partner was reached, and answered: with 5xx it says that something is broken on its side. */
export function judgeStatus(subject: string, seen: string, status: number): DoctorFinding {
  if (status < 500) return ok(subject, seen);
  return warn(subject, 'partner-error', seen, 'The route to the partner works; the partner, or a gateway of it, answers that it cannot serve this. Ask the partner, and give the time.');
}

/** What a fault is about need not be said twice. */
export function failBy(subject: string, fault: Fault): DoctorFinding {
  return fail(subject, fault.code, fault.subject === subject ? fault.detail : fault.message, fault.remedy);
}

/** What all checks found. */
export interface DoctorReport {
  /** No cross among the findings. */
  readonly ok: boolean;
  readonly mode: 'proxy' | 'client';
  /** Where from, and what was looked at: one sentence. */
  readonly about: string;
  readonly checks: readonly CheckResult[];
}

/** What the doctor has to say, whole. */
export function createReport(mode: DoctorReport['mode'], about: string, checks: readonly CheckResult[]): DoctorReport {
  return { ok: checks.every(({ findings }) => findings.every(({ state }) => state !== 'fail')), mode, about, checks };
}

// Runs checks, each as soon as those it needs have ended.

/** A check of an examination; `run` does not reject for what it finds broken. */
export interface Check<Context> {
  /** Stable: for --only and --json. */
  readonly name: string;
  /** What it asks, for people. */
  readonly title: string;
  /** Checks whose results it uses; they stand earlier in the table. */
  readonly needs: readonly string[];
  /** A line for each thing that was looked at; empty: there is nothing of the kind. */
  run(context: Context): Promise<readonly DoctorFinding[]>;
}

interface CheckResult {
  readonly name: string;
  readonly title: string;
  readonly findings: readonly DoctorFinding[];
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
