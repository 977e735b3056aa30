/**
 * The identities of peers under two policies: every pair of clients, or of
 * reasons to be none, that some peer has, with such a peer. Credentials are
 * divided by the names in the policies, and addresses by their ranges; the
 * policy's own table identifies each piece.
 */
import type { ClientConfig } from '../config/config.ts';
import type { FaultCode } from '../errors.ts';
import { buildCertificateNames } from '../policy/client-table.ts';
import type { Policy } from '../policy/compile.ts';
import { decide } from '../policy/decide.ts';
import { matchWildcard, NAME_STOPS } from '../policy/patterns.ts';
import type { Peer } from '../policy/verdict.ts';
import { parseHost } from '../targets/host.ts';
import { type AddressAtom, type AddressInterval, cutAddresses } from './address-sets.ts';
import { cutTexts, tokenizeText } from './text-atoms.ts';
import type { Meter } from './work.ts';

/** Index of a client, or the code of the denial for a peer that is none. */
export type WhoAsks = number | FaultCode;

/** Some of the peers of a pair: their credentials and addresses. */
export interface PeerEvidence {
  /** `user anna`; null: nothing. Of several with the same results, the first. */
  readonly shown: string | null;
  /** How many others the files name. */
  others: number;
  readonly intervals: AddressInterval[];
}

/** Peers with one identity in the earlier policy, and one in the later. */
export interface PeerPair {
  readonly before: WhoAsks;
  readonly after: WhoAsks;
  /** One of them. */
  readonly peer: Peer;
  /** One that shows nothing but its address, as in raw TLS; null: there is none. */
  bare: Peer | null;
  readonly evidence: PeerEvidence[];
}

/** The client of a peer, by the table and the code that serve requests. */
export function identifyPeer(policy: Policy, peer: Peer): WhoAsks {
  const index = policy.table.find(peer);
  if (index !== -1) return index;
  const verdict = decide(policy, { form: 'connect', peer, now: 0, host: '', port: 1, method: null, path: null });
  return verdict.verdict === 'deny' ? verdict.code : verdict.verdict === 'report' ? verdict.would.code : 'client-not-allowed';
}

/** The credentials of a peer besides its address and its certificate. */
interface ShownCredentials {
  readonly user: string | null;
  readonly token: Peer['token'];
  readonly text: string | null;
}

const NOTHING: ShownCredentials = { user: null, token: null, text: null };

/** Names of a certificate that some client lists; no name is a case too. */
interface CertificateAtom {
  readonly sans: readonly string[];
  /** Clients that list one of them, as `0 3` in the earlier and `1 2` in the later policy. */
  readonly clients: readonly (readonly number[])[];
}

/** Yields from time to time. @throws {TooMuchWork} */
export function* pairPeers(policies: readonly [before: Policy, after: Policy], meter: Meter): Generator<undefined, PeerPair[]> {
  const clients = policies.map((policy) => policy.clients.map(({ config }) => config));
  const all = clients.flat();
  const atoms = cutAddresses(all.map(({ addresses }) => addresses ?? []));
  meter.spend(atoms.length);
  const byClient = all.map((): AddressAtom[] => []);
  for (const atom of atoms) for (const list of atom.lists) byClient[list]?.push(atom);
  const shows = yield* listShown(clients, meter);
  const certificates = yield* listCertificates(clients, meter);
  const pairs = new Map<string, PeerPair>();
  const seen = new Map<string, PeerEvidence[]>();
  // Places among the earlier and then the later clients.
  const places = new Map(
    certificates.map((certificate) => [
      certificate,
      certificate.clients.flatMap((listed, side) => listed.map((index) => index + (side === 0 ? 0 : policies[0].clients.length))),
    ]),
  );
  const needMore = new Set(all.flatMap((client, place) => (needsMore(client) ? [place] : [])));
  // Of a password or token and two names that no client needs with one, two decide in both files: each two are a case, too.
  const besides = certificates.filter(
    (certificate) => certificate.sans.length < 2 || places.get(certificate)?.some((place) => needMore.has(place)) === true,
  );
  for (const shown of shows) {
    meter.spend(all.length >> 8);
    const whole = new Set(all.flatMap((client, place) => (showsFor(client, shown) ? [place] : [])));
    const byShown = all.flatMap((client, place) =>
      whole.has(place) && client.certificates === null && needMore.has(place) ? [place] : [],
    );
    for (const certificate of shown.text === null ? certificates : besides) {
      meter.spend(1);
      yield;
      // For some of these, only a password or token may be missing.
      const certified = places.get(certificate) ?? [];
      const affected = [...byShown, ...certified];
      const key = `${shown.text === null} ${affected.join()} ${certified.filter((place) => whole.has(place)).join()}`;
      const known = seen.get(key);
      if (known !== undefined) {
        for (const evidence of known) evidence.others += 1;
        continue;
      }
      const general = affected.length === 0 || affected.some((place) => all[place]?.addresses === null);
      const where = general ? atoms : [...new Set(affected.flatMap((place) => byClient[place] ?? []))];
      const found = new Map<string, PeerEvidence>();
      for (const { witness, intervals } of where) {
        meter.spend(2);
        yield;
        const peer: Peer = { address: witness, user: shown.user, token: shown.token, sans: certificate.sans, rejected: null };
        const [before, after] = [identifyPeer(policies[0], peer), identifyPeer(policies[1], peer)];
        note(pairs, found, { before, after, peer, shown: describeShown(shown, certificate), intervals });
      }
      seen.set(key, [...found.values()]);
    }
  }
  return [...pairs.values()];
}

