/** Recognises, from the first bytes, another protocol on an HTTP port for HTTP/1.1. */
import type { ListenerConfig } from '../config/config.ts';
import { Fault } from '../errors.ts';
import { isToken } from '../http1/fields.ts';
import { CR, LF } from '../http1/head-reader.ts';
import { isProxyHeader } from './proxy-protocol.ts';

/** What is known of the connection. */
export interface Spoken {
  readonly peer: { readonly address: string };
  /** Length of its PROXY header, bytes; 0: there was none. */
  readonly proxyHeaderLength: number;
  /** TLS has been established on it. */
  readonly secure: boolean;
}

const LETTER_P = 0x50;
const H2_PREFACE = Buffer.from('PRI * HTTP/2.0');

/**
 * @param bytes the client's first bytes, at least one
 * @returns the Fault that names the protocol; null for HTTP/1.1 or a possible beginning
 * of it
 */
export function recogniseMistake(bytes: Buffer, spoken: Spoken, proxyProtocol: ListenerConfig['proxyProtocol']): Fault | null {
  const [first] = bytes;
  if (first === undefined) return null;
  switch (first) {
    // RFC 8446 §5.1: a handshake record.
    case 0x16:
      return spoken.secure
        ? new Fault('tls-on-http-port', 'TLS to this proxy is established, and the client began another TLS handshake inside it', {
            remedy: 'send CONNECT before the TLS for the destination, and begin TLS once: in the client or in its sidecar',
          })
        : new Fault('tls-on-http-port', 'this port speaks plain HTTP, the client began a TLS handshake', {
            remedy:
              'HTTPS_PROXY must start with http://, also for https:// destinations; if a sidecar began it, its DestinationRule for the proxy needs trafficPolicy.tls.mode: DISABLE',
          });
    // RFC 1928 §3, and the older SOCKS 4.
    case 0x05:
    case 0x04:
      return new Fault('socks-on-http-port', `this port speaks HTTP, the client began SOCKS ${first}`, {
        remedy: 'set the client to an HTTP proxy: http://, not socks://',
      });
    // HTTP/2, and a PROXY header as text.
    case LETTER_P:
      return isHttp2(bytes)
        ? new Fault('http2-on-http-port', 'this port speaks HTTP/1.1, the client began HTTP/2', {
            remedy: 'use HTTP/1.1 to the proxy; HTTP/2 works inside a CONNECT tunnel',
          })
        : proxyHeaderMistake(bytes, spoken, proxyProtocol);
    // A binary PROXY header; but RFC 9112 §2.2 allows empty lines first.
    case CR:
      return proxyHeaderMistake(bytes, spoken, proxyProtocol);
    case LF:
      return null;
    default:
      return isToken(String.fromCharCode(first)) ? null : new Fault('request-malformed', 'the request does not begin with a method');
  }
}

/** RFC 9113 §3.4. PRI followed by a space is a method that HTTP/1.1 will never have (RFC 7540 §11.6). */
function isHttp2(bytes: Buffer): boolean {
  const length = Math.min(bytes.length, H2_PREFACE.length);
  return length >= 4 && bytes.compare(H2_PREFACE, 0, length, 0, length) === 0;
}

/** A PROXY header where none is accepted; null: there is none. */
export function proxyHeaderMistake(
  bytes: Buffer,
  { peer, proxyHeaderLength, secure }: Spoken,
  proxyProtocol: ListenerConfig['proxyProtocol'],
): Fault | null {
  if (!isProxyHeader(bytes)) return null;
  if (proxyHeaderLength > 0) {
    return new Fault('proxy-protocol-malformed', 'a second PROXY header follows the first', {
      remedy: 'let only the load balancer next to this proxy write one',
    });
  }
  const { address } = peer;
  const before = secure ? 'make the peer send it before TLS, and ' : '';
  return proxyProtocol === 'off'
    ? new Fault('peer-not-trusted', `${address} began with a PROXY header, which this listener does not take`, {
        remedy: `${before}set the listener's proxyProtocol to from-trusted and list the peer in its trustedPeers, or stop the peer sending it`,
      })
    : new Fault('peer-not-trusted', `${address} began with a PROXY header, and is not among the listener's trustedPeers`, {
        remedy: `${before}list the peer in the listener's trustedPeers, or stop it sending the header`,
      });
}
