/**
 * Classifies IP addresses: public, private, loopback, cloud metadata and so on.
 * IPv6 forms that embed an IPv4 address are classified by that address too,
 * since a translator on the path would deliver there.
 */
import ipaddr from 'ipaddr.js';
import { parseIp } from '../targets/ip-address.ts';

// The address ranges that are not public unicast: the IANA special-purpose
// registries for IPv4 and IPv6 (RFC 6890), multicast, and the addresses at
// which clouds serve instance credentials. Data only, the narrowest first.

/** The class of an address; only `public` may be dialled without being listed. */
export type AddressClass =
  | 'public'
  | 'loopback'
  | 'private'
  | 'link-local'
  | 'site-local'
  | 'metadata'
  | 'shared'
  | 'unique-local'
  | 'multicast'
  | 'broadcast'
  | 'unspecified'
  | 'this-network'
  | 'documentation'
  | 'benchmarking'
  | 'discard'
  | 'anycast-service'
  | 'transition'
  | 'reserved';

/** How an IPv6 address embeds an IPv4 address. */
export type Embedding = 'mapped' | 'compatible' | 'translated' | 'nat64' | 'nat64-local' | '6to4' | 'teredo' | 'isatap';

/** A range of addresses with its class. */
export interface SpecialRange {
  readonly cidr: string;
  readonly class: AddressClass;
  /** The document that reserves the range. */
  readonly reference: string;
}

const range = (cidr: string, addressClass: AddressClass, reference: string): SpecialRange => ({
  cidr,
  class: addressClass,
  reference,
});

/** The first range that contains an address is its class, so narrower ranges come first. An address in none is public. */
export const IPV4_RANGES: readonly SpecialRange[] = [
  range('169.254.169.254/32', 'metadata', 'cloud instance metadata'),
  range('169.254.170.2/32', 'metadata', 'AWS ECS task credentials'),
  range('169.254.170.23/32', 'metadata', 'AWS EKS pod credentials'),
  range('168.63.129.16/32', 'metadata', 'Azure platform services'),
  range('100.100.100.200/32', 'metadata', 'Alibaba Cloud instance metadata'),
  range('192.0.0.192/32', 'metadata', 'Oracle Cloud instance metadata'),
  range('0.0.0.0/32', 'unspecified', 'RFC 1122'),
  range('255.255.255.255/32', 'broadcast', 'RFC 8190'),
  range('192.0.0.0/24', 'reserved', 'RFC 6890'),
  range('192.0.2.0/24', 'documentation', 'RFC 5737'),
  range('192.31.196.0/24', 'anycast-service', 'RFC 7535'),
  range('192.52.193.0/24', 'anycast-service', 'RFC 7450'),
  range('192.88.99.0/24', 'transition', 'RFC 7526'),
  range('192.175.48.0/24', 'anycast-service', 'RFC 7534'),
  range('198.51.100.0/24', 'documentation', 'RFC 5737'),
  range('203.0.113.0/24', 'documentation', 'RFC 5737'),
  range('169.254.0.0/16', 'link-local', 'RFC 3927'),
  range('192.168.0.0/16', 'private', 'RFC 1918'),
  range('198.18.0.0/15', 'benchmarking', 'RFC 2544'),
  range('172.16.0.0/12', 'private', 'RFC 1918'),
  range('100.64.0.0/10', 'shared', 'RFC 6598'),
  range('0.0.0.0/8', 'this-network', 'RFC 791'),
  range('10.0.0.0/8', 'private', 'RFC 1918'),
  range('127.0.0.0/8', 'loopback', 'RFC 1122'),
  range('224.0.0.0/4', 'multicast', 'RFC 5771'),
  range('240.0.0.0/4', 'reserved', 'RFC 1112'),
];

/** Likewise; every address is in one of them. */
export const IPV6_RANGES: readonly SpecialRange[] = [
  range('fd00:ec2::254/128', 'metadata', 'AWS instance metadata'),
  range('fd00:ec2::23/128', 'metadata', 'AWS EKS pod credentials'),
  range('fd20:ce::254/128', 'metadata', 'Google Cloud instance metadata'),
  range('::/128', 'unspecified', 'RFC 4291'),
  range('::1/128', 'loopback', 'RFC 4291'),
  range('100::/64', 'discard', 'RFC 6666'),
  range('100:0:0:1::/64', 'discard', 'RFC 9780'),
  range('2001:2::/48', 'benchmarking', 'RFC 5180'),
  range('2001:4:112::/48', 'anycast-service', 'RFC 7535'),
  range('2620:4f:8000::/48', 'anycast-service', 'RFC 7534'),
  range('2001:3::/32', 'anycast-service', 'RFC 7450'),
  range('2001:db8::/32', 'documentation', 'RFC 3849'),
  range('2001::/32', 'transition', 'RFC 4380'),
  range('2001::/23', 'reserved', 'RFC 2928'),
  range('3fff::/20', 'documentation', 'RFC 9637'),
  range('2002::/16', 'transition', 'RFC 3056'),
  range('fe80::/10', 'link-local', 'RFC 4291'),
  range('fec0::/10', 'site-local', 'RFC 3879'),
  range('ff00::/8', 'multicast', 'RFC 4291'),
  range('fc00::/7', 'unique-local', 'RFC 4193'),
  // The translators' well-known prefix is reached like the embedded IPv4 address (RFC 6052 §3.1).
  range('64:ff9b::/96', 'public', 'RFC 6052'),
  range('64:ff9b:1::/48', 'transition', 'RFC 8215'),
  range('::ffff:0:0:0/96', 'transition', 'RFC 7915'),
  range('::/96', 'transition', 'RFC 4291'),
  range('5f00::/16', 'reserved', 'RFC 9602'),
  // Global unicast is assigned from 2000::/3 only; the rest is unassigned.
  range('2000::/3', 'public', 'RFC 4291'),
  range('::/0', 'reserved', 'RFC 4291'),
];

