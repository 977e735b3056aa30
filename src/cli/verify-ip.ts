/** `eco-egress verify-ip`: asks an echo endpoint, by the way that requests take, which source address it sees. */
import { isIP } from 'node:net';
import { type Config, NO_TLS, type ProbeConfig } from '../config/config.ts';
import { readAddress, readProbeUrl } from '../config/read-address.ts';
import { withIdleService } from '../service.ts';
import { formatVerification, type Verification, type VerifyRequest } from '../source-ip/verify.ts';
import { printableJson, printableLine } from '../telemetry/safe-text.ts';
import { type CommandIo, EXIT, misuse } from './io.ts';
import { openConfig } from './open-config.ts';

/** Arguments of `verify-ip`, as written. */
export interface VerifyIpOptions {
  readonly config?: string;
  /** Instead of what the file expects. */
  readonly expect?: readonly string[];
  /** Instead of the endpoint that the file names. */
  readonly url?: string;
  readonly times: string;
  readonly json?: boolean;
}

const MOST_TIMES = 100;
/** Of a probe that the file does not configure. */
const TIMEOUT = 10_000;

/** Resolves to 0 when every answer is an expected address, to 1 when not, to 2 for a faulty file or question. */
export async function runVerifyIp(options: VerifyIpOptions, io: CommandIo): Promise<number> {
  const opened = openConfig(options.config, io);
  if (opened === null) return EXIT.usage;
  const request = readRequest(options, opened.config);
  if (typeof request === 'string') return misuse(io, request);
  const verification = await withIdleService(opened.config, ({ sourceProof }) => sourceProof.verify(request));
  io.stdout.write(options.json === true ? printableJson(verification) : printVerification(verification));
  return verification.result === 'match' ? EXIT.ok : EXIT.failed;
}

/** Safe to print. */
export function printVerification(verification: Verification): string {
  return formatVerification(verification).split('\n').map(printableLine).join('\n');
}

/** @returns what is wrong with the question */
function readRequest(options: VerifyIpOptions, { sourceIp }: Config): VerifyRequest | string {
  const times = /^\d{1,3}$/.test(options.times) ? Number(options.times) : 0;
  if (times < 1 || times > MOST_TIMES) return `--times takes a whole number from 1 to ${MOST_TIMES}.`;
  const expected: string[] = [];
  for (const text of (options.expect ?? []).flatMap((given) => given.split(','))) {
    const address = readAddress(text.trim());
    if ('problem' in address) return `--expect: ${address.problem} ${address.instead}`;
    expected.push(address.value);
  }
  const probe = options.url === undefined ? (sourceIp?.probe ?? null) : readUrl(options.url, sourceIp?.probe ?? null);
  if (probe === null)
    return 'No endpoint is configured: set sourceIp.probe.url, or give --url. Any URL will do that answers with the address it sees, such as that of npx eco-egress echo.';
  if (typeof probe === 'string') return probe;
  return { probe, times, expected: expected.length > 0 ? expected : (sourceIp?.expected ?? []) };
}

/** The endpoint that was given, by the hops that the file has for its own. */
function readUrl(url: string, configured: ProbeConfig | null): ProbeConfig | string {
  const read = readProbeUrl(url);
  if ('problem' in read) return `--url: ${read.problem} ${read.instead}`;
  const base = configured ?? { host: '', every: 0, timeout: TIMEOUT, field: null, via: [], addresses: null, tls: NO_TLS };
  // The name in its certificate, and the certificate that we show, are for one endpoint.
  const tls = read.value.host === base.host ? base.tls : { ...NO_TLS, ca: base.tls.ca };
  // Who writes an address means it, wherever it is.
  return { ...base, ...read.value, tls, ...(isIP(read.value.host) === 0 ? {} : { addresses: [read.value.host] }) };
}
