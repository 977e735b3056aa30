/** Queries the echo endpoint several times, reports the result, and names likely causes: a NAT may alternate between several addresses. */
import type { ProbeConfig } from '../config/config.ts';
import { Fault, type FaultCode } from '../errors.ts';
import { classifyAddress } from '../policy/address-class.ts';
import { bracketed } from '../targets/host.ts';
import type { SourceResult } from '../telemetry/telemetry.ts';
import type { Sighting } from './ask-endpoint.ts';
import { checkSeenAddress, remarkOn } from './judge.ts';

/** Which endpoint is queried, how often, and which addresses are right. */
export interface VerifyRequest {
  readonly probe: ProbeConfig;
  readonly expected: readonly string[];
  readonly times: number;
}

interface Observation {
  readonly result: SourceResult;
  readonly seen: string | null;
  /** The dialled address of the endpoint; null: it was not dialled. */
  readonly endpointAddress: string | null;
  /** Our own end of the connection, before any NAT. */
  readonly localAddress: string | null;
  /** Milliseconds of each phase that happened. */
  readonly phases: { readonly dns?: number; readonly tcp?: number; readonly hop?: number; readonly tls?: number; readonly answer?: number };
  /** Why the address is not known. */
  readonly code: FaultCode | null;
  readonly reason: string | null;
}

/** The result of all answers together. */
export interface Verification {
  /** `match` if every observation is one; otherwise the worst of them. */
  readonly result: SourceResult;
  readonly expected: readonly string[];
  readonly url: string;
  /** Hops on the route. */
  readonly via: readonly string[];
  readonly observations: readonly Observation[];
  readonly remarks: readonly string[];
  /** Empty with `match`. */
  readonly causes: readonly Cause[];
}

/** The worst first. */
const WORST: readonly SourceResult[] = ['mismatch', 'unknown', 'unjudged', 'match'];

/** Never rejects because of an endpoint. */
export async function verifySource(
  { probe, expected, times }: VerifyRequest,
  ask: (probe: ProbeConfig) => Promise<Sighting>,
): Promise<Verification> {
  const observations: Observation[] = [];
  for (let time = 0; time < times; time += 1) observations.push(await observe(probe, expected, ask));
  const result = WORST.find((candidate) => observations.some((observation) => observation.result === candidate)) ?? 'unknown';
  const seen = [...new Set(observations.flatMap((observation) => observation.seen ?? []))];
  const via = probe.via.map(({ name }) => name);
  return {
    result,
    expected,
    url: probeUrl(probe),
    via,
    observations,
    remarks: seen.filter((address) => checkSeenAddress(address, expected) !== 'match').flatMap((address) => remarkOn(address) ?? []),
    causes: result === 'match' ? [] : findCauses({ expected, seen, via, codes: observations.flatMap(({ code }) => code ?? []) }),
  };
}

async function observe(
  probe: ProbeConfig,
  expected: readonly string[],
  ask: (probe: ProbeConfig) => Promise<Sighting>,
): Promise<Observation> {
  try {
    const { address, endpointAddress, localAddress, dnsMs, tcpMs, hopMs, tlsMs, answerMs } = await ask(probe);
    const happened = Object.entries({ dns: dnsMs, tcp: tcpMs, hop: hopMs, tls: tlsMs, answer: answerMs }).filter(([, ms]) => ms >= 0);
    const phases = Object.fromEntries(happened.map(([name, ms]) => [name, Math.round(ms * 100) / 100]));
    return { result: checkSeenAddress(address, expected), seen: address, endpointAddress, localAddress, phases, code: null, reason: null };
  } catch (error) {
    const { code, advice } = Fault.from(error);
    return { result: 'unknown', seen: null, endpointAddress: null, localAddress: null, phases: {}, code, reason: advice };
  }
}

/** Without its query, which may contain a key. */
function probeUrl({ scheme, host, port, path }: ProbeConfig): string {
  const usual = scheme === 'https' ? 443 : 80;
  return `${scheme}://${bracketed(host)}${port === usual ? '' : `:${port}`}${path.split('?')[0] ?? ''}`;
}

// Why a source address is wrong or unknown, as far as observed, and what to do about it. Pure.

interface Evidence {
  readonly expected: readonly string[];
  /** The different addresses observed. */
  readonly seen: readonly string[];
  /** Hops on the route, nearest to us first. */
  readonly via: readonly string[];
  /** Of the failed probes. */
  readonly codes: readonly FaultCode[];
}

interface Cause {
  readonly cause: string;
  readonly check: string;
}

interface KnownCause extends Cause {
  readonly fits: (evidence: Evidence) => boolean;
}

const isWrong = ({ expected, seen }: Evidence): boolean => expected.length > 0 && seen.some((address) => !expected.includes(address));
const isPublic = (address: string): boolean => classifyAddress(address)?.class === 'public';
const seesPublic = ({ seen }: Evidence): boolean => seen.some(isPublic);
const failed =
  (...codes: readonly FaultCode[]) =>
  (evidence: Evidence): boolean =>
    evidence.codes.some((code) => codes.includes(code));

