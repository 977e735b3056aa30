/** What `eco-egress doctor` finds broken, asked on a host of the lab. */
import { deepEqual, equal } from 'node:assert/strict';
import type { DoctorFinding, DoctorReport } from '../../src/doctor/finding.ts';
import type { Output } from './network.ts';

/** The doctor exits as it should, and its crosses are these, `check code`, each once. @returns all that it warns of or finds broken */
export function readDoctor({ code, stdout, stderr }: Output, ...crosses: readonly string[]): DoctorFinding[] {
  equal(stderr, '');
  const { checks } = JSON.parse(stdout) as DoctorReport;
  const found = checks.flatMap(({ name, findings }) => findings.filter(({ state }) => state === 'fail').map((finding) => `${name} ${finding.code ?? ''}`));
  deepEqual([...new Set(found)], crosses, stdout);
  equal(code, crosses.length === 0 ? 0 : 1);
  return checks.flatMap(({ findings }) => findings.filter(({ code: named }) => named !== null));
}