/** The properties of an address by its range. */
export interface ClassifiedAddress {
  readonly class: AddressClass;
  /** The embedding that was decoded, null: none. */
  readonly via: Embedding | null;
  /** RFC 5952 text; an IPv4-mapped address as its IPv4 address. */
  readonly canonical: string;
  /** What reserves the range: `RFC 1918`; null for public addresses. */
  readonly reference: string | null;
}

type Parsed = ipaddr.IPv4 | ipaddr.IPv6;

interface Judged {
  readonly class: AddressClass;
  readonly reference: string | null;
}

const PUBLIC_ADDRESS: Judged = { class: 'public', reference: null };

/** Earlier results: upstreams are dialled by the same few addresses again and again. */
const classified = new Map<string, ClassifiedAddress>();
const MOST_KNOWN = 1000;

/**
 * Parses an IP literal strictly: four decimal parts or RFC 4291 text, nothing
 * that another parser could take for another address.
 * @returns null for anything else: names, `0x7f.1`, brackets, zone ids
 */
export function classifyAddress(text: string): ClassifiedAddress | null {
  let found = classified.get(text) ?? null;
  if (found === null) {
    found = classify(text);
    if (classified.size >= MOST_KNOWN) classified.clear();
    if (found !== null) classified.set(text, found);
  }
  return found;
}

function classify(text: string): ClassifiedAddress | null {
  const address = parseIp(text);
  if (address === null) return null;
  if (address instanceof ipaddr.IPv4) {
    return { ...findClass(address, IPV4_TABLE), via: text.includes(':') ? 'mapped' : null, canonical: address.toString() };
  }

  const canonical = address.toRFC5952String();
  const outer = findClass(address, IPV6_TABLE);
  // Nothing delivers from these to an IPv4 address; :: and ::1 are not IPv4-compatible addresses either (RFC 4291
  // §2.5.5.1).
  if (outer.class !== 'public' && outer.class !== 'transition') return { ...outer, via: null, canonical };

  const found = embedded(address);
  for (const inner of found.addresses) {
    const judged = findClass(inner, IPV4_TABLE);
    if (judged.class !== 'public') return { ...judged, via: found.via, canonical };
  }
  return { ...outer, via: found.via, canonical };
}

type Compiled = readonly (readonly [network: Parsed, bits: number, judged: Judged])[];

const compile = (ranges: readonly SpecialRange[]): Compiled =>
  ranges.map((range) => {
    const judged = range.class === 'public' ? PUBLIC_ADDRESS : { class: range.class, reference: range.reference };
    return [...ipaddr.parseCIDR(range.cidr), judged] as const;
  });

const IPV4_TABLE = compile(IPV4_RANGES);
const IPV6_TABLE = compile(IPV6_RANGES);

function findClass(address: Parsed, table: Compiled): Judged {
  for (const [network, bits, judged] of table) if (address.match(network, bits)) return judged;
  return PUBLIC_ADDRESS;
}

function embedded(address: ipaddr.IPv6): { via: Embedding | null; addresses: readonly ipaddr.IPv4[] } {
  const b = address.toByteArray();
  const last = v4(b, 12);
  const is = (cidr: readonly [Parsed, number]): boolean => address.match(cidr[0], cidr[1]);

  if (is(COMPATIBLE)) return { via: 'compatible', addresses: [last] };
  if (is(TRANSLATED)) return { via: 'translated', addresses: [last] };
  if (is(NAT64)) return { via: 'nat64', addresses: [last] };
  // Shorter prefixes inside this one put the address elsewhere (RFC 6052 §2.2); none of it is public anyway.
  if (is(NAT64_LOCAL)) return { via: 'nat64-local', addresses: [last] };
  if (is(SIX_TO_FOUR)) return { via: '6to4', addresses: [v4(b, 2)] };
  // RFC 4380 §4: the server's address, then the client's with every bit inverted.
  if (is(TEREDO))
    return {
      via: 'teredo',
      addresses: [
        v4(b, 4),
        v4(
          b.map((byte) => byte ^ 0xff),
          12,
        ),
      ],
    };
  // RFC 5214 §6.1: interface identifier 0000:5efe or 0200:5efe (also group bit), under any prefix.
  if (((b[8] ?? 0) & 0xfc) === 0 && b[9] === 0 && b[10] === 0x5e && b[11] === 0xfe) {
    return { via: 'isatap', addresses: [last] };
  }
  return { via: null, addresses: [] };
}

const COMPATIBLE = ipaddr.parseCIDR('::/96');
const TRANSLATED = ipaddr.parseCIDR('::ffff:0:0:0/96');
const NAT64 = ipaddr.parseCIDR('64:ff9b::/96');
const NAT64_LOCAL = ipaddr.parseCIDR('64:ff9b:1::/48');
const SIX_TO_FOUR = ipaddr.parseCIDR('2002::/16');
const TEREDO = ipaddr.parseCIDR('2001::/32');

const v4 = (bytes: readonly number[], at: number): ipaddr.IPv4 => new ipaddr.IPv4(bytes.slice(at, at + 4));
