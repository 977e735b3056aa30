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
import { quote } from '../target/quote.ts';
import type { ProxyHeader } from './proxy-protocol.ts';

/** As much of a Peer as the connection and its trusted peers tell. */
export interface ClientPeer extends Pick<Peer, 'address' | 'sans'> {
  /** 0: not known, because a trusted peer told the address alone. */
  readonly port: number;
}

export interface PeerReader {
  /** Whether the connection itself comes from a peer that may speak for others. */
  trusts(socket: Socket): boolean;
  /** Who asks by this request. @returns a Fault when a trusted peer says what cannot be read */
  read(socket: Socket, rawHeaders: readonly string[]): ClientPeer | Fault;
}

const FORWARDED_FOR = 'x-forwarded-for';
const CLIENT_CERT = 'x-forwarded-client-cert';
const NO_SANS: readonly string[] = [];

const kPeer = Symbol('peer of the connection');
const kHeader = Symbol('length of the PROXY header');
const kFault = Symbol('what is wrong with the connection');
type Known = Socket & { [kPeer]?: ClientPeer; [kHeader]?: number; [kFault]?: Fault };

/** The connection's own client, known once: what the PROXY header said, or else the other end of the TCP connection. */
export function connectionPeer(socket: Socket): ClientPeer {
  const known = socket as Known;
  let peer = known[kPeer];
  if (peer === undefined) {
    peer = { address: otherEnd(socket), port: socket.remotePort ?? 0, sans: NO_SANS };
    known[kPeer] = peer;
  }
  return peer;
}

/** The connection began with this header: from now on it is the client's that the header names. */
export function noteProxyHeader(socket: Socket, { address, port, length }: ProxyHeader): void {
  const known = socket as Known;
  known[kHeader] = length;
  if (address !== null) known[kPeer] = { address, port, sans: NO_SANS };
}

/** The connection inside another one, TLS in TCP: it has the same client, with the names that its certificate shows. */
export function noteInner(inner: Socket, outer: Socket, sans: readonly string[]): void {
  (inner as Known)[kPeer] = { ...connectionPeer(outer), sans };
}

/** No request on this connection is served from now on: each is refused with `fault`. */
export function noteFault(socket: Socket, fault: Fault): void {
  (socket as Known)[kFault] = fault;
}

export function connectionFault(socket: Socket): Fault | null {
  return (socket as Known)[kFault] ?? null;
}

/** Bytes of the PROXY header that the connection began with; 0 where there was none. */
export function proxyHeaderLength(socket: Socket): number {
  return (socket as Known)[kHeader] ?? 0;
}

export function createPeerReader({ trustedPeers, believe }: Pick<ListenerConfig, 'trustedPeers' | 'believe'>): PeerReader {
  const table = buildCidrTable([trustedPeers]);
  const isTrusted = (address: string): boolean => table.find(address) !== -1;
  const forwardedFor = believe.includes(FORWARDED_FOR);
  const clientCert = believe.includes(CLIENT_CERT);
  return {
    trusts: (socket) => isTrusted(connectionPeer(socket).address),
    read(socket, rawHeaders) {
      const own = connectionPeer(socket);
      if (believe.length === 0 || !isTrusted(own.address)) return own;
      const chain = forwardedFor ? valueOf(rawHeaders, FORWARDED_FOR) : null;
      const certificates = clientCert ? valueOf(rawHeaders, CLIENT_CERT) : null;
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
function valueOf(raw: readonly string[], name: string): string | null {
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

/** An IPv4 client of a dual-stack listener is known by its IPv4 address. */
function otherEnd(socket: Socket): string {
  const address = socket.remoteAddress ?? '-';
  return address.startsWith('::ffff:') && address.includes('.') ? address.slice(7) : address;
}
