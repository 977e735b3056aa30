/** `eco-egress doctor`: tries the whole route from this host, and names the broken part; or asks the proxy that runs here what is wrong. */
import type { ConfigFinding } from '../config/finding.ts';
import { loadConfig } from '../config/load.ts';
import { describeFileError } from '../config/named-files.ts';
import { readProbeUrl } from '../config/read-address.ts';
import { readUtf8 } from '../config/read-files.ts';
import { readDuration } from '../config/read-scalar.ts';
import { findPemFault, readCertificates } from '../config/tls-files.ts';
import type { ClientTarget } from '../doctor/client-checks.ts';
import type { HostFacts } from '../doctor/examination.ts';
import { CLIENT_CHECKS, examineClient } from '../doctor/examine-client.ts';
import { examineProxy, PROXY_CHECKS } from '../doctor/examine-proxy.ts';
import { createReport, type DoctorReport, fail } from '../doctor/finding.ts';
import { formatReport } from '../doctor/format-report.ts';
import { type ProxyAddress, readProxyUrl } from '../doctor/proxy-address.ts';
import { formatIncident, type IncidentVerdict, judgeNoProxy } from '../incident/judge.ts';
import { formatAuthority } from '../targets/host.ts';
import { printableJson } from '../telemetry/safe-text.ts';
import { hasLists, parseAnswer, readProblem, tellSilence, tryAdmin } from './ask-admin.ts';
import { type CommandIo, EXIT, misuse } from './io.ts';
import { chooseConfigFile, readOpenFileLimit } from './open-config.ts';

/** Arguments of `doctor`, as written; `timeout` is a duration such as `5s`. */
export interface DoctorOptions {
  readonly config?: string;
  /** Examine from a client's host or pod: no configuration, only the environment. */
  readonly client?: boolean;
  readonly proxy?: string;
  readonly target?: string;
  readonly ca?: string;
  readonly timeout: string;
  readonly only?: readonly string[];
  /** Ask the proxy that runs here what is wrong: of one destination, or of all (true). */
  readonly incident?: string | true;
  /** Its admin port, `127.0.0.1:9090`. */
  readonly admin?: string;
  readonly json?: boolean;
}

/** An invalid question: one sentence, and exit code 2. */
class Misuse extends Error {}

/** Resolves to 0 without a failed check, to 1 with one, to 2 for a faulty file or question. */
export async function runDoctor(options: DoctorOptions, io: CommandIo): Promise<number> {
  try {
    refuseWithoutEffect(options);
    if (options.incident !== undefined) return await askIncident(options, io, async () => (await lookFromProxy(options, io))[0]);
    const [report, code] = options.client === true ? await lookFromClient(options, io) : await lookFromProxy(options, io);
    io.stdout.write(options.json === true ? printableJson(report) : formatReport(report, io.stdout));
    return code;
  } catch (error) {
    if (!(error instanceof Misuse)) throw error;
    return misuse(io, error.message);
  }
}

/** @throws {Misuse} for an option that would be ignored beside the others, or without another */
function refuseWithoutEffect({ client = false, incident, config, ca, admin }: DoctorOptions): void {
  if (client && incident !== undefined) throw new Misuse('--client and --incident exclude each other: choose one.');
  if (client && config !== undefined) throw new Misuse('--client and --config exclude each other: a client has its environment only.');
  if (!client && ca !== undefined) throw new Misuse('--ca needs --client: the proxy has tls.caFile of each destination.');
  if (incident === undefined && admin !== undefined) throw new Misuse('--admin needs --incident, which asks the proxy that runs here.');
}

type DoctorOutcome = readonly [DoctorReport, number];

const withExitCode = (report: DoctorReport): DoctorOutcome => [report, report.ok ? EXIT.ok : EXIT.failed];

async function lookFromProxy(options: DoctorOptions, io: CommandIo): Promise<DoctorOutcome> {
  const only = readOnly(options, PROXY_CHECKS);
  const timeout = readTimeout(options);
  const proxy = options.proxy === undefined ? null : readProxy('--proxy', options.proxy);
  const target = options.target === undefined ? null : readClientTarget(options.target);
  const file = chooseConfigFile(options.config, io.env);
  const loaded = loadConfig({ file, env: io.env });
  if (!loaded.ok) return [faulty(file, loaded.faults), EXIT.usage];
  return withExitCode(
    await examineProxy({ loaded, file, host: factsOf(io), proxy, asked: target === null ? [] : [target], timeout, only }),
  );
}

async function lookFromClient(options: DoctorOptions, io: CommandIo): Promise<DoctorOutcome> {
  const only = readOnly(options, CLIENT_CHECKS);
  const timeout = readTimeout(options);
  if (options.target === undefined)
    throw new Misuse('--client needs --target URL: what the client asks for, such as https://eco-sit.telus.internal.');
  const target = readClientTarget(options.target);
  return withExitCode(
    await examineClient({
      target,
      proxy: chooseClientProxy(options, target, io.env),
      host: factsOf(io),
      ca: options.ca === undefined ? null : readCa(options.ca),
      timeout,
      only,
    }),
  );
}

/** `--proxy`, else what programs of this environment would use. */
function chooseClientProxy({ proxy }: DoctorOptions, { scheme }: ClientTarget, env: CommandIo['env']): ProxyAddress | null {
  if (proxy !== undefined) return readProxy('--proxy', proxy);
  const name = scheme === 'https' ? 'HTTPS_PROXY' : 'HTTP_PROXY';
  const value =
    [name.toLowerCase(), name, 'all_proxy', 'ALL_PROXY'].map((spelling) => env[spelling] ?? '').find((text) => text !== '') ?? '';
  const read = value === '' ? null : readProxyUrl(value);
  // An error in a variable is a separate finding.
  return typeof read === 'string' ? null : read;
}

