/** A verification as text for people: what was seen, how, and what to do about it. */
import type { Observation, Verification } from './verify.ts';

export function formatVerification(verification: Verification): string {
  const { url, via, observations, remarks, causes } = verification;
  const way = via.length === 0 ? 'directly' : `by ${via.join(', then ')}`;
  const lines = [summarise(verification), '', `  asked ${url}, ${way}`, ...observations.map(lineOf)];
  if (remarks.length > 0) lines.push('', ...remarks.map((remark) => `  ${remark}`));
  if (causes.length > 0) lines.push('', 'What it may be, and what to do:', '', ...causes.flatMap(({ cause, check }) => [`  - ${cause}`, `    ${check}`]));
  return `${lines.join('\n')}\n`;
}

function summarise({ result, expected, observations }: Verification): string {
  const seen = [...new Set(observations.flatMap((observation) => observation.seen ?? []))].join(' and ');
  const should = expected.join(' or ');
  switch (result) {
    case 'match':
      return `The source address is right: ${seen}.`;
    case 'mismatch':
      return `The source address is WRONG: ${seen} ${seen.includes(' and ') ? 'were' : 'was'} seen, ${should} is expected.`;
    case 'unknown':
      return `The source address is not known: ${observations.filter((observation) => observation.seen === null).length} of ${observations.length} questions had no answer.`;
    case 'unjudged':
      return `The source address is ${seen}. Nothing is expected, so nothing is proven.`;
  }
}

function lineOf({ result, seen, endpointAddress, localAddress, phases, code, reason }: Observation, index: number): string {
  const number = String(index + 1).padStart(3);
  if (seen === null) return `${number}  ${result}  ${code ?? ''}: ${reason ?? ''}`;
  const times = Object.entries(phases).map(([phase, ms]) => `${phase} ${ms} ms`);
  return `${number}  ${result}  ${seen}  seen by ${endpointAddress ?? '-'}, asked from ${localAddress ?? '-'}  (${times.join(', ')})`;
}
