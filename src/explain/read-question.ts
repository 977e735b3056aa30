/**
 * Parses a question: the request, by the code that determines the form of real
 * requests and by their router, and the assumed client.
 */
import type { ClientConfig, HttpForm } from '../config/config.ts';
import type { Origin } from '../egress.ts';
import { Fault } from '../errors.ts';
import type { GatewayRouter } from '../gateway/router.ts';
import { chooseForm, judgedAs, namesNoDestination } from '../listeners/choose-form.ts';
import { classifyAddress } from '../policy/address-class.ts';
import type { Policy } from '../policy/compile.ts';
import { matchWildcard, NAME_STOPS } from '../policy/patterns.ts';
import type { Ask, Peer } from '../policy/verdict.ts';
import { parseHost } from '../targets/host.ts';
import { pathOf } from '../targets/path.ts';
import { quoteTarget, show } from '../targets/quote.ts';

/** A request as typed. */
export interface WrittenRequest {
  /** Or `TLS`: not a request, but raw TLS steered to a TLS listener. */
  readonly method: string;
  /** The request target: `host:port`, a URL or a path; with TLS the host in its ClientHello. */
  readonly target: string;
  /** The Host field; null: none, which matters only for a bare path. */
  readonly host: string | null;
}

/** The question to the policy, without client and time. */
export interface Wanted extends Omit<Ask, 'peer' | 'now'> {
  /** Its path names no destination: what the request gets where its Host names none either. */
  readonly routeless?: Fault;
}

interface ReadingTerms {
  readonly policy: Policy;
  readonly gateway: GatewayRouter;
  readonly listeners: readonly { readonly forms: readonly Ask['form'][] }[];
}

/** @throws {Fault} that the request would get before the policy decides */
export function readTarget({ method, target, host }: WrittenRequest, terms: ReadingTerms): Wanted {
  if (method === 'TLS') return readSniTarget(target, terms);
  const { policy, gateway } = terms;
  // HTTP/1.0 may have no Host; nothing else depends on the version here.
  const choice = chooseForm({ method, target, hosts: host === null ? [] : [host], version: host === null ? '1.0' : '1.1' }, 'http', policy);
  if (choice.form !== 'gateway') {
    take(choice.form, terms);
    if (choice.form === 'connect') return { form: 'connect', host: choice.host, port: choice.port, method: null, path: null };
    return wantedOf(choice.form, method, choice.origin, choice.target);
  }
  const route = gateway.route(choice.target);
  if (route !== null) {
    take('gateway', terms);
    return { ...wantedOf('gateway', method, route.origin, route.target), destination: route.destination };
  }
  const origin = judgedAs(choice, 'http');
  if (origin === null) throw namesNoDestination(choice, gateway.prefixes);
  return { ...wantedOf('host-routed', method, origin, choice.target), routeless: namesNoDestination(choice, gateway.prefixes) };
}

function wantedOf(form: HttpForm, method: string, { host, port }: Origin, target: string): Wanted {
  return { form, host, port, method, path: pathOf(target) };
}

/** As listeners/sni-form.ts: a ClientHello names a host, and the policy knows the port. */
function readSniTarget(target: string, terms: ReadingTerms): Wanted {
  const host = parseHost(target);
  if (host === null)
    throw new Fault('target-malformed', `${quoteTarget(target)} is not a host name that a ClientHello can carry`, {
      remedy: 'write TLS and a host, without a port',
    });
  take('sni', terms);
  return { form: 'sni', host, port: terms.policy.tlsPort(host), method: null, path: null };
}

/** Some listener has to accept the form; which one is intended is not known here. */
function take(form: Ask['form'], { listeners }: ReadingTerms): void {
  if (listeners.some(({ forms }) => forms.includes(form))) return;
  throw new Fault('form-not-allowed', `no listener takes ${form} requests`, { remedy: `add ${form} to the forms of a listener` });
}

// The assumed client: an address, or a client of the configuration with what would make a peer this client.

