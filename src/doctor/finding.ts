/** The findings of checks, one line each, with a stable code for a problem; and the run of all checks, into a report. */
import { Fault, type FaultCode } from '../errors.ts';

/** Codes of the doctor only; the rest are codes of faults. docs/doctor.md lists them; a test compares the two. */
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

/** A stable code of a problem: one of the doctor, or that of a Fault. */
export type DoctorCode = (typeof DOCTOR_CODES)[number] | FaultCode;

/** One line of the report. */
export interface DoctorFinding {
  /** `warn`: it works, with a warning. `skipped`: it does not apply here, or an earlier step is broken. */
  readonly state: 'ok' | 'warn' | 'fail' | 'skipped';
  /** The subject: `eco-sit.telus.internal:443`; '' for this host as a whole. */
  readonly subject: string;
  /** Null with `ok` and `skipped`. */
  readonly code: DoctorCode | null;
  readonly seen: string;
  /** The remedy; null: none is needed. */
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

/** It works, with a warning. */
export function warn(subject: string, code: DoctorCode, seen: string, advice: string): DoctorFinding {
  return { state: 'warn', subject, code, seen, advice };
}

/** It is broken. */
export function fail(subject: string, code: DoctorCode, seen: string, advice: string | null): DoctorFinding {
  return { state: 'fail', subject, code, seen, advice };
}

/** The partner was reached, and answered: 5xx means that something is broken on its side. */
export function judgeStatus(subject: string, seen: string, status: number): DoctorFinding {
  if (status < 500) return ok(subject, seen);
  return warn(
    subject,
    'partner-error',
    seen,
    'The route to the partner works; the partner, or a gateway of it, answers that it cannot serve this. Ask the partner, and give the time.',
  );
}

/** The subject of a fault is not repeated. */
export function failBy(subject: string, fault: Fault): DoctorFinding {
  return fail(subject, fault.code, fault.subject === subject ? fault.detail : fault.message, fault.remedy);
}

/** What all checks found. */
export interface DoctorReport {
  /** No finding is a failure. */
  readonly ok: boolean;
  readonly mode: 'proxy' | 'client';
  /** The place and the subject of the examination: one sentence. */
  readonly about: string;
  readonly checks: readonly CheckResult[];
}

/** The whole report of the doctor. */
export function createReport(mode: DoctorReport['mode'], about: string, checks: readonly CheckResult[]): DoctorReport {
  return { ok: checks.every(({ findings }) => findings.every(({ state }) => state !== 'fail')), mode, about, checks };
}

// Runs checks, each as soon as those it needs have ended.

/** A check of an examination; `run` does not reject for what it finds broken. */
export interface Check<Context> {
  /** Stable: for --only and --json. */
  readonly name: string;
  /** The question it answers, for people. */
  readonly title: string;
  /** Checks whose results it uses; they are earlier in the table. */
  readonly needs: readonly string[];
  /** A line for each subject; empty: there is none. */
  run(context: Context): Promise<readonly DoctorFinding[]>;
}

interface CheckResult {
  readonly name: string;
  readonly title: string;
  readonly findings: readonly DoctorFinding[];
}

/**
 * In the order of the table. A check that was not requested but is needed runs
 * too, and only its problems are shown.
 *
 * @param only names of checks; empty: all
 */
export async function runChecks<Context>(
  checks: readonly Check<Context>[],
  context: Context,
  only: readonly string[],
): Promise<CheckResult[]> {
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

/** An exception of a check is a finding: the others continue. */
async function runOne<Context>(check: Check<Context>, context: Context): Promise<CheckResult> {
  const { name, title } = check;
  try {
    return { name, title, findings: await check.run(context) };
  } catch (error) {
    return { name, title, findings: [failBy('', Fault.from(error))] };
  }
}
