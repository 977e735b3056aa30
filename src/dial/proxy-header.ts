/**
 * Writes the PROXY protocol header, version 1 or 2, which names the client at
 * the start of a connection
 * (https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt).
 */
import ipaddr from 'ipaddr.js';
import { parseIp } from '../targets/ip-address.ts';

/** The client that a connection serves. */
export interface ProxiedClient {
  readonly version: 'v1' | 'v2';
  /** As the policy knew it; a value that is no IP address cannot be named. */
  readonly address: string;
  /** 0: not one port, or unknown. */
  readonly port: number;
}

/** The destination of the connection. */
export interface HeaderUpstream {
  /** Null: only the parent proxy that resolved the name knows it. */
  readonly address: string | null;
  readonly port: number;
}

/** §2.2. */
const SENT_V2_SIGNATURE = Buffer.from('\r\n\r\n\0\r\nQUIT\n', 'latin1');
const VERSION_2 = 0x20;
const LOCAL = 0;
const PROXY = 1;
const UNSPEC = 0x00;
const TCP4_BYTE = 0x11;
const TCP6_BYTE = 0x21;

/** The whole header; the connection's own bytes follow it at once. Without a client that can be named it is UNKNOWN, or LOCAL. */
export function encodeProxyHeader(client: ProxiedClient, upstream: HeaderUpstream): Buffer {
  const pair = addressPair(client.address, upstream.address);
  if (client.version === 'v2') return binary(pair, client.port, upstream.port);
  if (pair === null) return Buffer.from('PROXY UNKNOWN\r\n', 'latin1');
  // Never the mixed notation ::ffff:192.0.2.1: §2.1 allows groups of hexadecimal digits only.
  const [source, destination] = pair.map((address) => address.toString());
  return Buffer.from(
    `PROXY ${pair[0].kind() === 'ipv4' ? 'TCP4' : 'TCP6'} ${source ?? ''} ${destination ?? ''} ${client.port} ${upstream.port}\r\n`,
    'latin1',
  );
}

type Address = ipaddr.IPv4 | ipaddr.IPv6;

/** Two addresses of one family: a header has no other kind, so an IPv4 address next to an IPv6 one is written as IPv6 (RFC 4291 §2.5.5.2). */
function addressPair(client: string, upstream: string | null): readonly [Address, Address] | null {
  const source = readIp(client);
  if (source === null) return null;
  // The field must be filled; the unspecified address means that the address is unknown.
  const destination = upstream === null ? ipaddr.parse(source.kind() === 'ipv4' ? '0.0.0.0' : '::') : readIp(upstream);
  if (destination === null) return null;
  return source.kind() === destination.kind() ? [source, destination] : [inIPv6(source), inIPv6(destination)];
}

/** Without its zone, which is meaningful on its own host only (RFC 4007 §11.2). */
function readIp(text: string): Address | null {
  const [address = ''] = text.split('%');
  return parseIp(address);
}

function inIPv6(address: Address): ipaddr.IPv6 {
  return address instanceof ipaddr.IPv4 ? address.toIPv4MappedAddress() : address;
}

function binary(pair: readonly [Address, Address] | null, sourcePort: number, destinationPort: number): Buffer {
  if (pair === null) return Buffer.concat([SENT_V2_SIGNATURE, Buffer.of(VERSION_2 | LOCAL, UNSPEC, 0, 0)]);
  const addresses = Buffer.from(pair.flatMap((address) => address.toByteArray()));
  const tail = Buffer.alloc(4);
  tail.writeUInt16BE(sourcePort, 0);
  tail.writeUInt16BE(destinationPort, 2);
  const family = pair[0].kind() === 'ipv4' ? TCP4_BYTE : TCP6_BYTE;
  return Buffer.concat([SENT_V2_SIGNATURE, Buffer.of(VERSION_2 | PROXY, family, 0, addresses.length + tail.length), addresses, tail]);
}