/** Each as if it had been verified. */
export interface AssumedClient {
  /** An IP address, or the name of a client; null: the first client of the file. */
  readonly client: string | null;
  /** The user of Basic credentials. */
  readonly user: string | null;
  /** The subject of a token. */
  readonly subject: string | null;
  /** Names in a client certificate, `DNS:name` or `URI:uri`. */
  readonly sans: readonly string[];
}

/** The assumed peer. */
export interface AssumedPeer {
  /** In order of preference: if several clients share an address, another one may fit better. Never empty. */
  readonly peers: readonly Peer[];
  /** The intended client; null: an address was given. */
  readonly name: string | null;
  /** Assumptions that were not requested, one sentence each. */
  readonly notes: readonly string[];
}

/** For clients without `addresses`: reserved, never in use (RFC 5737). */
const NOBODYS_ADDRESS = '192.0.2.1';
const MOST_CLIENT_NAMES = 10;

/** @returns what is wrong with the request, as a sentence, when no client can be assumed */
export function assumePeer(clients: readonly ClientConfig[], wanted: AssumedClient): AssumedPeer | string {
  const literal = wanted.client === null ? null : classifyAddress(wanted.client);
  if (literal !== null) return { peers: [assumedPeer(literal.canonical, clients, null, wanted)], name: null, notes: [] };

  const found = wanted.client === null ? clients[0] : clients.find(({ name }) => name === wanted.client);
  if (found === undefined) {
    if (wanted.client !== null) return `${show(wanted.client)} is neither an IP address nor a client; ${listNames(clients)}`;
    return {
      peers: [assumedPeer(NOBODYS_ADDRESS, clients, null, wanted)],
      name: null,
      notes: [`The policy has no client, so ${NOBODYS_ADDRESS} asks.`],
    };
  }
  const addresses = found.addresses?.map(firstAddress) ?? [NOBODYS_ADDRESS];
  const peers = addresses.map((address) => assumedPeer(address, clients, found, wanted));
  return {
    peers,
    name: found.name,
    notes: wanted.client === null ? [`No client was given, so the first of the file asks: ${found.name}.`] : [],
  };
}

/** @param client whose credentials are used if none were given; null: none are */
function assumedPeer(
  address: string,
  clients: readonly ClientConfig[],
  client: ClientConfig | null,
  { user, subject, sans }: AssumedClient,
): Peer {
  return {
    address,
    user: user ?? client?.basic?.[0]?.user ?? null,
    token: subject === null ? firstToken(client) : tokenFor(subject, client === null ? clients : [client, ...clients]),
    sans: sans.length > 0 ? sans : (client?.certificates?.slice(0, 1).map(exampleOf) ?? []),
    rejected: null,
  };
}

function firstToken(client: ClientConfig | null): Peer['token'] {
  const token = client?.tokens?.[0];
  if (token === undefined) return null;
  return { issuer: token.issuer, audiences: [token.audience], subject: exampleOf(token.subjects[0] ?? '') };
}

/** From the issuer that a client expects such a subject from; if there is none, from an unknown one. */
function tokenFor(subject: string, clients: readonly ClientConfig[]): Peer['token'] {
  const tokens = clients.flatMap((client) => client.tokens ?? []);
  const fits = tokens.find(({ subjects }) => subjects.some((pattern) => matchWildcard(pattern, subject, NAME_STOPS)));
  return fits === undefined ? { issuer: '-', audiences: [], subject } : { issuer: fits.issuer, audiences: [fits.audience], subject };
}

/** A text that a pattern matches. */
function exampleOf(pattern: string): string {
  return pattern.replaceAll('*', 'any');
}

function firstAddress(cidr: string): string {
  const [address = ''] = cidr.split('/');
  return classifyAddress(address)?.canonical ?? address;
}

function listNames(clients: readonly ClientConfig[]): string {
  if (clients.length === 0) return 'the policy has no client.';
  const names = clients.slice(0, MOST_CLIENT_NAMES).map(({ name }) => name);
  return `the clients are ${names.join(', ')}${clients.length > MOST_CLIENT_NAMES ? ` and ${clients.length - MOST_CLIENT_NAMES} more` : ''}.`;
}
