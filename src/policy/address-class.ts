/**
 * Says what kind of place an IP address is: public, private, loopback, cloud
 * metadata and so on. IPv6 forms that carry an IPv4 address are judged by that
 * address too, since a translator on the way would deliver there.
 */
import { isIP } from 'node:net';
import ipaddr from 'ipaddr.js';
import { IPV4_RANGES, IPV6_RANGES } from './special-ranges.ts';
import type { AddressClass, Embedding, SpecialRange } from './special-ranges.ts';

export type { AddressClass, Embedding };

export interface ClassifiedAddress {
  readonly class: AddressClass;
  /** The embedding that was looked through, null where there is none. */
  readonly via: Embedding | null;
  /** RFC 5952 text; an IPv4-mapped address as the IPv4 address it is. */
  readonly canonical: string;
  /** What sets the range apart: `RFC 1918`; null for public addresses. */
  readonly reference: string | null;
}

type Parsed = ipaddr.IPv4 | ipaddr.IPv6;

interface Judged {
  readonly class: AddressClass;
  readonly reference: string | null;
}

const PUBLIC: Judged = { class: 'public', reference: null };

/** IPv4-mapped addresses come out as IPv4, because the kernel dials them so. */
function parseAddress(text: string): Parsed | null {
  // ipaddr.js also takes 127.1 and 0x7f.1, and isIP takes zone ids; an address means one place only without them.
  if (isIP(text) === 0 || text.includes('%')) return null;
  // ipaddr.js reads ::10.0.0.1 as the mapped ::ffff:10.0.0.1, the kernel as ::a00:1: spelt out, both read the same.
  const parsed = ipaddr.parse(text.replace(/^::(?=\d+\.)/, '0:0:0:0:0:0:'));
  return parsed instanceof ipaddr.IPv6 && parsed.isIPv4MappedAddress() ? parsed.toIPv4Address() : parsed;
}

/** What has been classified before: upstreams are dialled by the same few addresses again and again. */
const known = new Map<string, ClassifiedAddress>();
const MOST_KNOWN = 1000;

/**
 * Reads an IP literal strictly: four decimal parts or RFC 4291 text, nothing
 * that another reader could take for another address.
 * @returns null for anything else: names, `0x7f.1`, brackets, zone ids
 */
export function classifyAddress(text: string): ClassifiedAddress | null {
  let found = known.get(text) ?? null;
  if (found === null) {
    found = classify(text);
    if (known.size >= MOST_KNOWN) known.clear();
    if (found !== null) known.set(text, found);
  }
  return found;
}

function classify(text: string): ClassifiedAddress | null {
  const address = parseAddress(text);
  if (address === null) return null;
  if (address instanceof ipaddr.IPv4) {
    return { ...judge(address, IPV4_TABLE), via: text.includes(':') ? 'mapped' : null, canonical: address.toString() };
  }

  const canonical = address.toRFC5952String();
  const outer = judge(address, IPV6_TABLE);
  // Nothing delivers out of these to an IPv4 address; :: and ::1 are no IPv4-compatible addresses either (RFC 4291 §2.5.5.1).
  if (outer.class !== 'public' && outer.class !== 'transition') return { ...outer, via: null, canonical };

  const found = embedded(address);
  for (const inner of found.addresses) {
    const judged = judge(inner, IPV4_TABLE);
    if (judged.class !== 'public') return { ...judged, via: found.via, canonical };
  }
  return { ...outer, via: found.via, canonical };
}

type Compiled = readonly (readonly [network: Parsed, bits: number, judged: Judged])[];

const compile = (ranges: readonly SpecialRange[]): Compiled =>
  ranges.map((range) => {
    const judged = range.class === 'public' ? PUBLIC : { class: range.class, reference: range.reference };
    return [...ipaddr.parseCIDR(range.cidr), judged] as const;
  });

const IPV4_TABLE = compile(IPV4_RANGES);
const IPV6_TABLE = compile(IPV6_RANGES);

function judge(address: Parsed, table: Compiled): Judged {
  for (const [network, bits, judged] of table) if (address.match(network, bits)) return judged;
  return PUBLIC;
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
  // RFC 4380 §4: the server's address, then the client's with every bit turned over.
  if (is(TEREDO)) return { via: 'teredo', addresses: [v4(b, 4), v4(b.map((byte) => byte ^ 0xff), 12)] };
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
