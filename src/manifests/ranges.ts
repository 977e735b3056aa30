/** Address ranges for NetworkPolicies: what is left of a range without others, in `ipBlock` form. */
import ipaddr from 'ipaddr.js';
import { IPV4_RANGES, IPV6_RANGES, type SpecialRange } from '../policy/special-ranges.ts';

/** `except` holds ranges strictly inside `cidr`, as the API server demands. */
export interface IpBlock {
  readonly cidr: string;
  readonly except?: readonly string[];
}

const EVERYWHERE = ['0.0.0.0/0', '::/0'] as const;
/** Global unicast is assigned from here alone (RFC 4291 §2.4). */
const PUBLIC = ['0.0.0.0/0', '2000::/3'] as const;

const NOT_PUBLIC = [...IPV4_RANGES, ...IPV6_RANGES].filter((range) => range.class !== 'public');
const isBelow = (range: SpecialRange): boolean => range.class !== 'reserved' || range.cidr !== '::/0';

/** Every address but these. */
export function everywhereBut(ranges: readonly string[]): IpBlock[] {
  return subtract(EVERYWHERE, ranges);
}

/** What the proxy takes for public, when a destination lists no addresses. */
export function publicBut(ranges: readonly string[]): IpBlock[] {
  return subtract(PUBLIC, [...NOT_PUBLIC.filter(isBelow).map(({ cidr }) => cidr), ...ranges]);
}

/** What is not public, and can have something that answers: private, shared and link-local ranges. */
export function internalBut(ranges: readonly string[]): IpBlock[] {
  const internal = NOT_PUBLIC.filter((range) => ['private', 'shared', 'link-local', 'unique-local'].includes(range.class));
  return subtract(outermost(internal.map(({ cidr }) => cidr)), ranges);
}

/** Any unicast address that a parent proxy may have, when its hop lists none. */
export function routableBlocks(): IpBlock[] {
  const never = NOT_PUBLIC.filter((range) => ['loopback', 'link-local', 'metadata', 'this-network', 'multicast', 'unspecified'].includes(range.class) || range.cidr === '240.0.0.0/4');
  return subtract(EVERYWHERE, never.map(({ cidr }) => cidr));
}

export function blocksOf(ranges: readonly string[]): IpBlock[] {
  return outermost(ranges).map((cidr) => ({ cidr }));
}

function subtract(from: readonly string[], holes: readonly string[]): IpBlock[] {
  const outer = outermost(holes);
  return from
    .filter((cidr) => !outer.some((hole) => contains(hole, cidr)))
    .map((cidr) => {
      const except = outer.filter((hole) => contains(cidr, hole));
      return except.length === 0 ? { cidr } : { cidr, except };
    });
}

/** Without those that another holds, and each once; in the order of addresses, so that the same ranges give the same file. */
function outermost(ranges: readonly string[]): string[] {
  const once = [...new Set(ranges)];
  return once.filter((range) => !once.some((other) => other !== range && contains(other, range))).toSorted(compareRanges);
}

function contains(outer: string, inner: string): boolean {
  const [outerAddress, outerBits] = ipaddr.parseCIDR(outer);
  const [innerAddress, innerBits] = ipaddr.parseCIDR(inner);
  return outerAddress.kind() === innerAddress.kind() && innerBits >= outerBits && innerAddress.match(outerAddress, outerBits);
}

/** All of IPv4 first; by address then, and the wider one first. */
function compareRanges(a: string, b: string): number {
  const [left, right] = [sortKey(a), sortKey(b)];
  return left < right ? -1 : Number(left > right);
}

function sortKey(cidr: string): string {
  const [address, bits] = ipaddr.parseCIDR(cidr);
  return [address.kind(), Buffer.from(address.toByteArray()).toString('hex'), String(bits).padStart(3, '0')].join();
}
