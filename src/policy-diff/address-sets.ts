/** Sets of IP addresses as intervals: the parts into which several CIDR lists divide the addresses, and the CIDRs of an interval. */
import ipaddr from 'ipaddr.js';
import { parseCidrEntry } from '../policy/tables.ts';

/** Addresses from `first` to `last`, of one family. */
export interface AddressInterval {
  readonly bits: 32 | 128;
  readonly first: bigint;
  readonly last: bigint;
}

const ADDRESS_BITS = [32, 128] as const;
/** IPv6 addresses that are IPv4 addresses: tables read them as such. */
const MAPPED: AddressInterval = { bits: 128, first: 0xffffn << 32n, last: (0xffffn << 32n) | 0xffff_ffffn };

const toNumber = (bytes: readonly number[]): bigint => bytes.reduce((sum, byte) => (sum << 8n) | BigInt(byte), 0n);

/** The addresses of a CIDR or an address of the configuration. */
export function readInterval(cidr: string): AddressInterval {
  const { bytes, bits } = parseCidrEntry(cidr);
  const width = bytes.length === 4 ? 32 : 128;
  const host = BigInt(width - bits);
  const first = (toNumber(bytes) >> host) << host;
  return { bits: width, first, last: first + (1n << host) - 1n };
}

/** Canonical text of an address. */
export function writeAddress({ bits }: Pick<AddressInterval, 'bits'>, address: bigint): string {
  const bytes = Array.from({ length: bits / 8 }, (_, index) => Number((address >> BigInt(bits - 8 * (index + 1))) & 0xffn));
  return bits === 32 ? bytes.join('.') : new ipaddr.IPv6(bytes).toRFC5952String();
}

/** Addresses that are in the same lists. */
export interface AddressAtom {
  /** In ascending order, adjacent ones joined. */
  readonly intervals: readonly AddressInterval[];
  /** One of them. */
  readonly witness: string;
  /** Indexes of the lists that contain them. */
  readonly lists: readonly number[];
}

interface Edge {
  readonly at: bigint;
  readonly list: number;
  readonly change: 1 | -1;
}

/** Divides all addresses by lists of CIDRs: every address is in exactly one atom. */
export function cutAddresses(lists: readonly (readonly string[])[]): AddressAtom[] {
  return cutIntervals(lists.map((cidrs) => cidrs.map(readInterval)));
}

/** The same by lists of intervals. */
export function cutIntervals(lists: readonly (readonly AddressInterval[])[]): AddressAtom[] {
  const atoms = new Map<string, { intervals: AddressInterval[]; lists: number[] }>();
  for (const bits of ADDRESS_BITS) {
    const edges: Edge[] = [];
    for (const [list, intervals] of lists.entries()) {
      for (const interval of intervals) {
        if (interval.bits === bits) edges.push({ at: interval.first, list, change: 1 }, { at: interval.last + 1n, list, change: -1 });
      }
    }
    edges.sort((one, other) => (one.at < other.at ? -1 : one.at > other.at ? 1 : 0));
    const end = 1n << BigInt(bits);
    const held = new Map<number, number>();
    let from = 0n;
    const note = (to: bigint): void => {
      if (from >= to) return;
      const found = [...held.keys()].sort((a, b) => a - b);
      const key = found.join();
      const atom = atoms.get(key) ?? { intervals: [], lists: found };
      atoms.set(key, atom);
      for (const piece of withoutMapped({ bits, first: from, last: to - 1n })) {
        const before = atom.intervals.at(-1);
        if (before?.bits === bits && before.last + 1n === piece.first)
          atom.intervals[atom.intervals.length - 1] = { ...before, last: piece.last };
        else atom.intervals.push(piece);
      }
      from = to;
    };
    for (const { at, list, change } of edges) {
      note(at);
      const depth = (held.get(list) ?? 0) + change;
      if (depth === 0) held.delete(list);
      else held.set(list, depth);
    }
    note(end);
  }
  return [...atoms.values()].flatMap(({ intervals, lists: found }) => {
    const witness = chooseWitness(intervals);
    return witness === null ? [] : [{ intervals, lists: found, witness }];
  });
}

