/**
 * Who is at the other end of a client connection, and who asks by it: the same,
 * unless a trusted peer speaks for somebody. From any other peer the headers
 * that claim so mean nothing (docs/peers.md).
 */
import type { Socket } from 'node:net';
import type { ListenerConfig } from '../config/config.ts';
import { Fault } from '../errors.ts';
import { clientFromForwardedFor, lastOfXfcc } from '../identity/forwarded.ts';
import { buildCidrTable } from '../policy/cidr-table.ts';
import type { Peer } from '../policy/verdict.ts';
import type { RawFields } from '../http1/fields.ts';
import { canonicalIp } from '../targets/ip-address.ts';
import { quote } from '../targets/quote.ts';
import type { ProxyHeader } from './proxy-protocol.ts';

/** As much of a Peer as the connection and its trusted peers tell. */
export interface ClientPeer extends Pick<Peer, 'address' | 'sans'> {
  /** 0: not known, because a trusted peer told the address alone. */
  readonly port: number;
}

/** Tells who asks, by one listener's `trustedPeers` and `believe`. */
export interface PeerReader {
  /** Whether the other end of the connection may speak for others. */
  trusts(peer: ClientPeer): boolean;
  /** Who asks by this request. @returns a Fault when a trusted peer says what cannot be read */
  read(peer: ClientPeer, fields: RawFields): ClientPeer | Fault;
}

const FORWARDED_FOR = 'x-forwarded-for';
const CLIENT_CERT = 'x-forwarded-client-cert';
/** Of a peer without a certificate. */
export const NO_SANS: readonly string[] = [];

/** In place of an address: the client had reset the connection before it was accepted. */
export const NO_ADDRESS = '-';

/** The other end of a TCP connection. */
export function peerOf({ remoteAddress = NO_ADDRESS, remotePort = 0 }: Pick<Socket, 'remoteAddress' | 'remotePort'>): ClientPeer {
  // An IPv4 client of a dual-stack listener is known by its IPv4 address; whatever else the system writes mixed, by its one spelling.
  return { address: remoteAddress.startsWith('::') ? (canonicalIp(remoteAddress) ?? remoteAddress) : remoteAddress, port: remotePort, sans: NO_SANS };
}

/** Who a connection is from that began with this header; null where the peer speaks for itself. */
export function peerInHeader({ address, port }: ProxyHeader): ClientPeer | null {
  return address === null ? null : { address, port, sans: NO_SANS };
}

/** Compiles the CIDRs once; reading a request takes time in proportion to its headers. */
export function createPeerReader({ trustedPeers, believe }: Pick<ListenerConfig, 'trustedPeers' | 'believe'>): PeerReader {
  const table = buildCidrTable([trustedPeers]);
  const isTrusted = trustedPeers.length === 0 ? () => false : (address: string): boolean => table.find(address) !== -1;
  const forwardedFor = believe.includes(FORWARDED_FOR);
  const clientCert = believe.includes(CLIENT_CERT);
  return {
    trusts: ({ address }) => isTrusted(address),
    read(own, rawHeaders) {
      if (believe.length === 0 || !isTrusted(own.address)) return own;
      const chain = forwardedFor ? combinedField(rawHeaders, FORWARDED_FOR) : null;
      const certificates = clientCert ? combinedField(rawHeaders, CLIENT_CERT) : null;
      const address = chain === null ? own.address : clientFromForwardedFor(chain, isTrusted);
      if (address === null) return unreadable('X-Forwarded-For', chain, 'no list of IP addresses');
      const port = chain === null ? own.port : 0;
      // Its own certificate names the peer, and not the client that it speaks for.
      if (certificates === null) return { address, port, sans: chain === null ? own.sans : NO_SANS };
      const certificate = lastOfXfcc(certificates);
      if (certificate === null) return unreadable('X-Forwarded-Client-Cert', certificates, 'no list of certificates');
      return { address, port, sans: certificate.sans };
    },
  };
}

/** A listed field that stands several times is one list, in order (RFC 9110 §5.3); null where it does not stand at all. */
function combinedField(raw: readonly string[], name: string): string | null {
  let value: string | null = null;
  for (let i = 0; i + 1 < raw.length; i += 2) {
    const field = raw[i] ?? '';
    if (field.length !== name.length || field.toLowerCase() !== name) continue;
    const more = raw[i + 1] ?? '';
    value = value === null ? more : `${value}, ${more}`;
  }
  return value;
}

function unreadable(field: string, value: string | null, what: string): Fault {
  return new Fault('request-malformed', `a trusted peer sent ${field}: ${quote(value ?? '')}, which is ${what}`, {
    remedy: `make the peer write ${field} itself, or take ${field.toLowerCase()} out of the listener's believe`,
  });
}