/** In the order in which they should be checked. */
const CAUSES: readonly KnownCause[] = [
  {
    fits: ({ expected, seen }) => expected.length === 0 && seen.length > 0,
    cause: 'nothing is expected, so nothing is proven',
    check: 'write the address that the partner permits under sourceIp.expected, or give --expect',
  },
  {
    fits: ({ expected, seen }) => seen.some((address) => !isPublic(address) && checkSeenAddress(address, expected) !== 'match'),
    cause: 'a private address was seen: the endpoint is inside, or no NAT is on the route to it',
    check:
      'ask an endpoint out where the partner is. If the partner itself is on private addresses (VPN, Interconnect), a public NAT never applies to it: Private NAT does',
  },
  {
    fits: (evidence) => evidence.via.length > 0 && isWrong(evidence),
    cause: 'the last hop dials the partner, so its address is seen, or that of its own NAT',
    check: 'give that hop the source address, or have the partner permit the one that was seen',
  },
  {
    fits: ({ expected, seen }) => seen.length > 1 && seen.some((address) => checkSeenAddress(address, expected) !== 'match'),
    cause: 'the NAT has several addresses, which take turns (AUTO_ONLY, or more than one reserved)',
    check:
      'set the NAT to MANUAL_ONLY with the one reserved address, or list all of them under sourceIp.expected and have the partner permit all',
  },
  {
    fits: (evidence) => isWrong(evidence) && seesPublic(evidence) && evidence.seen.length === 1,
    cause: 'the NAT chooses its addresses itself (AUTO_ONLY)',
    check: 'set nat_ip_allocate_option to MANUAL_ONLY, with the reserved address',
  },
  {
    fits: (evidence) => isWrong(evidence) && seesPublic(evidence),
    cause: 'the expected address belongs to a LoadBalancer: no connection leaves the cluster from it',
    check: 'take it off the forwarding rule and give it to Cloud NAT; it cannot be at both',
  },
  {
    fits: (evidence) => isWrong(evidence) && seesPublic(evidence),
    cause: "the proxy's nodes have external addresses, or their subnet is not in the NAT's list",
    check: 'make the node pool private, and put its subnet into the NAT (LIST_OF_SUBNETWORKS)',
  },
  {
    fits: failed('name-not-found', 'resolver-failed', 'resolver-timeout'),
    cause: "the endpoint's name does not resolve from here",
    check: 'look the name up from this host; with a network policy, let DNS out',
  },
  {
    fits: failed('connect-timeout', 'unreachable'),
    cause: 'nothing comes back from the endpoint: no way out, a firewall, or a NAT without an address or out of ports',
    check: "look at the network policy, the route, and the NAT's dropped packets; is the endpoint up?",
  },
  {
    fits: failed('hop-failed', 'hop-timeout', 'hop-credentials', 'hop-refused', 'hop-upstream-failed'),
    cause: 'a hop on the way does not pass the question on',
    check: 'look at the reason: the hop has to permit the endpoint, and to reach it',
  },
  {
    fits: failed('address-not-allowed'),
    cause: 'the endpoint is on an address that is not dialled',
    check: 'list its range under sourceIp.probe.addresses',
  },
  {
    fits: failed('loop'),
    cause: 'the endpoint is this proxy itself, which proves nothing about the route out',
    check: 'ask an endpoint outside: at the partner, or on a VM',
  },
  {
    fits: failed('tls-certificate', 'tls-failed', 'tls-timeout'),
    cause: 'TLS with the endpoint fails',
    check: 'look at the reason: its certificate, its authority in sourceIp.probe.tls, or a port without TLS',
  },
  {
    fits: failed('connection-refused'),
    cause: 'nothing listens on the port of the endpoint',
    check: 'is it up? on a VM or at the partner, run: npx eco-egress echo',
  },
  {
    fits: failed('upstream-cut', 'upstream-silent', 'upstream-malformed'),
    cause: 'the endpoint is reached, and does not answer as an echo endpoint does',
    check: 'ask it with curl; on a VM or at the partner, run: npx eco-egress echo',
  },
];

/** Those that fit; the observations may leave several. */
export function findCauses(evidence: Evidence): Cause[] {
  return CAUSES.filter(({ fits }) => fits(evidence)).map(({ cause, check }) => ({ cause, check }));
}

/** A verification as text for people; it may quote what an endpoint sent: the result, how it was obtained, and what to do about it. */
export function formatVerification(verification: Verification): string {
  const { url, via, observations, remarks, causes } = verification;
  const way = via.length === 0 ? 'directly' : `by ${via.join(', then ')}`;
  const lines = [summariseVerification(verification), '', `  asked ${url}, ${way}`, ...observations.map(observationLine)];
  if (remarks.length > 0) lines.push('', ...remarks.map((remark) => `  ${remark}`));
  if (causes.length > 0)
    lines.push('', 'What it may be, and what to do:', '', ...causes.flatMap(({ cause, check }) => [`  - ${cause}`, `    ${check}`]));
  return `${lines.join('\n')}\n`;
}

function summariseVerification({ result, expected, observations }: Verification): string {
  const seen = [...new Set(observations.flatMap((observation) => observation.seen ?? []))].join(' and ');
  const should = expected.join(' or ');
  switch (result) {
    case 'match':
      return `The source address is right: ${seen}.`;
    case 'mismatch':
      return `The source address is WRONG: ${seen} ${seen.includes(' and ') ? 'were' : 'was'} seen, ${should} is expected.`;
    case 'unknown':
      return `The source address is not known: ${observations.filter((observation) => observation.seen === null).length} of ${observations.length} questions had no answer.`;
    case 'unjudged':
      return `The source address is ${seen}. Nothing is expected, so nothing is proven.`;
  }
}

function observationLine({ result, seen, endpointAddress, localAddress, phases, code, reason }: Observation, index: number): string {
  const number = String(index + 1).padStart(3);
  if (seen === null) return `${number}  ${result}  ${code ?? ''}: ${reason ?? ''}`;
  const times = Object.entries(phases).map(([phase, ms]) => `${phase} ${ms} ms`);
  return `${number}  ${result}  ${seen}  seen by ${endpointAddress ?? '-'}, asked from ${localAddress ?? '-'}  (${times.join(', ')})`;
}