function withoutMapped(interval: AddressInterval): AddressInterval[] {
  if (interval.bits === 32 || interval.last < MAPPED.first || interval.first > MAPPED.last) return [interval];
  const below = { ...interval, last: MAPPED.first - 1n };
  const above = { ...interval, first: MAPPED.last + 1n };
  return [below, above].filter(({ first, last }) => first <= last);
}

/** An IPv4 address if there is one, and not the first of its interval, which is often a network address. */
function chooseWitness(intervals: readonly AddressInterval[]): string | null {
  const usual = intervals.find(({ bits, first, last }) => bits === 32 && first <= NOBODY_V4 && NOBODY_V4 <= last);
  if (usual !== undefined) return writeAddress(usual, NOBODY_V4);
  const [interval] = intervals;
  if (interval === undefined) return null;
  const { first, last } = interval;
  return writeAddress(interval, first < last && first + 1n <= last ? first + 1n : first);
}

/** 192.0.2.1, reserved for documentation (RFC 5737): the best witness for "any other address". */
const NOBODY_V4 = readInterval('192.0.2.1').first;

/** The fewest CIDRs that cover an interval and nothing else, a single address without its length. */
export function listCidrs(interval: AddressInterval, most: number): string[] {
  const cidrs: string[] = [];
  const width = BigInt(interval.bits);
  for (let at = interval.first; at <= interval.last && cidrs.length < most;) {
    let size = 0n;
    while (size < width && (at & ((1n << (size + 1n)) - 1n)) === 0n && at + (1n << (size + 1n)) - 1n <= interval.last) size += 1n;
    cidrs.push(size === 0n ? writeAddress(interval, at) : `${writeAddress(interval, at)}/${width - size}`);
    at += 1n << size;
  }
  return cidrs;
}

/** `10.8.0.0/14, 10.40.0.0/16 and others`: at most `most` of them. */
export function describeIntervals(intervals: readonly AddressInterval[], most: number): string {
  const cidrs: string[] = [];
  for (const interval of intervals) {
    if (cidrs.length > most) break;
    cidrs.push(...listCidrs(interval, most + 1 - cidrs.length));
  }
  return cidrs.length > most ? `${cidrs.slice(0, most).join(', ')} and others` : cidrs.join(', ');
}

/** In ascending order, adjacent ones joined; IPv4 inside IPv6 separates nothing. */
export function joinIntervals(intervals: readonly AddressInterval[]): AddressInterval[] {
  const joined: AddressInterval[] = [];
  for (const interval of intervals.toSorted(
    (one, other) => one.bits - other.bits || (one.first < other.first ? -1 : one.first > other.first ? 1 : 0),
  )) {
    const before = joined.at(-1);
    const next = before?.bits === 128 && before.last + 1n === MAPPED.first ? MAPPED.last + 1n : (before?.last ?? 0n) + 1n;
    if (before?.bits === interval.bits && next >= interval.first)
      joined[joined.length - 1] = { ...before, last: before.last > interval.last ? before.last : interval.last };
    else joined.push(interval);
  }
  return joined;
}

/** All other addresses. @param intervals in ascending order, joined */
export function invertIntervals(intervals: readonly AddressInterval[]): AddressInterval[] {
  return ADDRESS_BITS.flatMap((bits) => {
    const left: AddressInterval[] = [];
    let next = 0n;
    for (const interval of intervals) {
      if (interval.bits !== bits) continue;
      if (interval.first > next) left.push(...withoutMapped({ bits, first: next, last: interval.first - 1n }));
      next = interval.last + 1n;
    }
    const end = 1n << BigInt(bits);
    return next < end ? [...left, ...withoutMapped({ bits, first: next, last: end - 1n })] : left;
  });
}
