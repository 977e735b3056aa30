/** Faults and warnings as a person reads them in a terminal: place, problem, what to write, and the line itself. */
import { styleText } from 'node:util';
import type { Finding } from './finding.ts';

/** Colours only where the stream is a terminal; NO_COLOR is honoured. */
export function formatFindings(findings: readonly Finding[], kind: 'fault' | 'warning', stream: NodeJS.WritableStream): string {
  const paint = (style: Parameters<typeof styleText>[0], text: string) => styleText(style, text, { stream });
  return findings
    .map((finding) => {
      const place = finding.line === null ? finding.file : `${finding.file}:${finding.line}:${finding.column ?? 1}`;
      const lines = [`${paint('bold', place)}${finding.path === '' ? '' : `  ${finding.path}`}`];
      lines.push(`  ${paint(kind === 'fault' ? 'red' : 'yellow', finding.problem)}`);
      if (finding.instead !== '') lines.push(`  ${finding.instead}`);
      if (finding.excerpt !== null) lines.push(...excerpt(finding, finding.excerpt, (text) => paint('dim', text)));
      return `${lines.join('\n')}\n`;
    })
    .join('\n');
}

const WIDEST = 110;

function excerpt({ line, column }: Finding, { text, length }: NonNullable<Finding['excerpt']>, dim: (text: string) => string): string[] {
  const start = (column ?? 1) - 1;
  // Far along a long line, the window follows the caret.
  const from = start > WIDEST - 20 ? start - 40 : 0;
  const window = printable(text.slice(from, from + WIDEST));
  const carets = '^'.repeat(Math.max(1, Math.min(length, WIDEST - (start - from))));
  const number = String(line ?? 0).padStart(5);
  return [dim(`${number} | ${window}`), dim(`      | ${' '.repeat(start - from)}${carets}`)];
}

/** One column per character, and nothing that moves the cursor. */
function printable(text: string): string {
  return text.replace(/\t/g, ' ').replace(/\p{C}/gu, '?');
}
