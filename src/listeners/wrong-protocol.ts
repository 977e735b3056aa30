/** Recognises, from the first bytes, what was spoken to an HTTP port instead of HTTP/1.1. */
import { Fault } from '../errors.ts';

const H2_PREFACE = Buffer.from('PRI * HTTP/2.0');

/**
 * @param bytes what the client sent first; may be as little as one byte
 * @returns the Fault that names the mistake, or null for anything else
 */
export function recognise(bytes: Buffer): Fault | null {
  switch (bytes[0]) {
    // RFC 8446 §5.1: a handshake record.
    case 0x16:
      return new Fault('tls-on-http-port', 'this port speaks plain HTTP, the client began a TLS handshake', {
        remedy: 'HTTPS_PROXY must start with http://, also for https:// destinations',
      });
    // RFC 1928 §3, and the older SOCKS 4.
    case 0x05:
    case 0x04:
      return new Fault('socks-on-http-port', `this port speaks HTTP, the client began SOCKS ${bytes[0]}`, {
        remedy: 'set the client to an HTTP proxy: http://, not socks://',
      });
  }
  // RFC 9113 §3.4.
  const length = Math.min(bytes.length, H2_PREFACE.length);
  if (length >= 3 && bytes.subarray(0, length).equals(H2_PREFACE.subarray(0, length))) {
    return new Fault('http2-on-http-port', 'this port speaks HTTP/1.1, the client began HTTP/2', {
      remedy: 'use HTTP/1.1 to the proxy; HTTP/2 works inside a CONNECT tunnel',
    });
  }
  return null;
}
