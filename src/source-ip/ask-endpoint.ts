/**
 * Queries an echo endpoint once for the source address that it sees: with the
 * dialler of requests, on a connection of its own. A pooled connection would
 * only show which address the NAT had assigned when it was opened.
 */
import type { ProbeConfig } from '../config/config.ts';
import type { Dialled, Dialler } from '../dial/dial.ts';
import { Fault } from '../errors.ts';
import { classifyAddress } from '../policy/address-class.ts';
import { createAddressGuard, createHopGuard } from '../policy/address-guard.ts';
import { askOnce, type OneAnswer } from '../relay/ask-once.ts';
import { formatAuthority } from '../targets/host.ts';
import { quote, showTarget } from '../targets/quote.ts';
import { TimeLimit } from '../time-limit.ts';

/** The answer of an endpoint, and its connection. */
export interface Sighting {
  /** Canonical: the source address that the endpoint saw. */
  readonly address: string;
  /** The dialled address; null: only the last hop knows it. */
  readonly endpointAddress: string | null;
  /** Our own end of the connection, before any NAT; null: not known. */
  readonly localAddress: string | null;
  /** Milliseconds; -1: did not happen. */
  readonly dnsMs: number;
  readonly tcpMs: number;
  readonly hopMs: number;
  readonly tlsMs: number;
  readonly answerMs: number;
}

/** How an endpoint is queried. */
export interface AskOptions {
  readonly dialler: Dialler;
  /** Whether an address and port is one of our own listeners: it would prove nothing about the route out. */
  readonly isSelf: (address: string, port: number) => boolean;
  readonly signal: AbortSignal;
}

/** More than any answer with one address needs. */
const LONGEST_ANSWER = 4096;

/**
 * `probe.timeout` limits the whole query. Leaves no socket behind.
 * @throws {Fault} of the dial or the exchange; the reason of `signal`
 */
export async function askEndpoint(probe: ProbeConfig, { dialler, isSelf, signal }: AskOptions): Promise<Sighting> {
  const where = formatAuthority(probe.host, probe.port);
  const clock = new AbortController();
  let dialled: Dialled | null = null;
  const limit = new TimeLimit(probe.timeout, () => {
    const late =
      dialled === null
        ? new Fault('connect-timeout', `no connection in ${probe.timeout} ms`, { subject: where })
        : new Fault('upstream-silent', `no whole answer in ${probe.timeout} ms`, { subject: where });
    clock.abort(late);
  });
  const either = AbortSignal.any([signal, clock.signal]);
  try {
    const guard = createAddressGuard({ name: 'sourceIp.probe', addresses: probe.addresses, key: 'sourceIp.probe.addresses' }, isSelf);
    const via = probe.via.map((hop) => ({ hop, guard: createHopGuard(hop, isSelf) }));
    dialled = await dialler.dial(
      { host: probe.host, port: probe.port, tls: probe.scheme === 'https' ? probe.tls : null, keys: 'sourceIp.probe.tls', via },
      guard,
      either,
    );
    const { socket, address, peer, dnsMs, tcpMs, hopMs, tlsMs } = dialled;
    const localAddress = socket.localAddress ?? null;
    const asked = performance.now();
    const answer = await askOnce(dialled, {
      origin: `${probe.scheme}://${where}`,
      path: probe.path,
      headers: {
        accept: probe.field === null ? 'text/plain, */*;q=0.1' : 'application/json',
        'user-agent': 'eco-egress',
        'cache-control': 'no-cache',
      },
      longest: LONGEST_ANSWER,
      signal: either,
    });
    refuseUnlessOk(answer, where);
    return {
      address: readAnswer(answer.body, probe.field),
      endpointAddress: address ?? peer.address,
      localAddress,
      dnsMs,
      tcpMs,
      hopMs,
      tlsMs,
      answerMs: performance.now() - asked,
    };
  } finally {
    limit.clear();
  }
}

/** A redirect leads elsewhere, by a route that is not configured. */
function refuseUnlessOk({ status, location }: OneAnswer, where: string): void {
  if (status >= 200 && status <= 299) return;
  if (status >= 300 && status <= 399 && location !== null) {
    throw new Fault('upstream-malformed', `${where} answered ${status}, a redirect to ${showTarget(location)}, which is not followed`, {
      remedy: 'Write the URL that it leads to under sourceIp.probe.url.',
    });
  }
  throw new Fault('upstream-malformed', `${where} answered ${status}, not the address that it sees`, {
    remedy: 'Correct sourceIp.probe.url.',
  });
}

// The address in an echo endpoint's answer: the whole text, or a member of a JSON document. Pure.

/**
 * @param field `ip`, or `client.ip` for a nested member; null: the body is the address
 * @returns canonical text, for comparison
 * @throws {Fault} upstream-malformed
 */
export function readAnswer(body: string, field: string | null): string {
  const text = field === null ? body : readMember(body, field);
  const address = classifyAddress(text.trim());
  if (address !== null) return address.canonical;
  const looksLikeJson = field === null && body.trimStart().startsWith('{');
  throw malformedAnswer(
    field === null
      ? `the answer ${quote(body)} is not one IP address`
      : `${field} of the answer is ${quote(text)}, which is not one IP address`,
    looksLikeJson
      ? 'Name the member that holds the address in sourceIp.probe.field.'
      : 'Take an endpoint that answers with the address alone, or name a JSON member in sourceIp.probe.field.',
  );
}

function readMember(body: string, field: string): string {
  let value: unknown;
  try {
    // RFC 8259 §8.1: a byte order mark may be ignored.
    value = JSON.parse(body.trim());
  } catch {
    throw malformedAnswer(
      `the answer ${quote(body)} is not JSON`,
      'Take sourceIp.probe.field out if the endpoint answers with the address alone.',
    );
  }
  for (const name of field.split('.')) {
    value =
      typeof value === 'object' && value !== null && Object.hasOwn(value, name) ? (value as Record<string, unknown>)[name] : undefined;
  }
  if (typeof value === 'string') return value;
  throw malformedAnswer(`the answer ${quote(body)} has no text at ${field}`, 'Correct sourceIp.probe.field.');
}

function malformedAnswer(what: string, remedy: string): Fault {
  return new Fault('upstream-malformed', what, { remedy });
}
