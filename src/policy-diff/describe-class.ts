/** A class of requests in one line of text, and the arguments of `explain` for one of them. */
import { FORMS, HTTP_FORMS } from '../config/config.ts';
import { bracketed, DEFAULT_PORT, formatAuthority } from '../targets/host.ts';
import { formatMoment } from '../targets/quote.ts';
import { type AddressInterval, describeIntervals, invertIntervals, joinIntervals } from './address-sets.ts';
import { describePaths } from './describe-paths.ts';
import { type DiffClass, type MethodSet, OTHER_HOSTS, type PolicyDiff, type Span } from './diff-class.ts';
import type { DiffVerdict } from './judge-request.ts';
import type { PeerEvidence, PeerPair } from './peer-pairs.ts';

/** Most entries of one list; a line has to stay readable. */
const MOST_IN_LIST = 5;
const MOST_RANGES_SHOWN = 3;
const LAST_OF_PORTS = 65_535;

/** `any host below telus.internal, port 443, by connect or sni, for dynatrace-sit`. Names are not escaped: not safe to print. */
export function describeClass(diff: PolicyDiff, one: DiffClass): string {
  const { hosts, prefixes, methods, paths, times, resolved } = one;
  const parts = [
    prefixes.length > 0
      ? describePrefixes(diff, prefixes)
      : describeHosts(
          diff,
          hosts.map(({ pattern }) => pattern),
        ),
    describePorts(one),
    describeForms(one),
    describeMethods(methods),
    describePaths(paths, prefixes[0] ?? null),
    `for ${describePeers(diff, one.peers)}`,
    describeTimes(times, diff.start),
    resolved === null || resolved.usual ? '' : `resolving to ${resolved.text}`,
  ];
  return parts.filter((part) => part !== '').join(', ');
}

/** `host-not-allowed -> rules[0] lets it use eco-sit`. */
export function describeOutcome({ before, after, codes }: Pick<DiffClass, 'before' | 'after' | 'codes'>): string {
  const both = before.verdict !== 'deny' && after.verdict !== 'deny';
  const one = (verdict: DiffVerdict, other: DiffVerdict, found: readonly string[]): string => {
    const { destination, rule, client, leads } = verdict;
    if (verdict.verdict === 'deny') return joinTexts(found, 'or');
    const as = both && client !== other.client ? ` as ${client ?? 'no client'}` : '';
    const to = both && leads !== other.leads && leads !== '' ? `, leads to ${leads}` : '';
    const use = `${destination?.name ?? 'a host of no destination'}${as}${to}`;
    if (verdict.verdict === 'report') return `report mode lets it use ${use}${both ? ` in spite of ${joinTexts(found, 'or')}` : ''}`;
    return `rules[${rule ?? '-'}] lets it use ${use}`;
  };
  return `${one(before, after, codes[0])} -> ${one(after, before, codes[1])}`;
}

function joinTexts(texts: readonly string[], last: 'and' | 'or', most = MOST_IN_LIST): string {
  if (texts.length > most) return `${texts.slice(0, most).join(', ')} ${last} ${texts.length - most} others`;
  return texts.length < 2 ? texts.join('') : `${texts.slice(0, -1).join(', ')} ${last} ${texts.at(-1) ?? ''}`;
}

function describePrefixes(diff: PolicyDiff, prefixes: readonly string[]): string {
  const longer = diff.prefixes.some((other) => !prefixes.includes(other) && prefixes.some((prefix) => other.startsWith(`${prefix}/`)));
  return `${longer ? 'other ' : ''}paths below ${joinTexts(prefixes, 'and')}`;
}

function describeHosts({ patterns }: PolicyDiff, hosts: readonly string[]): string {
  if (hosts.length === patterns.size + 1) return 'any host';
  const named = new Set(hosts);
  const texts = hosts.map((host, index) => {
    if (host === OTHER_HOSTS) return 'any host that neither file names';
    // The others are counted.
    if (!host.startsWith('*.') || index >= MOST_IN_LIST) return host;
    const within = [...patterns].filter(
      (pattern) => pattern !== host && pattern.endsWith(host.slice(1)) && (!pattern.startsWith('*.') || pattern.length > host.length),
    );
    return `any ${within.every((pattern) => named.has(pattern)) ? '' : 'other '}host below ${host}`;
  });
  return joinTexts(texts, 'and');
}

