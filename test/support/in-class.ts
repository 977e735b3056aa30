/** Whether a request belongs to a class, read from the class's own data; and what differs, asked of both policies. */
import { isIP } from 'node:net';
import { changeText } from '../../src/policy-diff/compare-cell.ts';
import { vectorOfPath } from '../../src/policy-diff/cut-requests.ts';
import { readInterval } from '../../src/policy-diff/address-sets.ts';
import { AddressFates, withFate } from '../../src/policy-diff/address-fates.ts';
import type { DiffClass, PathCut, Span } from '../../src/policy-diff/diff-class.ts';
import { askOf, type DiffRequest, type DiffVerdict, findPrefix, judgeRequest, keyOfVerdict, type PolicySide } from '../../src/policy-diff/judge-request.ts';
import { identifyPeer } from '../../src/policy-diff/peer-pairs.ts';
import { findAmbiguity } from '../../src/targets/path.ts';

export type Sides = readonly [before: PolicySide, after: PolicySide];

function placeOf(side: PolicySide, request: DiffRequest): string {
  const ask = askOf(side, request);
  return `${ask?.host ?? ''} ${ask?.port ?? ''} ${ask?.path ?? ''}`;
}

const FATES = new WeakMap<Sides, AddressFates>();

function fatesOf(sides: Sides): AddressFates {
  const fates = FATES.get(sides) ?? new AddressFates();
  FATES.set(sides, fates);
  return fates;
}

/** What changes for a request whose host resolves to an address; null: nothing that is told. */
export function observe(sides: Sides, request: DiffRequest, resolved: string): string | null {
  // An address that no destination lists is one of all other hosts, whose addresses matter like those of names.
  const literal = isIP(request.host) !== 0 && patternOf(sides, request.host) !== '*';
  const address = isIP(request.host) === 0 ? resolved : request.host;
  const plain = sides.map((side) => judgeRequest(side, request)) as [DiffVerdict, DiffVerdict];
  const fates = fatesOf(sides);
  // Nothing about an address is a change where both judge addresses alike.
  const alike = !literal && plain.every(({ verdict }) => verdict !== 'deny') && fates.text(sides[0].policy.mode, plain[0].destination) === fates.text(sides[1].policy.mode, plain[1].destination);
  const judged = plain.map((verdict, index) => (alike || verdict.verdict === 'deny' ? verdict : withFate(verdict, fates.of(sides[index as 0 | 1].policy.mode, verdict.destination, address)))) as [DiffVerdict, DiffVerdict];
  const [before, after] = judged;
  if (keyOfVerdict(before) === keyOfVerdict(after)) return before.verdict === 'deny' || placeOf(sides[0], request) === placeOf(sides[1], request) ? null : 'it leads elsewhere';
  // Who is refused by the address alone is told of where somebody gets through, or where the address is asked for itself.
  if (!literal && before.verdict === 'deny' && after.verdict === 'deny' && plain.some(({ verdict }) => verdict !== 'deny')) return null;
  return changeText({ before, after });
}

const inSpans = (spans: readonly Span[], value: number): boolean => spans.some(([first, last]) => first <= value && value <= last);

function patternOf(sides: Sides, host: string): string {
  const patterns = new Set(sides.flatMap(({ policy }) => policy.destinations.flatMap(({ config }) => config.hosts)));
  if (patterns.has(host)) return host;
  for (let dot = host.indexOf('.'); dot !== -1; dot = host.indexOf('.', dot + 1)) if (patterns.has(`*${host.slice(dot)}`)) return `*${host.slice(dot)}`;
  return '*';
}

function atomOfPath({ lists, atoms }: PathCut, path: string): number {
  const slashed = atoms.some(({ kind }) => kind === 'slashed');
  if (!atoms.some(({ kind }) => kind === 'ambiguous')) return 0;
  const kind = path === '' || findAmbiguity(path) === null ? 'plain' : slashed && findAmbiguity(path, 'allow') === null ? 'slashed' : 'ambiguous';
  const vector = kind === 'ambiguous' ? '' : vectorOfPath(lists, path);
  return atoms.findIndex((atom) => atom.kind === kind && atom.vector === vector);
}

export function isInClass(sides: Sides, one: DiffClass, request: DiffRequest, resolved: string): boolean {
  const { form, scheme, host, port, method, path, now, peer } = request;
  if (!one.forms.includes(form)) return false;
  if (form === 'host-routed' && !one.schemes.includes(scheme)) return false;
  let rest = path;
  if (form === 'gateway') {
    const prefix = findPrefix(new Set(sides.flatMap(({ gateways }) => [...gateways.keys()])), path ?? '');
    if (prefix === null || !one.prefixes.includes(prefix)) return false;
    rest = (path ?? '').slice(prefix.length);
  } else if (!one.hosts.some(({ pattern }) => pattern === patternOf(sides, host))) return false;
  const [before, after] = [identifyPeer(sides[0].policy, peer), identifyPeer(sides[1].policy, peer)];
  if (!one.peers.some((pair) => pair.before === before && pair.after === after)) return false;
  if (form !== 'gateway' && form !== 'sni' && !inSpans(one.ports, port)) return false;
  if (method !== null && one.methods.listed.includes(method) === one.methods.others) return false;
  if (rest !== null && !one.paths.atoms.includes(atomOfPath(one.paths.cut, rest))) return false;
  if (!one.times.some(([from, until]) => from <= now && now < until)) return false;
  if (one.resolved === null) return true;
  const { bits, first } = readInterval(isIP(host) === 0 ? resolved : host);
  return one.resolved.intervals.some((interval) => interval.bits === bits && interval.first <= first && first <= interval.last);
}
