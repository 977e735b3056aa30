/** `eco-egress reload`: makes the proxy that runs here load its file again, and prints the result. */
import type { OutcomeReport } from '../reload/outcome.ts';
import { escapeText, printableJson } from '../telemetry/safe-text.ts';
import { askAdmin, hasLists, parseAnswer, readProblem } from './ask-admin.ts';
import { type CommandIo, EXIT } from './io.ts';

/** Arguments of `reload`, as written. */
export interface ReloadOptions {
  readonly config?: string;
  /** `127.0.0.1:9090` */
  readonly admin?: string;
  readonly json?: boolean;
}

/** Ms; certificates and key files may be on a slow disk. */
const RELOAD_TIMEOUT = 60_000;

/**
 * Resolves to 0 when the file is in force, to 3 when some of its changes wait
 * for the next start, to 1 when it was refused or no proxy answers, to 2 for
 * wrong arguments.
 */
export async function runReload(options: ReloadOptions, io: CommandIo): Promise<number> {
  const answer = await askAdmin('POST', '/reload', options, RELOAD_TIMEOUT, io);
  if (typeof answer === 'number') return answer;
  const report = parseOutcome(answer.body);
  if (report === null) {
    io.stderr.write(`${answer.place} did not reload (${answer.status}): ${readProblem(answer.body)}\n`);
    return EXIT.failed;
  }
  io.stdout.write(options.json === true ? printableJson(report) : formatOutcome(report));
  if (report.result === 'refused') return EXIT.failed;
  return report.needRestart.length > 0 ? EXIT.partly : EXIT.ok;
}

function parseOutcome(body: string): OutcomeReport | null {
  const parsed = parseAnswer(body);
  const own = parsed['result'] === 'refused' ? ['reasons'] : ['differences', 'needRestart', 'warnings'];
  return hasLists(parsed, ['newlyDenied', 'newlyAllowed', ...own]) ? (parsed as unknown as OutcomeReport) : null;
}

type ReportedChange = OutcomeReport['newlyDenied'][number];

const LONGEST_SHOWN_VALUE = 60;

/** The result of a reload, for people. */
function formatOutcome(report: OutcomeReport): string {
  const lines: string[] = [];
  if (report.result === 'refused') {
    lines.push('Refused: the previous configuration stays active.', ...report.reasons.map((reason) => `  ${escapeText(reason)}`));
  } else {
    const { file, hash, differences, needRestart, warnings, replayed, tunnelsCut } = report;
    lines.push(`Applied: ${file ?? 'the configuration'} is in force (${hash}).`);
    lines.push(differences.length > 0 ? 'Changed:' : 'No value has changed.');
    for (const { path, before: old, after } of differences)
      lines.push(`  ${escapeText(path)}: ${showChangedValue(old)} -> ${showChangedValue(after)}`);
    if (needRestart.length > 0) lines.push(`Waits for the next start: ${needRestart.join(', ')}.`);
    lines.push(
      `Compared with the latest requests (${replayed}): ${count(report.newlyDenied)} would now be denied, ${count(report.newlyAllowed)} would now pass.`,
    );
    if (tunnelsCut > 0) lines.push(`Tunnels closed because they are no longer permitted: ${tunnelsCut}.`);
    for (const warning of warnings) lines.push(`Warning: ${escapeText(warning)}`);
  }
  for (const change of report.newlyDenied) lines.push(`  denied now: ${describeChange(change)}`);
  for (const change of report.newlyAllowed) lines.push(`  allowed now: ${describeChange(change)}`);
  return `${lines.join('\n')}\n`;
}

function count(changes: readonly ReportedChange[]): number {
  return changes.reduce((sum, change) => sum + change.count, 0);
}

function describeChange({ client, clientAddress, form, host, port, code, count: times }: ReportedChange): string {
  return escapeText(
    `${client} (${clientAddress}) ${form} ${host}:${port}${code === 'ok' ? '' : `, ${code}`}, ${times} ${times === 1 ? 'request' : 'requests'}`,
  );
}

function showChangedValue(value: unknown): string {
  if (value === null) return 'not set';
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  return escapeText(text.length > LONGEST_SHOWN_VALUE ? `${text.slice(0, LONGEST_SHOWN_VALUE)}…` : text);
}
