/** `eco-egress reload`: has the proxy that runs here load its file again, and prints what came of it. */
import { readFileSync } from 'node:fs';
import { request } from 'node:http';
import { text as textOf } from 'node:stream/consumers';
import type { ListenAddress } from '../config/config.ts';
import { draftOf } from '../config/draft.ts';
import { describeReadError, type ReadFile } from '../config/named-files.ts';
import { readListenAddress } from '../config/read-address.ts';
import { type Environment, readTree } from '../config/read-tree.ts';
import { readYaml } from '../config/read-yaml.ts';
import type { OutcomeReport } from '../reload/outcome.ts';
import { formatAuthority } from '../targets/host.ts';
import { escapeText } from '../telemetry/safe-text.ts';
import { type CommandIo, EXIT } from './io.ts';
import { chooseConfigFile } from './open-config.ts';

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
  const admin = chooseAdmin(options, io);
  if (typeof admin === 'string') {
    io.stderr.write(`${admin}\n`);
    return EXIT.usage;
  }
  const place = formatAuthority(admin.host, admin.port);
  let answer: { status: number; body: string };
  try {
    answer = await askForReload(admin);
  } catch (error) {
    io.stderr.write(`No proxy answers at ${place}: ${describeConnectError(error)}. Run this where the proxy runs, and name its admin port with --admin if the file has another by now.\n`);
    return EXIT.failed;
  }
  const report = parseOutcome(answer.body);
  if (report === null) {
    io.stderr.write(`${place} did not reload (${answer.status}): ${readProblem(answer.body)}\n`);
    return EXIT.failed;
  }
  io.stdout.write(options.json === true ? `${JSON.stringify(report, null, 2)}\n` : formatOutcome(report));
  if (report.result === 'refused') return EXIT.failed;
  return report.needRestart.length > 0 ? EXIT.partly : EXIT.ok;
}

/** @returns what is wrong with the arguments */
function chooseAdmin({ admin, config }: ReloadOptions, io: CommandIo): ListenAddress | string {
  if (admin !== undefined) {
    const read = readListenAddress(admin);
    return 'value' in read ? read.value : `--admin: ${read.problem} ${read.instead}`;
  }
  const file = chooseConfigFile(config, io.env);
  try {
    const found = findAdmin({ file, env: io.env, readFile: (path) => readFileSync(path, 'utf8') });
    if (found === null || found.port === 0) return `${file} does not say which admin port the proxy has. Name it with --admin address:port.`;
    return { ...found, host: found.host === '0.0.0.0' ? '127.0.0.1' : found.host === '::' ? '::1' : found.host };
  } catch (error) {
    return `${file} cannot be read: ${describeReadError(error)}. Name another with --config, or the admin port with --admin.`;
  }
}

async function askForReload({ host, port }: ListenAddress): Promise<{ status: number; body: string }> {
  const asked = request({ host, port, method: 'POST', path: '/reload', agent: false, signal: AbortSignal.timeout(RELOAD_TIMEOUT) });
  return new Promise((resolve, reject) => {
    asked.on('error', reject);
    asked.on('response', (response) => {
      textOf(response).then((body) => { resolve({ status: response.statusCode ?? 0, body }); }, reject);
    });
    asked.end();
  });
}

function parseOutcome(body: string): OutcomeReport | null {
  const parsed = parse(body);
  return parsed['result'] === 'applied' || parsed['result'] === 'refused' ? (parsed as unknown as OutcomeReport) : null;
}

function readProblem(body: string): string {
  const { title, detail } = parse(body);
  return typeof title === 'string' && typeof detail === 'string' ? `${title}. ${detail}` : 'it is not the admin port of an eco-egress.';
}

function parse(body: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(body);
    return typeof value === 'object' && value !== null ? (value as Readonly<Record<string, unknown>>) : {};
  } catch {
    return {};
  }
}

function describeConnectError(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  return code === 'ECONNREFUSED' ? 'nothing listens there' : code === 'ABORT_ERR' ? `no answer within ${RELOAD_TIMEOUT / 1000} s` : message;
}

type ReportedChange = OutcomeReport['newlyDenied'][number];

const LONGEST_SHOWN_VALUE = 60;

/** What came of a reload, for the person who asked for it. */
function formatOutcome(report: OutcomeReport): string {
  const lines: string[] = [];
  if (report.result === 'refused') {
    lines.push('Refused: the previous configuration stays active.', ...report.reasons.map((reason) => `  ${escapeText(reason)}`));
  } else {
    const { file, hash, before, differences, needRestart, warnings, replayed, tunnelsCut } = report;
    lines.push(`Applied: ${file ?? 'the configuration'} is in force (${hash}).`);
    lines.push(differences.length > 0 ? 'Changed:' : before === hash ? 'No value has changed.' : 'Only secrets have changed.');
    for (const { path, before: old, after } of differences) lines.push(`  ${escapeText(path)}: ${showChangedValue(old)} -> ${showChangedValue(after)}`);
    if (needRestart.length > 0) lines.push(`Waits for the next start: ${needRestart.join(', ')}.`);
    lines.push(`Compared with the latest requests (${replayed}): ${count(report.newlyDenied)} would now be denied, ${count(report.newlyAllowed)} would now pass.`);
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
  return escapeText(`${client} (${clientAddress}) ${form} ${host}:${port}${code === 'ok' ? '' : `, ${code}`}, ${times} ${times === 1 ? 'request' : 'requests'}`);
}

function showChangedValue(value: unknown): string {
  if (value === null) return 'not set';
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  return escapeText(text.length > LONGEST_SHOWN_VALUE ? `${text.slice(0, LONGEST_SHOWN_VALUE)}…` : text);
}

// Where the proxy of a configuration file listens for operators, also while the file has faults.

/** The default where the file says nothing that can be read. Never throws for what stands in the file. */
function findAdmin({ file, env, readFile }: { readonly file: string; readonly env: Environment; readonly readFile: ReadFile }): ListenAddress | null {
  const { document, lines } = readYaml(readFile(file), () => {});
  const draft = draftOf(document === null ? {} : readTree(document, lines, env, () => {}).value);
  return (draft.listeners.admin ?? draftOf({}).listeners.admin)?.address ?? null;
}
