/** Who is assumed to ask: an address, or a client of the configuration with what would make a peer this client. */
import type { ClientConfig } from '../config/config.ts';
import { classifyAddress } from '../policy/address-class.ts';
import type { Peer } from '../policy/verdict.ts';
import { matchWildcard } from '../policy/wildcard.ts';
import { show } from '../target/quote.ts';

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

export interface AssumedPeer {
  /** In order of preference: where several clients share an address, another one may do better. Never empty. */
  readonly peers: readonly Peer[];
  /** The client that was meant; null where an address was given. */
  readonly name: string | null;
  /** What was assumed and not asked for, one sentence each. */
  readonly notes: readonly string[];
}

/** For clients without `addresses`: nobody has it (RFC 5737). */
const NOBODYS_ADDRESS = '192.0.2.1';
const MOST_NAMES = 10;

/** @returns what is wrong with the request, as a sentence, when nobody can be assumed */
export function assumePeer(clients: readonly ClientConfig[], wanted: AssumedClient): AssumedPeer | string {
  const literal = wanted.client === null ? null : classifyAddress(wanted.client);
  if (literal !== null) return { peers: [peerOf(literal.canonical, clients, null, wanted)], name: null, notes: [] };

  const found = wanted.client === null ? clients[0] : clients.find(({ name }) => name === wanted.client);
  if (found === undefined) {
    if (wanted.client !== null) return `${show(wanted.client)} is neither an IP address nor a client; ${listNames(clients)}`;
    return { peers: [peerOf(NOBODYS_ADDRESS, clients, null, wanted)], name: null, notes: [`The policy has no client, so ${NOBODYS_ADDRESS} asks.`] };
  }
  const addresses = found.addresses?.map(firstAddress) ?? [NOBODYS_ADDRESS];
  const peers = addresses.map((address) => peerOf(address, clients, found, wanted));
  return { peers, name: found.name, notes: wanted.client === null ? [`No client was given, so the first of the file asks: ${found.name}.`] : [] };
}

/** @param client whose credentials are taken where none were given; null: none are */
function peerOf(address: string, clients: readonly ClientConfig[], client: ClientConfig | null, { user, subject, sans }: AssumedClient): Peer {
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

/** From the issuer that a client expects such a subject from; where none does, from nobody's. */
function tokenFor(subject: string, clients: readonly ClientConfig[]): Peer['token'] {
  const tokens = clients.flatMap((client) => client.tokens ?? []);
  const fits = tokens.find(({ subjects }) => subjects.some((pattern) => (pattern.includes('*') ? matchWildcard(pattern, subject, '/:') : pattern === subject)));
  return fits === undefined ? { issuer: '-', audiences: [], subject } : { issuer: fits.issuer, audiences: [fits.audience], subject };
}

/** Something that a pattern covers. */
function exampleOf(pattern: string): string {
  return pattern.replaceAll('*', 'any');
}

function firstAddress(cidr: string): string {
  const [address = ''] = cidr.split('/');
  return classifyAddress(address)?.canonical ?? address;
}

function listNames(clients: readonly ClientConfig[]): string {
  if (clients.length === 0) return 'the policy has no client.';
  const names = clients.slice(0, MOST_NAMES).map(({ name }) => name);
  return `the clients are ${names.join(', ')}${clients.length > MOST_NAMES ? ` and ${clients.length - MOST_NAMES} more` : ''}.`;
}
