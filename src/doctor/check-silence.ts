/** Why a partner does not answer, where its connects time out: what the source address and the ports say together. */
import { judgeSilence, SILENCE } from '../source-ip/judge-silence.ts';
import { type Examination, targetKey } from './examination.ts';
import { type Finding, warn } from './finding.ts';

export function checkSilence({ targets, trail }: Examination): Finding[] {
  const { ports, silent, verification } = trail;
  const cause = judgeSilence({ source: verification?.result ?? 'off', stale: false, ports: ports ?? { used: 0, limit: null } });
  if (cause === null) return [];
  const { words, check } = SILENCE[cause];
  return targets.filter((target) => silent.has(targetKey(target))).map(({ where }) => warn(where, 'partner-silent', `${cause}: ${words}`, `${check.charAt(0).toUpperCase()}${check.slice(1)}.`));
}
