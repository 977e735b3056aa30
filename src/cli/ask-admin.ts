/** Requests of commands to the proxy that runs here: finds its admin port, and sends one request. */
import { request } from 'node:http';
import type { ListenAddress } from '../config/config.ts';
import { draftOf } from '../config/draft.ts';
import { describeFileError } from '../config/named-files.ts';
import { readListenAddress } from '../config/read-address.ts';
import { readUtf8 } from '../config/read-files.ts';
import { readTree } from '../config/read-tree.ts';
import { readYaml } from '../config/read-yaml.ts';
import { formatAuthority, reachable } from '../targets/host.ts';
import { printableLine } from '../telemetry/safe-text.ts';
import { type CommandIo, EXIT } from './io.ts';
import { chooseConfigFile } from './open-config.ts';

/** Which proxy is asked. */
export interface AskedAdmin {
  readonly config?: string;
  /** `127.0.0.1:9090`; else the one of the file. */
  readonly admin?: string;
}

/** The answer. */
export interface AdminAnswer {
  /** `127.0.0.1:9090` */
  readonly place: string;
  readonly status: number;
  readonly body: string;
}

/** Why there is no answer. */
export interface AdminSilence {
  /** Of the command. */
  readonly exitCode: number;
  /** One sentence, or more. */
  readonly problem: string;
  /** The address that did not answer; null: the address is not known. */
  readonly place: string | null;
  /** The result of the connection. */
  readonly reason: string;
}

/** @param timeout ms. @returns an exit code where there is no answer; why is on stderr */
export async function askAdmin(
  method: 'GET' | 'POST',
  path: string,
  options: AskedAdmin,
  timeout: number,
  io: CommandIo,
): Promise<AdminAnswer | number> {
  const answer = await tryAdmin(method, path, options, timeout, io);
  return 'problem' in answer ? tellSilence(answer, io) : answer;
}

/** Says why there is no answer. @returns the exit code of the command */
export function tellSilence({ exitCode, problem }: AdminSilence, io: CommandIo): number {
  io.stderr.write(`${problem}\n`);
  return exitCode;
}

/** As `askAdmin`; the caller reports errors. */
export async function tryAdmin(
  method: 'GET' | 'POST',
  path: string,
  options: AskedAdmin,
  timeout: number,
  io: CommandIo,
): Promise<AdminAnswer | AdminSilence> {
  const admin = chooseAdmin(options, io);
  if (typeof admin === 'string') return { exitCode: EXIT.usage, problem: admin, place: null, reason: '' };
  const place = formatAuthority(admin.host, admin.port);
  try {
    return { place, ...(await askOnPort(method, path, admin, timeout)) };
  } catch (error) {
    const reason = describeConnectError(error, timeout);
    return {
      exitCode: EXIT.failed,
      problem: `No proxy answers at ${place}: ${reason}. Run this where the proxy runs, and name its admin port with --admin if the file has another by now.`,
      place,
      reason,
    };
  }
}

/** @returns what is wrong with the arguments */
function chooseAdmin({ admin, config }: AskedAdmin, io: CommandIo): ListenAddress | string {
  if (admin !== undefined) {
    const read = readListenAddress(admin);
    return 'value' in read ? read.value : `--admin: ${read.problem} ${read.instead}`;
  }
  const file = chooseConfigFile(config, io.env);
  try {
    const { document, lines } = readYaml(readUtf8(file), () => {});
    // Also of a file with faults; the default if it has no readable value.
    const { listeners } = draftOf(document === null ? {} : readTree(document, lines, io.env, () => {}).value);
    const found = (listeners.admin ?? draftOf({}).listeners.admin)?.address;
    if (found === undefined || found.port === 0)
      return `${file} does not say which admin port the proxy has. Name it with --admin address:port.`;
    return { ...found, host: reachable(found.host) };
  } catch (error) {
    return `${file} cannot be read: ${describeFileError(error)}. Name another with --config, or the admin port with --admin.`;
  }
}

async function askOnPort(
  method: string,
  path: string,
  { host, port }: ListenAddress,
  timeout: number,
): Promise<Omit<AdminAnswer, 'place'>> {
  const asked = request({ host, port, method, path, agent: false, signal: AbortSignal.timeout(timeout) });
  return new Promise((resolve, reject) => {
    asked.on('error', reject);
    asked.on('response', (response) => {
      readAdminAnswer(response).then((body) => {
        resolve({ status: response.statusCode ?? 0, body });
      }, reject);
    });
    asked.end();
  });
}

/** The admin port's own answers are a hundredth of it; another server's may have no end. */
const LONGEST_ADMIN_ANSWER = 64 * 1024 * 1024;

async function readAdminAnswer(response: AsyncIterable<Buffer>): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of response) {
    chunks.push(chunk);
    length += chunk.length;
    if (length > LONGEST_ADMIN_ANSWER) throw new Error('its answer is longer than any of eco-egress');
  }
  return Buffer.concat(chunks).toString();
}

/** The message of an unexpected answer. */
export function readProblem(body: string): string {
  const { title, detail } = parseAnswer(body);
  return typeof title === 'string' && typeof detail === 'string'
    ? printableLine(`${title}. ${detail}`)
    : 'it is not the admin port of an eco-egress.';
}

/** Empty if it is not a JSON object. */
export function parseAnswer(body: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(body);
    return typeof value === 'object' && value !== null ? (value as Readonly<Record<string, unknown>>) : {};
  } catch {
    return {};
  }
}

/** Whether an answer has these lists: one of another program or version may lack some. */
export function hasLists(answer: Readonly<Record<string, unknown>>, names: readonly string[]): boolean {
  return names.every((name) => Array.isArray(answer[name]));
}

function describeConnectError(error: unknown, timeout: number): string {
  const { code, message } = error as NodeJS.ErrnoException;
  return code === 'ECONNREFUSED' ? 'nothing listens there' : code === 'ABORT_ERR' ? `no answer within ${timeout / 1000} s` : message;
}
