/** Parses IP addresses, for all code that compares, checks or writes them: every spelling of an address has the same result. */
import { isIP } from 'node:net';
import ipaddr from 'ipaddr.js';

/**
 * Reads an IP literal strictly: four decimal parts or RFC 4291 text. An IPv4 address that IPv6 embeds (RFC 4291
 * §2.5.5.2) is returned as IPv4, because the kernel dials it so.
 * @returns null for anything else: names, `0x7f.1`, brackets, zone ids
 */
export function parseIp(text: string): ipaddr.IPv4 | ipaddr.IPv6 | null {
  // ipaddr.js also accepts 127.1 and 0x7f.1, and isIP accepts zone ids; an address is unambiguous only without them.
  if (isIP(text) === 0 || text.includes('%')) return null;
  // ipaddr.js parses ::10.0.0.1 as the mapped ::ffff:10.0.0.1, the kernel as ::a00:1: spelt out, both agree.
  const parsed = ipaddr.parse(text.replace(/^::(?=\d+\.)/, '0:0:0:0:0:0:'));
  return parsed instanceof ipaddr.IPv6 && parsed.isIPv4MappedAddress() ? parsed.toIPv4Address() : parsed;
}

/** The canonical spelling of an address: dotted decimal, or RFC 5952. Null as for `parseIp`. */
export function canonicalIp(text: string): string | null {
  const address = parseIp(text);
  return address instanceof ipaddr.IPv6 ? address.toRFC5952String() : (address?.toString() ?? null);
}

/** The family of a range, and the bits of its prefix: those of a range inside it begin with them, and in their order IPv4 comes first. */
export function prefixBits(cidr: string): string {
  const [network, length] = ipaddr.parseCIDR(cidr);
  const bits = network
    .toByteArray()
    .map((byte) => byte.toString(2).padStart(8, '0'))
    .join('');
  return `${network.kind() === 'ipv4' ? '4' : '6'}${bits.slice(0, length)}`;
}
