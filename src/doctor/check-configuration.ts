/** The configuration file: it is valid by now, and its warnings are told. */
import type { Examination } from './examination.ts';
import { ok, warn, type Finding } from './finding.ts';

export function checkConfiguration({ file, hash, warnings }: Pick<Examination, 'file' | 'hash' | 'warnings'>): Finding[] {
  const valid = ok(file, `is valid (${hash})`);
  return [valid, ...warnings.map(({ line, path, problem, instead }) => warn(line === null ? file : `${file}:${line}`, 'config-warning', `${path}: ${problem}`, instead))];
}