interface PairSighting {
  readonly before: WhoAsks;
  readonly after: WhoAsks;
  readonly peer: Peer;
  readonly shown: string | null;
  readonly intervals: readonly AddressInterval[];
}

function note(
  pairs: Map<string, PeerPair>,
  found: Map<string, PeerEvidence>,
  { before, after, peer, shown, intervals }: PairSighting,
): void {
  const key = `${before} ${after}`;
  let pair = pairs.get(key);
  if (pair === undefined) pairs.set(key, (pair = { before, after, peer, bare: null, evidence: [] }));
  if (shown === null) pair.bare ??= peer;
  let evidence = found.get(key);
  if (evidence === undefined) {
    evidence = { shown, others: 0, intervals: [] };
    found.set(key, evidence);
    pair.evidence.push(evidence);
  }
  evidence.intervals.push(...intervals);
}

function describeShown({ text }: ShownCredentials, { sans }: CertificateAtom): string | null {
  const parts = [...(text === null ? [] : [text]), ...(sans.length === 0 ? [] : [`a certificate of ${sans.join(' and ')}`])];
  return parts.length === 0 ? null : parts.join(' and ');
}

function needsMore({ basic, tokens }: ClientConfig): boolean {
  return basic !== null || tokens !== null;
}

function showsFor({ basic, tokens }: ClientConfig, { user, token }: ShownCredentials): boolean {
  if (basic !== null && !basic.some((entry) => entry.user === user)) return false;
  if (tokens === null) return true;
  if (token === null) return false;
  return tokens.some(
    ({ issuer, audience, subjects }) =>
      issuer === token.issuer &&
      token.audiences.includes(audience) &&
      subjects.some((pattern) => matchWildcard(pattern, token.subject, NAME_STOPS)),
  );
}

const OTHER_USER = 'credentials of no client';

/** None, each user and each kind of token that the files distinguish, and credentials that no client has. */
function* listShown(clients: readonly (readonly ClientConfig[])[], meter: Meter): Generator<undefined, ShownCredentials[]> {
  const all = clients.flat();
  const users = new Set(all.flatMap(({ basic }) => basic?.map(({ user }) => user) ?? []));
  const shows: ShownCredentials[] = [NOTHING];
  if (all.every(({ basic, tokens }) => basic === null && tokens === null)) return shows;
  let stranger = 'nobody';
  while (users.has(stranger)) stranger += '-';
  shows.push({ user: stranger, token: null, text: OTHER_USER });
  for (const user of users) shows.push({ user, token: null, text: `the user ${user}` });
  const tokens = all.flatMap((client) => client.tokens ?? []);
  for (const issuer of new Set(tokens.map((token) => token.issuer))) {
    const own = tokens.filter((token) => token.issuer === issuer);
    const audiences = [...new Set(own.map(({ audience }) => audience))];
    // Several audiences in one token count like several tokens; at most two decide the first match in either file.
    const sets = [
      ...audiences.map((audience) => [audience]),
      ...audiences.flatMap((one, index) => audiences.slice(index + 1).map((other) => [one, other])),
    ];
    const lists = own.map(({ subjects }) => ({ patterns: subjects.map((pattern) => tokenizeText(pattern, NAME_STOPS)), before: '' }));
    for (const { vector, text: subject } of yield* cutTexts(lists, { texts: 'text', encodedSlashes: false }, meter)) {
      if (!vector.includes('1')) continue;
      for (const chosen of sets)
        shows.push({
          user: null,
          token: { issuer, audiences: chosen, subject },
          text: `a token of ${subject} from ${issuer}${audiences.length > 1 ? ` for ${chosen.join(' and ')}` : ''}`,
        });
    }
  }
  return shows;
}

