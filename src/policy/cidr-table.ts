/** Finds the first of several CIDR lists that contains an address, in time independent of their length. */
import { isIPv6 } from 'node:net';
import ipaddr from 'ipaddr.js';
import { DOT, parseHost, ZERO } from '../targets/host.ts';

/** Several lists of CIDR ranges, compiled; indexes are those of the lists. */
export interface CidrTable {
  /** The smallest index of a list that contains the address; -1 when none does, or when the text is no IP address. */
  find(address: string): number;
}

/** One bit of an address per step; `first` is the smallest index whose CIDR ends here. */
interface TrieNode {
  zero: TrieNode | null;
  one: TrieNode | null;
  first: number;
}

const NO_ENTRY = 0x7fff_ffff;
const MAPPED_PREFIX = '::ffff:';
const MAPPED_BITS = 96;

/**
 * @param lists CIDRs, or single addresses, of each list in order. IPv4-mapped
 * IPv6 is read as IPv4 on both sides, because a socket that listens on `::`
 * reports IPv4 peers so.
 * @throws {TypeError} for an entry that is no CIDR: the configuration checks them
 * before
 */
export function buildCidrTable(lists: readonly (readonly string[])[]): CidrTable {
  const roots = { v4: createNode(), v6: createNode() };
  for (const [index, list] of lists.entries()) {
    for (const entry of list) {
      const { bytes, bits } = parseCidrEntry(entry);
      const node = descend(bytes.length === 4 ? roots.v4 : roots.v6, bytes, bits);
      node.first = Math.min(node.first, index);
    }
  }
  return {
    find(address) {
      const number = readIPv4(address);
      const first = number === -1 ? findIPv6(roots.v4, roots.v6, address) : walkIPv4(roots.v4, number);
      return first === NO_ENTRY ? -1 : first;
    },
  };
}

function createNode(): TrieNode {
  return { zero: null, one: null, first: NO_ENTRY };
}

function descend(root: TrieNode, bytes: readonly number[], bits: number): TrieNode {
  let node = root;
  for (let bit = 0; bit < bits; bit += 1) {
    node = bitAt(bytes, bit) === 0 ? (node.zero ??= createNode()) : (node.one ??= createNode());
  }
  return node;
}

function walkIPv4(root: TrieNode, address: number): number {
  let node: TrieNode | null = root;
  let first = NO_ENTRY;
  for (let bit = 31; node !== null; bit -= 1) {
    if (node.first < first) first = node.first;
    // Past the last bit every node is a leaf, so a wrapped shift does not matter.
    node = ((address >>> bit) & 1) === 0 ? node.zero : node.one;
  }
  return first;
}

function walk(root: TrieNode, bytes: readonly number[]): number {
  let node: TrieNode | null = root;
  let first = NO_ENTRY;
  for (let bit = 0; node !== null; bit += 1) {
    if (node.first < first) first = node.first;
    node = bitAt(bytes, bit) === 0 ? node.zero : node.one;
  }
  return first;
}

function bitAt(bytes: readonly number[], bit: number): number {
  return ((bytes[bit >> 3] ?? 0) >> (7 - (bit & 7))) & 1;
}

function findIPv6(v4: TrieNode, v6: TrieNode, address: string): number {
  if (!isIPv6(address)) return NO_ENTRY;
  // A link-local peer has its interface (`fe80::1%eth0`), which is not part of its address (RFC 4007 §11).
  const zone = address.indexOf('%');
  const parsed = parseIPv6(zone === -1 ? address : address.slice(0, zone));
  return parsed.isIPv4MappedAddress() ? walk(v4, parsed.toIPv4Address().toByteArray()) : walk(v6, parsed.toByteArray());
}

/** ipaddr.js reads `::1.2.3.4` as `::ffff:1.2.3.4`, so it only gets addresses without dots. */
function parseIPv6(address: string): ipaddr.IPv6 {
  return ipaddr.IPv6.parse(address.includes('.') ? (parseHost(`[${address}]`) ?? address) : address);
}

/** Dotted decimal, also as `::ffff:1.2.3.4`, as an unsigned number; -1 for anything else. Hand-written: it runs once per request. */
function readIPv4(text: string): number {
  let address = 0;
  let octet = -1;
  let octets = 0;
  for (let i = text.startsWith(MAPPED_PREFIX) ? MAPPED_PREFIX.length : 0; i <= text.length; i += 1) {
    const code = i === text.length ? DOT : text.charCodeAt(i);
    if (code === DOT) {
      if (octet === -1) return -1;
      address = address * 256 + octet;
      octet = -1;
      octets += 1;
      continue;
    }
    const digit = code - ZERO;
    // A leading zero is refused: some parsers read it as octal.
    if (digit < 0 || digit > 9 || octet === 0) return -1;
    octet = octet === -1 ? digit : octet * 10 + digit;
    if (octet > 255) return -1;
  }
  return octets === 4 ? address : -1;
}

/**
 * Parses a CIDR or an address of the configuration; four bytes for IPv4, also if it is written as IPv6.
 * @throws {TypeError} when it is neither
 */
export function parseCidrEntry(entry: string): { bytes: readonly number[]; bits: number } {
  const slash = entry.indexOf('/');
  const address = slash === -1 ? entry : entry.slice(0, slash);
  const isIPv4 = !address.startsWith(MAPPED_PREFIX) && readIPv4(address) !== -1;
  const width = isIPv4 ? 32 : 128;
  const bits = slash === -1 ? width : readPrefixLength(entry.slice(slash + 1));
  if ((!isIPv4 && !isIPv6(address)) || address.includes('%') || bits === -1 || bits > width) {
    throw new TypeError(`${entry} is not a CIDR such as 10.8.0.0/14`);
  }
  if (isIPv4) return { bytes: ipaddr.IPv4.parse(address).toByteArray(), bits };
  const parsed = parseIPv6(address);
  if (!parsed.isIPv4MappedAddress() || bits < MAPPED_BITS) return { bytes: parsed.toByteArray(), bits };
  return { bytes: parsed.toIPv4Address().toByteArray(), bits: bits - MAPPED_BITS };
}

function readPrefixLength(text: string): number {
  return /^(?:0|[1-9][0-9]{0,2})$/.test(text) ? Number(text) : -1;
}
