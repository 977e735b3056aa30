/**
 * The peer of a client connection, and the client that sends the requests on
 * it: the same, unless a trusted peer names another client. Headers that do so
 * are ignored from any other peer (docs/peers.md).
 */
import type { Socket } from 'node:net';
import type { ListenerConfig } from '../config/config.ts';
import { Fault } from '../errors.ts';
import { clientFromForwardedFor, lastOfXfcc } from '../identity/forwarded.ts';
import { buildCidrTable } from '../policy/tables.ts';
import type { Peer } from '../policy/verdict.ts';
import type { RawFields } from '../http1/fields.ts';
import { canonicalIp } from '../targets/ip-address.ts';
import { quote } from '../targets/quote.ts';
import type { ProxyHeader } from './proxy-protocol.ts';

/** The fields of a Peer that the connection and its trusted peers give. */
export interface ClientPeer extends Pick<Peer, 'address' | 'sans'> {
  /** 0: unknown, because X-Forwarded-For named the client. */
  readonly port: number;
}

/** Identifies the client by one listener's `trustedPeers` and `believe`. */
export interface PeerReader {
  /** Whether the peer of a connection, at this address, is trusted to name its client. */
  readonly trusts: (address: string) => boolean;
  /** The client of this request. @returns a Fault when a trusted peer sends a value that cannot be parsed */
  read(peer: ClientPeer, fields: RawFields): ClientPeer | Fault;
}

const FORWARDED_FOR = 'x-forwarded-for';
const CLIENT_CERT = 'x-forwarded-client-cert';
/** For a peer without a certificate. */
export const NO_SANS: readonly string[] = [];

/** In place of an address: the client reset the connection before it was accepted. */
export const NO_ADDRESS = '-';

/** The peer of a TCP connection. */
export function peerOf({ remoteAddress = NO_ADDRESS, remotePort = 0 }: Pick<Socket, 'remoteAddress' | 'remotePort'>): ClientPeer {
  // An IPv4 client of a dual-stack listener is known by its IPv4 address; any other mixed notation of the system is
  // normalised.
  return {
    address: remoteAddress.startsWith('::') ? (canonicalIp(remoteAddress) ?? remoteAddress) : remoteAddress,
    port: remotePort,
    sans: NO_SANS,
  };
}

/** The client of a connection that began with this header; null where the peer is itself the client. */
export function peerInHeader({ address, port }: ProxyHeader): ClientPeer | null {
  return address === null ? null : { address, port, sans: NO_SANS };
}

/** Compiles the CIDRs once; the cost per request is linear in its headers. */
export function createPeerReader({ trustedPeers, believe }: Pick<ListenerConfig, 'trustedPeers' | 'believe'>): PeerReader {
  const table = buildCidrTable([trustedPeers]);
  const trusts = trustedPeers.length === 0 ? () => false : (address: string): boolean => table.find(address) !== -1;
  const forwardedFor = believe.includes(FORWARDED_FOR);
  const clientCert = believe.includes(CLIENT_CERT);
  return {
    trusts,
    read(own, rawHeaders) {
      if (believe.length === 0 || !trusts(own.address)) return own;
      const chain = forwardedFor ? combinedField(rawHeaders, FORWARDED_FOR) : null;
      const certificates = clientCert ? combinedField(rawHeaders, CLIENT_CERT) : null;
      const address = chain === null ? own.address : clientFromForwardedFor(chain, trusts);
      if (address === null) return unreadable('X-Forwarded-For', chain, 'no list of IP addresses');
      const port = chain === null ? own.port : 0;
      // Its own certificate identifies the peer, not the client that the peer names.
      if (certificates === null) return { address, port, sans: chain === null ? own.sans : NO_SANS };
      const sans = lastOfXfcc(certificates);
      return sans === null ? unreadable('X-Forwarded-Client-Cert', certificates, 'no list of certificates') : { address, port, sans };
    },
  };
}

/** A list field that occurs several times is one list, in order (RFC 9110 §5.3); null: it does not occur. */
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
