/** Asks with curl from a host of the lab, as a person would, and reads what came of it. */
import type { Network } from './network.ts';
import type { HostName } from './topology.ts';

export interface CurlAnswer {
  /** Curl's exit code: 0 well, 28 out of time, others in its manual. */
  readonly exit: number | null;
  /** Status of the last response; 0 where none came. */
  readonly status: number;
  /** Status that a proxy gave to CONNECT; 0 where none was asked. */
  readonly connectStatus: number;
  /** In curl's words; '' where all is well. */
  readonly error: string;
  /** Bytes of the body. */
  readonly received: number;
  readonly body: string;
}

/** What ECO SIT says about a request that reached it. */
export interface Seen {
  readonly sourceAddress: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
}

/** @param args as on curl's command line; without one of their own, they end after ten seconds */
export async function curl(network: Network<HostName>, from: HostName, args: readonly string[]): Promise<CurlAnswer> {
  const { code, stdout, stderr } = await network.exec(from, ['curl', '--disable', '--silent', '--max-time', '10', '--write-out', '%{stderr}%{json}', ...args]);
  const report = JSON.parse(stderr) as { http_code: number; http_connect: number; errormsg: string | null; size_download: number };
  return { exit: code, status: report.http_code, connectStatus: report.http_connect, error: report.errormsg ?? '', received: report.size_download, body: stdout };
}

/** Throws what went wrong where the request did not reach ECO SIT. */
export function seenBy(answer: CurlAnswer): Seen {
  if (answer.exit !== 0 || answer.status !== 200) throw new Error(`curl exited ${String(answer.exit)}: ${answer.error || `status ${answer.status}`} ${answer.body}`);
  return JSON.parse(answer.body) as Seen;
}

/** The proxy that passed it on, by its name in Via (RFC 9110 §7.6.3). */
export function relayOf({ headers }: Seen): string {
  return headers['via']?.replace(/^1\.1 /, '') ?? 'nobody';
}
