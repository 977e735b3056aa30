/** Says of one client whether a peer is it, kind by kind. */
import type { ClientConfig } from '../config/config.ts';
import { show } from '../target/quote.ts';
import { buildCertificateNames } from './certificate-names.ts';
import { buildCidrTable } from './cidr-table.ts';
import type { ExplainedClient, ExplainedKind } from './explanation.ts';
import type { Peer } from './verdict.ts';
import { matchWildcard } from './wildcard.ts';

export function explainClient(client: ClientConfig, peer: Peer, chosen: boolean): ExplainedClient {
  const kinds: ExplainedKind[] = [];
  if (client.addresses !== null) kinds.push(explainAddresses(client.addresses, peer));
  if (client.basic !== null) kinds.push(explainBasic(client.basic, peer));
  if (client.tokens !== null) kinds.push(explainTokens(client.tokens, peer));
  if (client.certificates !== null) kinds.push(explainCertificates(client.certificates, peer));
  return { name: client.name, matches: kinds.every(({ matches }) => matches), chosen, kinds };
}

function explainAddresses(addresses: readonly string[], { address }: Peer): ExplainedKind {
  const range = addresses[buildCidrTable(addresses.map((cidr) => [cidr])).find(address)];
  const detail = range === undefined ? `${show(address)} is not in ${several(addresses)}` : `${show(address)} is in ${range}`;
  return { kind: 'addresses', matches: range !== undefined, detail };
}

function explainBasic(users: NonNullable<ClientConfig['basic']>, { user, rejected }: Peer): ExplainedKind {
  if (user === null) return { kind: 'basic', matches: false, detail: unverified('password', rejected) };
  const matches = users.some((entry) => entry.user === user);
  return { kind: 'basic', matches, detail: `${show(user)} is ${matches ? '' : 'not '}among its users` };
}

function explainTokens(tokens: NonNullable<ClientConfig['tokens']>, { token, rejected }: Peer): ExplainedKind {
  if (token === null) return { kind: 'tokens', matches: false, detail: unverified('token', rejected) };
  const issued = tokens.filter(({ issuer }) => issuer === token.issuer);
  const meant = issued.filter(({ audience }) => token.audiences.includes(audience));
  const subject = meant.flatMap(({ subjects }) => subjects).find((pattern) => (pattern.includes('*') ? matchWildcard(pattern, token.subject, '/:') : pattern === token.subject));
  if (subject !== undefined) return { kind: 'tokens', matches: true, detail: `the subject ${show(token.subject)} is ${subject}` };
  const detail =
    issued.length === 0
      ? `the issuer ${show(token.issuer)} is not ${several(tokens.map(({ issuer }) => issuer))}`
      : meant.length === 0
        ? `the audience ${token.audiences.map(show).join(', ')} is not ${several(issued.map(({ audience }) => audience))}`
        : `the subject ${show(token.subject)} is not ${several(meant.flatMap(({ subjects }) => subjects))}`;
  return { kind: 'tokens', matches: false, detail };
}

function explainCertificates(names: readonly string[], { sans }: Peer): ExplainedKind {
  const table = buildCertificateNames(names.map((name) => [name]));
  for (const san of sans) {
    const [index] = table.find(san);
    if (index !== undefined) return { kind: 'certificates', matches: true, detail: `${show(san)} is ${names[index] ?? ''}` };
  }
  const detail = sans.length === 0 ? 'no certificate was shown' : `${sans.slice(0, 3).map(show).join(', ')} is not ${several(names)}`;
  return { kind: 'certificates', matches: false, detail };
}

function unverified(what: string, rejected: string | null): string {
  return rejected === null ? `no ${what} was shown` : `no ${what} was accepted: ${rejected}`;
}

const MOST = 5;

function several(entries: readonly string[]): string {
  const distinct = [...new Set(entries)];
  return distinct.length > MOST ? `${distinct.slice(0, MOST).join(', ')} and ${distinct.length - MOST} others` : distinct.join(', ');
}