function describePorts({ ports, forms, prefixes }: DiffClass): string {
  if (prefixes.length > 0 || (forms.length === 1 && forms[0] === 'sni')) return '';
  const sum = ports.reduce((total, [first, last]) => total + last - first + 1, 0);
  if (sum === LAST_OF_PORTS) return 'any port';
  const show = (spans: readonly Span[]): string =>
    joinTexts(
      spans.map(([first, last]) => (first === last ? String(first) : `${first}-${last}`)),
      'and',
    );
  const left = gaps(ports);
  if (sum > LAST_OF_PORTS / 2 && left.length <= ports.length) return `any port but ${show(left)}`;
  return `${sum === 1 ? 'port' : 'ports'} ${show(ports)}`;
}

function gaps(ports: readonly Span[]): Span[] {
  const left: Span[] = [];
  let next = 1;
  for (const [first, last] of ports) {
    if (first > next) left.push([next, first - 1]);
    next = last + 1;
  }
  if (next <= LAST_OF_PORTS) left.push([next, LAST_OF_PORTS]);
  return left;
}

function describeForms({ forms, schemes, prefixes }: DiffClass): string {
  if (prefixes.length > 0) return '';
  const steered = schemes.length === 1 ? (schemes[0] === 'http' ? ' in plain HTTP' : ' in TLS that ends here') : '';
  if (FORMS.every((form) => form === 'gateway' || forms.includes(form))) return 'by any form';
  return `by ${joinTexts(
    HTTP_FORMS.filter((form) => forms.includes(form))
      .map(String)
      .concat(forms.includes('sni') ? ['sni'] : []),
    'or',
  )}${steered}`;
}

function describeMethods({ listed, others }: MethodSet): string {
  if (listed.length === 0) return others ? '' : 'no method';
  return others
    ? `any method but ${joinTexts(listed, 'and')}`
    : `${listed.length === 1 ? 'method' : 'methods'} ${joinTexts(listed, 'and')}`;
}

function describeTimes(times: readonly Span[], start: number): string {
  return joinTexts(
    times.flatMap(([from, until]) => {
      const begin = from <= start ? '' : `from ${formatMoment(from)}`;
      const end = until === Infinity ? '' : `until ${formatMoment(until)}`;
      return begin === '' && end === '' ? [] : [[begin, end].filter((text) => text !== '').join(' ')];
    }),
    'and',
  );
}

function describePeers({ pairs, clients }: PolicyDiff, peers: readonly PeerPair[]): string {
  if (peers.length === pairs.length) return 'anyone';
  const nameOf = (pair: PeerPair, side: 0 | 1): string | null => {
    const who = side === 0 ? pair.before : pair.after;
    return typeof who === 'number' ? (clients[side][who] ?? null) : null;
  };
  const isClient = (pair: PeerPair): boolean => nameOf(pair, 0) !== null && nameOf(pair, 0) === nameOf(pair, 1);
  const others = pairs.filter((pair) => !peers.includes(pair));
  if (peers.length > others.length && others.every(isClient) && !peers.every(isClient))
    return `anyone but ${joinTexts(namesOf(others, nameOf), 'and')}`;
  const same = namesOf(peers.filter(isClient), nameOf);
  const strangers = peers.filter((pair) => nameOf(pair, 0) === null && nameOf(pair, 1) === null);
  const groups = Map.groupBy(
    peers.filter((pair) => !isClient(pair) && !strangers.includes(pair)),
    (pair) => {
      const [was, is] = [nameOf(pair, 0), nameOf(pair, 1)];
      return was === null ? `${is ?? ''} only after` : is === null ? `${was} only before` : `${was} before and ${is} after`;
    },
  );
  const texts = [...groups].map(([how, pairs]) => `${describeEvidence(pairs.flatMap(({ evidence }) => evidence))} (${how})`);
  return joinTexts([...same, ...texts, ...(strangers.length === 0 ? [] : ['anyone that is not a client'])], 'and');
}

