/**
 * Look-up tables over several lists of a configuration, compiled once: the
 * first list of CIDRs that contains an address, and the lists of hosts that
 * match one; and whether one list of ports has a port. The time of a look-up
 * hardly depends on the length of the lists.
 */
import { isIPv6 } from 'node:net';
import ipaddr from 'ipaddr.js';
import type { DestinationConfig } from '../config/config.ts';
import { DOT, parseHost, parseHostPattern, ZERO } from '../targets/host.ts';
import { firstPort, hasPort, lastPort, mergePorts, type PortEntry } from '../targets/port-range.ts';

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

// Hosts: exact names first, then the wildcards that match, the longest suffix
// first.

/** Several lists of host patterns, compiled; indexes are those of the lists. */
export interface HostTable {
  /**
   * Indexes of the lists with a pattern for this canonical host, the more
   * specific pattern first and equal ones in order; empty when there is none.
   */
  find(host: string): readonly number[];
  /** Whether `*.host` is a pattern: it never matches the host itself. */
  hasBelow(host: string): boolean;
  /** Indexes of lists that share a host with another list. */
  shared(): ReadonlySet<number>;
}

const NOWHERE: readonly number[] = [];

/**
 * @param lists canonical patterns of each list in order
 * @throws {TypeError} for a pattern that is not canonical: it could never match
 */
export function buildHostTable(lists: readonly (readonly string[])[]): HostTable {
  const exact = new Map<string, number[]>();
  const below = new Map<string, number[]>();
  for (const [index, patterns] of lists.entries()) {
    for (const pattern of patterns) {
      if (parseHostPattern(pattern) !== pattern) throw new TypeError(`${pattern} is not a canonical host or *.suffix`);
      if (pattern.startsWith('*.')) append(below, pattern.slice(2), index);
      else append(exact, pattern, index);
    }
  }
  // The results of less specific patterns are added here, so that a look-up ends at the first entry it meets.
  const suffixes = new Map([...below].map(([suffix, own]) => [suffix, [...new Set([...own, ...covering(below, suffix)])]]));
  const names = new Map([...exact].map(([name, own]) => [name, [...new Set([...own, ...covering(below, name)])]]));

  return {
    find(host) {
      const own = names.get(host);
      if (own !== undefined) return own;
      if (suffixes.size === 0) return NOWHERE;
      for (let dot = host.indexOf('.'); dot !== -1; dot = host.indexOf('.', dot + 1)) {
        const covered = suffixes.get(host.slice(dot + 1));
        if (covered !== undefined) return covered;
      }
      return NOWHERE;
    },
    hasBelow: (host) => suffixes.has(host),
    shared: () => new Set([...names.values(), ...suffixes.values()].flatMap((found) => (found.length > 1 ? found : []))),
  };
}

function append(map: Map<string, number[]>, key: string, index: number): void {
  const list = map.get(key);
  if (list === undefined) map.set(key, [index]);
  else list.push(index);
}

/** The lists of every wildcard strictly above a name, the longest suffix first. */
function covering(below: ReadonlyMap<string, readonly number[]>, name: string): number[] {
  const found: number[] = [];
  for (let dot = name.indexOf('.'); dot !== -1; dot = name.indexOf('.', dot + 1)) {
    found.push(...(below.get(name.slice(dot + 1)) ?? []));
  }
  return found;
}

// The port for raw TLS: a ClientHello names a host and no port.

const HTTPS = 443;

/**
 * 443 where a destination with this host lists it, else the first port of the
 * first such destination; those that take the form sni go before the others.
 * 443 for a host in none: the usual port.
 */
export function tlsPortOf(hosts: HostTable, destinations: readonly DestinationConfig[], host: string): number {
  let first: number | null = null;
  let other: number | null = null;
  for (const index of hosts.find(host)) {
    const destination = destinations[index];
    if (destination === undefined) continue;
    const port = hasPort(destination.ports, HTTPS) ? HTTPS : firstPort(destination.ports[0] ?? HTTPS);
    if (!destination.forms.includes('sni')) other ??= port;
    else if (port === HTTPS) return port;
    else first ??= port;
  }
  return first ?? other ?? HTTPS;
}

// Ports.

/** Ports, in a form with constant-time look-up. */
export interface PortSet {
  has(port: number): boolean;
}

/** Look-up time is independent of the ports, and hardly depends on the entries. */
export function compilePorts(entries: readonly PortEntry[]): PortSet {
  const merged = mergePorts(entries);
  const [only] = merged;
  if (merged.length === 1 && only !== undefined) return { has: (port) => firstPort(only) <= port && port <= lastPort(only) };
  const single = new Set(merged.filter((entry) => typeof entry === 'number'));
  const ranges = merged.filter((entry) => typeof entry !== 'number');
  return {
    has(port) {
      if (single.has(port)) return true;
      let low = 0;
      let high = ranges.length - 1;
      while (low <= high) {
        const middle = (low + high) >> 1;
        const range = ranges[middle];
        if (range === undefined || port < range.first) high = middle - 1;
        else if (port > range.last) low = middle + 1;
        else return true;
      }
      return false;
    },
  };
}
