/** A report for people: a mark for each subject, the result, and the remedy. */
import { styleText } from 'node:util';
import { escapeUnsafe } from '../telemetry/safe-text.ts';
import type { DoctorFinding, DoctorReport } from './finding.ts';

const STATE_MARK = { ok: '✓', warn: '!', fail: '✗', skipped: '–' } as const;
const STATE_STYLE = { ok: 'green', warn: 'yellow', fail: 'red', skipped: 'dim' } as const;
/** Longer subjects move the result to the right. */
const WIDEST_SUBJECT = 40;

/** Ends with a line break; safe to print. Colours only where the stream is a terminal. */
export function formatReport({ about, checks }: DoctorReport, stream: NodeJS.WritableStream): string {
  const paint = (style: Parameters<typeof styleText>[0], text: string): string => styleText(style, text, { stream });
  const findings = checks.flatMap((check) => check.findings);
  const width = Math.min(WIDEST_SUBJECT, Math.max(0, ...findings.map(({ subject }) => subject.length)));
  const line = ({ state, subject, code, seen, advice }: DoctorFinding): string => {
    const told = `${code === null ? '' : `${code}: `}${seen}`;
    const place = subject === '' ? '' : `${printableText(subject).padEnd(width)}  `;
    const first = `  ${paint(STATE_STYLE[state], STATE_MARK[state])} ${place}${printableText(told)}`;
    return advice === null ? first : `${first}\n    ${' '.repeat(place.length)}${paint('bold', `→ ${printableText(advice)}`)}`;
  };
  const blocks = checks.map(({ name, title, findings: found }) =>
    [`${paint('bold', title)} ${paint('dim', `(${name})`)}`, ...found.map(line)].join('\n'),
  );
  return `${printableText(about)}\n\n${blocks.join('\n\n')}\n\n${summariseFindings(findings)}\n`;
}

function summariseFindings(findings: readonly DoctorFinding[]): string {
  const count = (state: DoctorFinding['state']): number => findings.filter((finding) => finding.state === state).length;
  const broken = count('fail');
  const rest = `${count('ok')} ok, ${count('warn')} ${count('warn') === 1 ? 'warning' : 'warnings'}, ${count('skipped')} not tried`;
  if (broken === 0) return `Nothing is broken: ${rest}.`;
  return `${broken === 1 ? 'One thing is' : `${broken} things are`} broken: ${rest}.`;
}

/** No characters that move the cursor, for any data from a server. */
function printableText(text: string): string {
  return escapeUnsafe(text.replace(/\p{Cc}/gu, ' '));
}