function readProxy(option: string, text: string): ProxyAddress {
  const read = readProxyUrl(text);
  if (typeof read === 'string') throw new Misuse(`${option}: it ${read}. Write a URL like http://127.0.0.1:3128.`);
  return read;
}

/** A URL, or only a host. */
function readClientTarget(text: string): ClientTarget {
  const read = readProbeUrl(text.includes('://') ? text : `https://${text}`);
  if ('problem' in read) throw new Misuse(`--target: ${read.problem} Write a URL like https://eco-sit.telus.internal.`);
  return { ...read.value, where: formatAuthority(read.value.host, read.value.port) };
}

function readCa(file: string): string {
  let text: string;
  try {
    text = readUtf8(file);
  } catch (error) {
    throw new Misuse(`--ca: ${file} cannot be read: ${describeFileError(error)}.`);
  }
  const fault = findPemFault(text, 'caFile');
  if (fault !== null) throw new Misuse(`--ca: ${file} ${fault.problem}. ${fault.instead}`);
  const problems: string[] = [];
  const read = readCertificates(text, [], (_, problem, instead) => problems.push(`${problem} ${instead}`));
  if (read === null) throw new Misuse(`--ca: ${file}: ${problems.join(' ')}`);
  return read.pem;
}

function readTimeout({ timeout }: DoctorOptions): number {
  const read = readDuration('positive')(timeout);
  if ('problem' in read) throw new Misuse(`--timeout: ${read.problem} ${read.instead}`);
  return read.value;
}

function readOnly({ only = [] }: DoctorOptions, checks: readonly { readonly name: string }[]): string[] {
  const names = only.flatMap((given) => given.split(',')).filter((name) => name !== '');
  const known = checks.map(({ name }) => name);
  const unknown = names.find((name) => !known.includes(name));
  if (only.length > 0 && names.length === 0) throw new Misuse(`--only names no check. There are: ${known.join(', ')}.`);
  if (unknown !== undefined) throw new Misuse(`--only: there is no check ${unknown}. There are: ${known.join(', ')}.`);
  return names;
}

function faulty(file: string, faults: readonly ConfigFinding[]): DoctorReport {
  const findings = faults.map(({ line, path, problem, instead }) =>
    fail(
      line === null ? file : `${file}:${line}`,
      'config-faulty',
      path === '' ? problem : `${path}: ${problem}`,
      instead === '' ? null : instead,
    ),
  );
  return createReport('proxy', `${file} cannot be used, so nothing else was tried.`, [
    { name: 'configuration', title: 'Configuration', findings },
  ]);
}

function factsOf({ env }: CommandIo): HostFacts {
  return { env, openFiles: readOpenFileLimit(), now: Date.now };
}

// `doctor --incident`. If no proxy answers, that is the verdict, with findings
// made without it.

/** A running proxy answers a liveness probe at once, ms. */
const ALIVE_TIMEOUT = 3_000;
/** The tries take some seconds, ms. */
const INCIDENT_TIMEOUT = 45_000;

/**
 * Resolves to 0 when nothing is wrong, to 1 when something is or the question
 * was not answered, to 2 for wrong arguments.
 *
 * @param examine the checks of `doctor` itself, for when no proxy answers
 */
async function askIncident(options: DoctorOptions, io: CommandIo, examine: () => Promise<DoctorReport>): Promise<number> {
  const alive = await tryAdmin('GET', '/healthz', options, ALIVE_TIMEOUT, io);
  if ('problem' in alive) {
    if (alive.place === null) return tellSilence(alive, io);
    const report = await examine();
    showVerdict(options, io, { ...judgeNoProxy(alive.place, alive.reason, report, Date.now()) }, report);
    return EXIT.failed;
  }
  const asked = typeof options.incident === 'string' ? `?destination=${encodeURIComponent(options.incident)}` : '';
  const answer = await tryAdmin('POST', `/incident${asked}`, options, INCIDENT_TIMEOUT, io);
  if ('problem' in answer) return tellSilence(answer, io);
  const verdict = parseVerdict(answer.body);
  if (verdict === null) {
    io.stderr.write(`${answer.place} does not say what is wrong (${answer.status}): ${readProblem(answer.body)}\n`);
    return answer.status === 400 ? EXIT.usage : EXIT.failed;
  }
  showVerdict(options, io, verdict, null);
  return verdict.state === 'ok' ? EXIT.ok : EXIT.failed;
}

function showVerdict({ json }: DoctorOptions, io: CommandIo, verdict: IncidentVerdict, report: DoctorReport | null): void {
  if (json === true) io.stdout.write(printableJson(verdict));
  else
    io.stdout.write(
      `${formatIncident(verdict)}${report === null ? '' : `\nWhat can be seen without the proxy:\n\n${formatReport(report, io.stdout)}`}`,
    );
}

function parseVerdict(body: string): IncidentVerdict | null {
  const parsed = parseAnswer(body);
  return typeof parsed['sentence'] === 'string' && hasLists(parsed, ['alternatives', 'evidence', 'also', 'ruledOut', 'next'])
    ? (parsed as unknown as IncidentVerdict)
    : null;
}
