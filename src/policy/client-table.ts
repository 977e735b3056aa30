/**
 * Finds the client that matches a peer: the first in the file whose listed
 * kinds all match. Each client is indexed by its most selective kind, so a
 * look-up finds few of them; its other kinds are then checked.
 */
import { type ClientConfig, type DestinationConfig, FORMS, NO_TLS } from '../config/config.ts';
import { parseHost } from '../targets/host.ts';
import { buildCidrTable, buildHostTable, type CidrTable } from './tables.ts';
import { buildPatternTable, NAME_STOPS, type PatternTable } from './patterns.ts';
import type { Peer } from './verdict.ts';

/** All clients of a configuration, compiled. */
export interface ClientTable {
  /** Index of the client; -1 for none. */
  find(peer: Peer): number;
  /** Which credentials would make the peer a client, if everything else matches. */
  readonly wanting: (peer: Pick<Peer, 'address' | 'sans'>) => AcceptedCredentials;
}

/** Kinds of credentials that would help: Basic (RFC 7617), Bearer (RFC 6750). */
export interface AcceptedCredentials {
  readonly basic: boolean;
  readonly bearer: boolean;
}

/** The kinds of one client that remain to be checked after it was found; null: not listed. */
interface Rest {
  readonly addresses: CidrTable | null;
  readonly tokens: TokenTable | null;
  readonly certificates: CertificateNames | null;
}

const NOBODY = 0x7fff_ffff;
const NO_LIST: readonly string[] = [];

/** Compiles the clients; their order is their precedence. */
export function buildClientTable(clients: readonly ClientConfig[]): ClientTable {
  const primary = clients.map(primaryKind);
  const listsOf = (kind: 'addresses' | 'certificates'): (readonly string[])[] =>
    clients.map((client, index) => (primary[index] === kind ? (client[kind] ?? NO_LIST) : NO_LIST));
  const byAddress = buildCidrTable(listsOf('addresses'));
  const byCertificate = buildCertificateNames(listsOf('certificates'));
  const byToken = buildTokenTable(clients.map((client, index) => (primary[index] === 'tokens' ? client.tokens : null)));
  const byUser = new Map(clients.flatMap(({ basic }, index) => (basic ?? []).map(({ user }) => [user, index] as const)));
  const rests = clients.map((client, index) => remainingConditions(client, primary[index]));

  return {
    find(peer) {
      const addressed = byAddress.find(peer.address);
      let best = addressed === -1 ? NOBODY : addressed;
      if (peer.user !== null) best = earlier(best, byUser.get(peer.user), peer, rests);
      if (peer.token !== null) for (const index of byToken.find(peer.token)) best = earlier(best, index, peer, rests);
      for (const name of peer.sans) for (const index of byCertificate.find(name)) best = earlier(best, index, peer, rests);
      return best === NOBODY ? -1 : best;
    },
    wanting: buildWanting(clients),
  };
}

function earlier(best: number, index: number | undefined, peer: Peer, rests: readonly Rest[]): number {
  const rest = index === undefined || index >= best ? undefined : rests[index];
  return index !== undefined && rest !== undefined && holds(rest, peer) ? index : best;
}

/** The kind that the fewest clients share. */
function primaryKind({ basic, tokens, certificates }: ClientConfig): 'addresses' | 'basic' | 'tokens' | 'certificates' {
  if (basic !== null) return 'basic';
  if (tokens !== null) return 'tokens';
  return certificates === null ? 'addresses' : 'certificates';
}

function remainingConditions({ addresses, tokens, certificates }: ClientConfig, primary: ReturnType<typeof primaryKind> | undefined): Rest {
  return {
    addresses: addresses === null || primary === 'addresses' ? null : buildCidrTable([addresses]),
    tokens: tokens === null || primary === 'tokens' ? null : buildTokenTable([tokens]),
    certificates: certificates === null || primary === 'certificates' ? null : buildCertificateNames([certificates]),
  };
}

function holds({ addresses, tokens, certificates }: Rest, peer: Peer): boolean {
  if (addresses !== null && addresses.find(peer.address) === -1) return false;
  if (tokens !== null && (peer.token === null || tokens.find(peer.token).length === 0)) return false;
  return certificates === null || peer.sans.some((name) => certificates.find(name).length > 0);
}

interface TokenTable {
  /** Indexes of the lists with an entry for this token, in no order. */
  find(token: NonNullable<Peer['token']>): readonly number[];
}

const NO_CLIENTS: readonly number[] = [];

