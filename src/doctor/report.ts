/** What the doctor has to say, whole. */
import type { CheckResult } from './run-checks.ts';

export interface Report {
  /** No cross among the findings. */
  readonly ok: boolean;
  readonly mode: 'proxy' | 'client';
  /** Where from, and what was looked at: one sentence. */
  readonly about: string;
  readonly checks: readonly CheckResult[];
}

export function createReport(mode: Report['mode'], about: string, checks: readonly CheckResult[]): Report {
  return { ok: checks.every(({ findings }) => findings.every(({ state }) => state !== 'fail')), mode, about, checks };
}
