/** The verdict as text for people: first the responsible part, then the reason, then the remedy. Pure. */
import { escapeText } from '../telemetry/safe-text.ts';
import { type IncidentVerdict, PART_NAMES } from './judge.ts';

/** Always one printable text, also with data from partners and clients; ends with a line break. */
export function formatIncident({ sentence, at, instance, evidence, alternatives, ruledOut, also, next, runbook, letter }: IncidentVerdict): string {
  const blocks: string[][] = [[sentence, `Asked at ${at}${instance === '-' ? '' : ` of ${instance}`}.`]];
  const add = (title: string, lines: readonly string[]): void => {
    if (lines.length > 0) blocks.push([title, ...lines]);
  };
  add('What else it may be:', alternatives.map(({ part, why }) => `  - ${PART_NAMES[part]}: ${why}`));
  add('Evidence (UTC; source ports are those before the NAT):', evidence.map(({ at: when, text }) => `  ${when ?? '-'.padEnd(24)}  ${text}`));
  add('Also found:', also.map((one) => `  - ${one.sentence}`));
  add('Ruled out:', ruledOut.map(({ part, why }) => `  - ${PART_NAMES[part]}: ${why}`));
  add('What to do:', [...next.map((step) => `  - ${step}`), `  - ${runbook}`]);
  if (letter !== null) add('To send to the partner:', letter.split('\n').map((line) => `  ${line}`));
  return `${blocks.map((lines) => lines.map((line) => escapeText(line).replaceAll('\\"', '"')).join('\n')).join('\n\n')}\n`;
}