/** None, each name that the files distinguish, and two together if one decides before and the other after. */
function* listCertificates(clients: readonly (readonly ClientConfig[])[], meter: Meter): Generator<undefined, CertificateAtom[]> {
  const lists = clients.map((side) => side.map(({ certificates }) => certificates ?? []));
  const tables = lists.map(buildCertificateNames);
  const singles = new Map<string, CertificateAtom>();
  const add = (san: string): void => {
    const found = tables.map((table) => [...new Set(table.find(san))].sort((a, b) => a - b));
    const key = found.map((side) => side.join()).join(' ');
    if (found.some((side) => side.length > 0) && !singles.has(key)) singles.set(key, { sans: [san], clients: found });
  };
  const names = lists.flat(2);
  const hosts = new Set(names.filter((name) => name.startsWith('DNS:')).map((name) => name.slice('DNS:'.length)));
  for (const { witness } of listHostAtoms(hosts)) add(`DNS:${witness}`);
  const uris = lists
    .flat()
    .map((own) => ({ patterns: own.filter((name) => !name.startsWith('DNS:')).map((name) => tokenizeText(name, NAME_STOPS)), before: '' }));
  if (uris.some(({ patterns }) => patterns.length > 0))
    for (const { text, vector } of yield* cutTexts(uris, { texts: 'text', encodedSlashes: false }, meter))
      if (vector.includes('1')) add(text);
  const found = [...singles.values()];
  const both: CertificateAtom[] = [];
  // Clients that stand in the same order in both files decide alike whatever names a certificate has together.
  const texts = clients.map((side) => side.map((client) => JSON.stringify(client)));
  const textsOf = (side: number, places: readonly number[]): string =>
    places
      .toSorted((a, b) => a - b)
      .map((place) => texts[side]?.[place])
      .join();
  const [earlier, later] = clients.map((side, at) =>
    textsOf(
      at,
      [...side.keys()].filter((place) => side[place]?.certificates !== null),
    ),
  );
  for (const [index, one] of earlier === later ? [] : found.entries()) {
    yield;
    for (const other of found.slice(index + 1)) {
      meter.spend(1);
      const together = one.clients.map((side, at) => [...new Set([...side, ...(other.clients[at] ?? [])])]);
      if (
        (mayDisagree(clients, one, other) || mayDisagree(clients, other, one)) &&
        textsOf(0, together[0] ?? []) !== textsOf(1, together[1] ?? [])
      )
        both.push({ sans: [...one.sans, ...other.sans], clients: together });
    }
  }
  return [{ sans: [], clients: clients.map(() => []) }, ...found, ...both];
}

/** Whether `one` may decide in the earlier file and `other` in the later: otherwise both together have the result of one of them. */
function mayDisagree(clients: readonly (readonly ClientConfig[])[], one: CertificateAtom, other: CertificateAtom): boolean {
  const least = ({ clients: lists }: CertificateAtom, side: number): number => Math.min(...(lists[side] ?? []));
  // A client with further conditions may not match after all.
  const most = ({ clients: lists }: CertificateAtom, side: number): number => {
    const sure = (lists[side] ?? []).find((index) => {
      const client = clients[side]?.[index];
      return client?.addresses === null && client.basic === null && client.tokens === null;
    });
    return sure ?? Infinity;
  };
  return least(one, 0) < most(other, 0) && least(other, 1) < most(one, 1);
}

/** For each name itself, and for each `*.suffix` another name below it that no longer suffix matches. */
export function listHostAtoms(patterns: ReadonlySet<string>): { readonly pattern: string; readonly witness: string }[] {
  return [...patterns].flatMap((pattern) => {
    const witness = pattern.startsWith('*.') ? findNameBelow(pattern.slice(2), patterns) : pattern;
    return witness === null ? [] : [{ pattern, witness }];
  });
}

/** A name below a suffix that is neither listed nor matched by a longer one; null: it would be too long. */
function findNameBelow(suffix: string, patterns: ReadonlySet<string>): string | null {
  for (let count = 0; ; count += 1) {
    const label = count === 0 ? 'any' : `any${count}`;
    const name = `${label}.${suffix}`;
    if (parseHost(name) !== name) return shortNameBelow(suffix, patterns);
    if (!patterns.has(name)) return name;
  }
}

/** For suffixes that leave only few characters. */
function shortNameBelow(suffix: string, patterns: ReadonlySet<string>): string | null {
  for (const label of 'abcdefghijklmnopqrstuvwxyz0123456789') {
    const name = `${label}.${suffix}`;
    if (parseHost(name) === name && !patterns.has(name)) return name;
  }
  return null;
}
