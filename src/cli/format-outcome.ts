/** What came of a reload, for the person who asked for it. */
import type { OutcomeReport } from '../reload/outcome.ts';
import { escapeText } from '../telemetry/safe-text.ts';

type Change = OutcomeReport['newlyDenied'][number];

const LONGEST_VALUE = 60;

export function formatOutcome(report: OutcomeReport): string {
  const lines: string[] = [];
  if (report.result === 'refused') {
    lines.push('Refused: the previous configuration stays active.', ...report.reasons.map((reason) => `  ${escapeText(reason)}`));
  } else {
    const { file, hash, before, differences, needRestart, warnings, replayed, tunnelsCut } = report;
    lines.push(`Applied: ${file ?? 'the configuration'} is in force (${hash}).`);
    lines.push(differences.length > 0 ? 'Changed:' : before === hash ? 'No value has changed.' : 'Only secrets have changed.');
    for (const { path, before: old, after } of differences) lines.push(`  ${escapeText(path)}: ${show(old)} -> ${show(after)}`);
    if (needRestart.length > 0) lines.push(`Waits for the next start: ${needRestart.join(', ')}.`);
    lines.push(`Of the latest ${replayed} requests, ${count(report.newlyDenied)} would be denied now that passed, and ${count(report.newlyAllowed)} would pass that were denied.`);
    if (tunnelsCut > 0) lines.push(`Tunnels closed because they are no longer permitted: ${tunnelsCut}.`);
    for (const warning of warnings) lines.push(`Warning: ${escapeText(warning)}`);
  }
  for (const change of report.newlyDenied) lines.push(`  denied now: ${describe(change)}`);
  for (const change of report.newlyAllowed) lines.push(`  allowed now: ${describe(change)}`);
  return `${lines.join('\n')}\n`;
}

function count(changes: readonly Change[]): number {
  return changes.reduce((sum, change) => sum + change.count, 0);
}

function describe({ client, clientAddress, form, host, port, code, count: times }: Change): string {
  return escapeText(`${client} (${clientAddress}) ${form} ${host}:${port}${code === 'ok' ? '' : `, ${code}`}, ${times} ${times === 1 ? 'request' : 'requests'}`);
}

function show(value: unknown): string {
  if (value === null) return 'not set';
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  return escapeText(text.length > LONGEST_VALUE ? `${text.slice(0, LONGEST_VALUE)}…` : text);
}
