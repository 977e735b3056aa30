/** `eco-egress reload`: has the proxy that runs here load its file again, and prints what came of it. */
import { readFileSync } from 'node:fs';
import { request } from 'node:http';
import { text as textOf } from 'node:stream/consumers';
import { readListenAddress } from '../config/read-address.ts';
import { findAdmin } from '../config/find-admin.ts';
import type { ListenAddress } from '../config/config.ts';
import { describeReadError } from '../config/read-named-file.ts';
import type { OutcomeReport } from '../reload/outcome.ts';
import { formatAuthority } from '../target/host.ts';
import { EXIT } from './exit.ts';
import { formatOutcome } from './format-outcome.ts';
import type { CommandIo } from './io.ts';
import { chooseConfigFile } from './open-config.ts';

export interface ReloadOptions {
  readonly config?: string;
  /** `127.0.0.1:9090` */
  readonly admin?: string;
  readonly json?: boolean;
}

/** Ms; certificates and key files may be on a slow disk. */
const LONGEST = 60_000;

/**
 * Resolves to 0 when the file is in force, to 3 when some of its changes wait
 * for the next start, to 1 when it was refused or no proxy answers, to 2 for
 * wrong arguments.
 */
export async function run(options: ReloadOptions, io: CommandIo): Promise<number> {
  const admin = chooseAdmin(options, io);
  if (typeof admin === 'string') {
    io.stderr.write(`${admin}\n`);
    return EXIT.usage;
  }
  const place = formatAuthority(admin.host, admin.port);
  let answer: { status: number; body: string };
  try {
    answer = await ask(admin);
  } catch (error) {
    io.stderr.write(`No proxy answers at ${place}: ${describe(error)}. Run this where the proxy runs, and name its admin port with --admin if the file has another by now.\n`);
    return EXIT.failed;
  }
  const report = readReport(answer.body);
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

async function ask({ host, port }: ListenAddress): Promise<{ status: number; body: string }> {
  const asked = request({ host, port, method: 'POST', path: '/reload', agent: false, signal: AbortSignal.timeout(LONGEST) });
  return new Promise((resolve, reject) => {
    asked.on('error', reject);
    asked.on('response', (response) => {
      textOf(response).then((body) => { resolve({ status: response.statusCode ?? 0, body }); }, reject);
    });
    asked.end();
  });
}

function readReport(body: string): OutcomeReport | null {
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

function describe(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  return code === 'ECONNREFUSED' ? 'nothing listens there' : code === 'ABORT_ERR' ? `no answer within ${LONGEST / 1000} s` : message;
}