/** By issuer and audience, which are exact, then by subject. */
function buildTokenTable(lists: readonly ClientConfig['tokens'][]): TokenTable {
  const subjects = new Map<string, Map<string, Map<number, string[]>>>();
  for (const [index, list] of lists.entries()) {
    for (const token of list ?? []) {
      const audiences = subjects.get(token.issuer) ?? new Map<string, Map<number, string[]>>();
      const bySubject = audiences.get(token.audience) ?? new Map<number, string[]>();
      bySubject.set(index, [...(bySubject.get(index) ?? []), ...token.subjects]);
      subjects.set(token.issuer, audiences.set(token.audience, bySubject));
    }
  }
  const tables = new Map<string, Map<string, PatternTable>>();
  for (const [issuer, audiences] of subjects)
    tables.set(issuer, new Map([...audiences].map(([audience, bySubject]) => [audience, buildPatternTable(bySubject, NAME_STOPS)])));

  return {
    find({ issuer, audiences, subject }) {
      const own = tables.get(issuer);
      if (own === undefined) return NO_CLIENTS;
      let found = NO_CLIENTS;
      for (const audience of audiences) {
        const here = own.get(audience)?.find(subject) ?? NO_CLIENTS;
        found = found.length === 0 ? here : [...found, ...here];
      }
      return found;
    },
  };
}

/** Used before credentials are verified, and for every denial: tables here too. */
function buildWanting(clients: readonly ClientConfig[]): ClientTable['wanting'] {
  const basic = buildLacking(clients.filter((client) => client.basic !== null));
  const bearer = buildLacking(clients.filter((client) => client.tokens !== null));
  return (peer) => ({ basic: basic(peer), bearer: bearer(peer) });
}

/** Whether a peer matches any of these clients in address and certificate. */
function buildLacking(clients: readonly ClientConfig[]): (peer: Pick<Peer, 'address' | 'sans'>) => boolean {
  const uncertified = clients.filter(({ certificates }) => certificates === null);
  const certified = clients.filter(({ certificates }) => certificates !== null);
  const anywhere = uncertified.some(({ addresses }) => addresses === null);
  const byAddress = buildCidrTable(uncertified.map(({ addresses }) => addresses ?? NO_LIST));
  const byCertificate = buildCertificateNames(certified.map(({ certificates }) => certificates ?? NO_LIST));
  const ranges = certified.map(({ addresses }) => (addresses === null ? null : buildCidrTable([addresses])));
  return ({ address, sans }) =>
    anywhere ||
    byAddress.find(address) !== -1 ||
    sans.some((name) => byCertificate.find(name).some((index) => ranges[index] === null || (ranges[index]?.find(address) ?? -1) !== -1));
}

// The destination for hosts in no destination that report mode lets pass: public addresses only, nothing added.

/** The destination of requests that pass in report mode although no destination has their host. */
export const ANONYMOUS: DestinationConfig = Object.freeze({
  name: '-',
  hosts: [],
  ports: [],
  addresses: null,
  forms: FORMS,
  gateway: null,
  methods: null,
  paths: null,
  tls: NO_TLS,
  report: true,
  upgradePlainHttp: null,
  tunnelSni: 'report',
  via: [],
  resolve: 'here',
  proxyProtocol: 'off',
  gateReadiness: false,
  circuitBreaker: null,
});

// Finds the lists of certificate names that a subject alternative name matches: DNS names like hosts, URIs as text with
// stars.

interface CertificateNames {
  /** `name` is `DNS:name` or `URI:uri`, as in the certificate. Indexes of the lists, in no order. */
  find(name: string): readonly number[];
}
const DNS = 'DNS:';

/** @param lists names of each list: `DNS:name`, `DNS:*.suffix`, `URI:uri` with `*` */
export function buildCertificateNames(lists: readonly (readonly string[])[]): CertificateNames {
  const hosts = buildHostTable(lists.map((names) => names.filter((name) => name.startsWith(DNS)).map((name) => name.slice(DNS.length))));
  const others = buildPatternTable(lists.map((names) => names.filter((name) => !name.startsWith(DNS))).entries(), NAME_STOPS);
  return {
    find(name) {
      if (!name.startsWith(DNS)) return others.find(name);
      // A certificate for `*.example` is not the same as one for each name below it: parseHost accepts no stars.
      const host = parseHost(name.slice(DNS.length));
      return host === null ? NO_CLIENTS : hosts.find(host);
    },
  };
}
