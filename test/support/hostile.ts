/** Attacks on a whole proxy over raw sockets: what they must come to, and that nothing of them got through. */
import { parseList } from 'structured-headers';
import type { Test } from 'tap';
import { FAULTS, type FaultCode } from '../../src/errors.ts';
import type { Lab, LogLine } from './lab.ts';
import { ECO } from './lab.ts';
import { openWire } from './wire.ts';

export interface RawAnswer {
  readonly status: number;
  /** The status line. */
  readonly line: string;
  /** Names in lower case; of repeated fields the last. */
  readonly headers: ReadonlyMap<string, string>;
  readonly body: string;
}

/** Splits what a connection said into its answers; takes lengths from Content-Length alone. @throws {Error} for bytes that belong to none */
export function readAnswers(heard: string): RawAnswer[] {
  const answers: RawAnswer[] = [];
  for (let rest = heard; rest !== ''; ) {
    const end = rest.indexOf('\r\n\r\n');
    if (!rest.startsWith('HTTP/1.1 ') || end === -1) throw new Error(`not an answer: ${JSON.stringify(rest.slice(0, 200))}`);
    const [line = '', ...fields] = rest.slice(0, end).split('\r\n');
    const headers = new Map(fields.map((field) => [field.slice(0, field.indexOf(':')).toLowerCase(), field.slice(field.indexOf(':') + 1).trim()]));
    const length = Number(headers.get('content-length') ?? 0);
    const body = rest.slice(end + 4, end + 4 + length);
    if (body.length < length) throw new Error(`the body of ${line} is cut off`);
    answers.push({ status: Number(line.slice(9, 12)), line, headers, body });
    rest = rest.slice(end + 4 + length);
  }
  return answers;
}

/** `host:port` of the plain upstream, which the policy of the lab permits. */
export const httpAuthority = (lab: Lab): string => `${ECO}:${lab.upstream.httpPort}`;

/** A good request that asks for the connection to end, so that every attack before it has an end to wait for. */
export const lastRequest = (lab: Lab, path = '/last'): string =>
  `GET http://${httpAuthority(lab)}${path} HTTP/1.1\r\nHost: ${httpAuthority(lab)}\r\nConnection: close\r\n\r\n`;

/** Lines of requests and connections, without notices. */
export const accessLines = (lab: Lab): LogLine[] => lab.log.filter((line) => 'requestId' in line);

export interface Attacked {
  readonly answers: readonly RawAnswer[];
  /** Everything said, as it came. */
  readonly heard: string;
  /** Access lines written meanwhile, without that of the good request behind the attack. */
  readonly lines: readonly LogLine[];
  /** Requests that reached the upstream meanwhile, without the good one. */
  readonly reached: readonly string[];
  /** The good request behind the attack was answered: the connection is still in step. */
  readonly inStep: boolean;
}

/**
 * Sends bytes and a good request right behind them, in one segment, and waits for the connection to end.
 * @param behind false: nothing is sent behind, and the proxy has to end the connection by itself
 */
export async function attack(t: Test, lab: Lab, bytes: string | Buffer, behind = true): Promise<Attacked> {
  const [logged, reached] = [accessLines(lab).length, lab.upstream.requests.length];
  const wire = await openWire(t, lab.port);
  const text = typeof bytes === 'string' ? bytes : bytes.toString('latin1');
  wire.send(behind ? text + lastRequest(lab) : text);
  const { heard } = await wire.ended;
  const answers = readAnswers(heard);
  const requests = lab.upstream.requests.slice(reached).map((request) => `${request.method ?? ''} ${request.url ?? ''}`);
  const inStep = requests.includes('GET /last') && answers.at(-1)?.status === 200;
  if (answers.length > 0) await lab.logged((line) => line['requestId'] === answers[0]?.headers.get('x-request-id') || line['path'] === '/last');
  const lines = accessLines(lab).slice(logged).filter((line) => line['path'] !== '/last');
  return { answers, heard, lines, reached: requests.filter((request) => request !== 'GET /last'), inStep };
}

export interface Expected {
  readonly code: FaultCode;
  /** `closed`: the connection ends with the refusal. `in step`: the next request on it is served. */
  readonly then: 'closed' | 'in step';
  /** Fields of the log line, besides the code. */
  readonly line?: Record<string, unknown>;
}

/** One clear refusal, in every place where it has to be told, and nothing of it at the upstream. */
export async function refuses(t: Test, lab: Lab, name: string, bytes: string | Buffer, { code, then, line = {} }: Expected): Promise<Attacked> {
  const connections = lab.upstream.connections;
  const attacked = await attack(t, lab, bytes);
  const { answers, lines, reached, inStep } = attacked;
  const { status, proxyError } = FAULTS[code];
  const [refusal, ...more] = answers;
  const [[proxy, parameters] = []] = parseList(refusal?.headers.get('proxy-status') ?? '');
  const seen = {
    line: refusal?.line.replace(/: .*/, ''),
    code: refusal?.line.split(': ')[1],
    proxy: String(proxy),
    error: String(parameters?.get('error')),
    problem: refusal === undefined ? null : (JSON.parse(refusal.body) as Record<string, unknown>),
    reached,
    lines: lines.map((entry) => entry.code),
    inStep,
    answers: 1 + more.length,
  };
  t.match(
    seen,
    {
      line: new RegExp(`^HTTP/1\\.1 ${status} [A-Z]`),
      code,
      proxy: 'eco-egress',
      error: proxyError,
      problem: { type: `urn:eco-egress:error:${code}`, status, code, title: FAULTS[code].title },
      reached: { length: 0 },
      lines: { length: 1, 0: code },
      inStep: then === 'in step',
      answers: then === 'in step' ? 2 : 1,
    },
    name,
  );
  t.match(lines[0] ?? {}, { code, status, ...line }, `${name}: the line`);
  if (then === 'closed') t.equal(lab.upstream.connections, connections, `${name}: no connection to the upstream`);
  return attacked;
}

/** The process lives and serves. */
export async function stillServes(t: Test, lab: Lab): Promise<void> {
  const wire = await openWire(t, lab.port);
  wire.send(lastRequest(lab, '/alive'));
  const { heard } = await wire.ended;
  t.match(heard, /^HTTP\/1\.1 200 /, 'a good request still works');
}