function namesOf(pairs: readonly PeerPair[], nameOf: (pair: PeerPair, side: 0 | 1) => string | null): string[] {
  return [...new Set(pairs.map((pair) => nameOf(pair, 0) ?? ''))];
}

/** A certificate or password is mentioned where it is needed, and not where the address is sufficient. */
function describeEvidence(evidence: readonly PeerEvidence[]): string {
  const known: AddressInterval[] = [];
  const needed: PeerEvidence[] = [];
  for (const one of evidence.toSorted((a, b) => Number(a.shown !== null) - Number(b.shown !== null))) {
    if (one.shown !== null && covers(known, one.intervals)) continue;
    if (one.shown === null) known.push(...one.intervals);
    else if (
      needed.some(({ shown, intervals }) => shown !== null && one.shown?.includes(shown) === true && covers(intervals, one.intervals))
    )
      continue;
    needed.push(one);
  }
  const texts = needed.filter(({ shown }) => shown !== null).map(describeShownEvidence);
  const where = known.length === 0 ? [] : [describeWhere(known)];
  return joinTexts([...where, ...texts], 'and', MOST_RANGES_SHOWN);
}

function describeShownEvidence({ shown, others, intervals }: PeerEvidence): string {
  const where = describeWhere(intervals);
  return `${shown ?? ''}${others > 0 ? ` or ${others} others` : ''}${where === ANY_ADDRESS ? '' : ` from ${where}`}`;
}

const ANY_ADDRESS = 'any address';

/** Most addresses, described by those that are left out. */
function describeWhere(intervals: readonly AddressInterval[]): string {
  const joined = joinIntervals(intervals);
  const left = invertIntervals(joined);
  const sum = joined.reduce((total, { bits, first, last }) => (bits === 32 ? total + last - first + 1n : total), 0n);
  if (sum < 1n << 31n) return describeIntervals(joined, MOST_RANGES_SHOWN);
  return left.length === 0 ? ANY_ADDRESS : `${ANY_ADDRESS} but ${describeIntervals(left, MOST_RANGES_SHOWN)}`;
}

function covers(intervals: readonly AddressInterval[], others: readonly AddressInterval[]): boolean {
  const joined = joinIntervals(intervals);
  return others.every(({ bits, first, last }) => joined.some((one) => one.bits === bits && one.first <= first && last <= one.last));
}

/** The arguments of `explain` for the witness of a class. */
export function explainArguments(diff: PolicyDiff, { witness }: DiffClass): string[] {
  const { form, peer, host, port, method, path, now } = witness;
  const who = [
    '--client',
    peer.address,
    ...(peer.user === null ? [] : ['--user', peer.user]),
    ...(peer.token === null ? [] : ['--subject', peer.token.subject]),
    ...peer.sans.flatMap((san) => ['--san', san]),
  ];
  const when = now === diff.start ? [] : ['--at', formatMoment(now)];
  const asked = ((): string[] => {
    switch (form) {
      case 'connect':
        return ['CONNECT', formatAuthority(host, port)];
      case 'sni':
        return ['TLS', host];
      case 'forward':
        return [
          method ?? 'GET',
          `${port === DEFAULT_PORT.https ? `https://${bracketed(host)}` : `http://${port === DEFAULT_PORT.http ? bracketed(host) : formatAuthority(host, port)}`}${path === '*' ? '' : (path ?? '')}`,
        ];
      case 'host-routed':
        return ['--host', port === DEFAULT_PORT.http ? bracketed(host) : formatAuthority(host, port), method ?? 'GET', path ?? '/'];
      case 'gateway':
        return [method ?? 'GET', path ?? '/'];
    }
  })();
  return [...who, ...when, ...asked];
}

/** One line for a shell, also zsh, to which brackets are a pattern. No backslashes: `escapeText` writes them twice. */
export function shellLine(words: readonly string[]): string {
  return words.map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'"'"'`)}'`)).join(' ');
}
