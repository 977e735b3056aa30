/** Asks the echo endpoint several times over, and says what that proves: several addresses of a NAT may take turns. */
import type { ProbeConfig } from '../config/config.ts';
import { Fault } from '../errors.ts';
import type { FaultCode } from '../errors.ts';
import type { SourceResult } from '../telemetry/telemetry.ts';
import type { Sighting } from './ask-endpoint.ts';
import { judge, remarkOn } from './judge.ts';
import { type Cause, findCauses } from './likely-causes.ts';

export interface VerifyRequest {
  readonly probe: ProbeConfig;
  readonly expected: readonly string[];
  readonly times: number;
}

export interface Observation {
  readonly result: SourceResult;
  readonly seen: string | null;
  /** Where the endpoint was dialled; null where it did not come to that. */
  readonly endpointAddress: string | null;
  /** Our own end of the connection, before any NAT. */
  readonly localAddress: string | null;
  /** Milliseconds of each phase that happened. */
  readonly phases: { readonly dns?: number; readonly tcp?: number; readonly hop?: number; readonly tls?: number; readonly answer?: number };
  /** Why the address is not known. */
  readonly code: FaultCode | null;
  readonly reason: string | null;
}

export interface Verification {
  /** `match` where every observation is one; otherwise the worst of them. */
  readonly result: SourceResult;
  readonly expected: readonly string[];
  readonly url: string;
  /** Hops on the way. */
  readonly via: readonly string[];
  readonly observations: readonly Observation[];
  readonly remarks: readonly string[];
  /** Empty with `match`. */
  readonly causes: readonly Cause[];
}

/** The worst first. */
const WORST: readonly SourceResult[] = ['mismatch', 'unknown', 'unjudged', 'match'];

/** Never rejects for what an endpoint does. */
export async function verifySource({ probe, expected, times }: VerifyRequest, ask: (probe: ProbeConfig) => Promise<Sighting>): Promise<Verification> {
  const observations: Observation[] = [];
  for (let time = 0; time < times; time += 1) observations.push(await observe(probe, expected, ask));
  const result = WORST.find((candidate) => observations.some((observation) => observation.result === candidate)) ?? 'unknown';
  const seen = [...new Set(observations.flatMap((observation) => observation.seen ?? []))];
  const via = probe.via.map(({ name }) => name);
  return {
    result,
    expected,
    url: urlOf(probe),
    via,
    observations,
    remarks: seen.filter((address) => judge(address, expected) !== 'match').flatMap((address) => remarkOn(address) ?? []),
    causes: result === 'match' ? [] : findCauses({ expected, seen, via, codes: observations.flatMap(({ code }) => code ?? []) }),
  };
}

async function observe(probe: ProbeConfig, expected: readonly string[], ask: (probe: ProbeConfig) => Promise<Sighting>): Promise<Observation> {
  try {
    const { address, endpointAddress, localAddress, dnsMs, tcpMs, hopMs, tlsMs, answerMs } = await ask(probe);
    const happened = Object.entries({ dns: dnsMs, tcp: tcpMs, hop: hopMs, tls: tlsMs, answer: answerMs }).filter(([, ms]) => ms >= 0);
    const phases = Object.fromEntries(happened.map(([name, ms]) => [name, Math.round(ms * 100) / 100]));
    return { result: judge(address, expected), seen: address, endpointAddress, localAddress, phases, code: null, reason: null };
  } catch (error) {
    const { code, advice } = Fault.from(error);
    return { result: 'unknown', seen: null, endpointAddress: null, localAddress: null, phases: {}, code, reason: advice };
  }
}

/** Without its query, where a key may stand. */
function urlOf({ scheme, host, port, path }: ProbeConfig): string {
  const usual = scheme === 'https' ? 443 : 80;
  return `${scheme}://${host.includes(':') ? `[${host}]` : host}${port === usual ? '' : `:${port}`}${path.split('?')[0] ?? ''}`;
}
