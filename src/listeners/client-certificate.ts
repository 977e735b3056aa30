/** What a client's certificate says about it, once TLS with it stands. */
import type { X509Certificate } from 'node:crypto';
import type { TLSSocket } from 'node:tls';
import type { TlsServerConfig } from '../config/config.ts';
import { Fault } from '../errors.ts';
import { sansOf } from '../identity/certificate.ts';

export interface ShownCertificate {
  /** Names of a certificate that was verified. */
  readonly sans: readonly string[];
  /** That certificate and its issuers, as far as they are known; empty where there is none. */
  readonly chain: readonly X509Certificate[];
  /** Why no request on this connection can be served; null when they can. */
  readonly fault: Fault | null;
}

/** OpenSSL's codes as Node gives them, for what happens most; any other is quoted. */
const REASONS: Readonly<Record<string, string>> = {
  CERT_HAS_EXPIRED: 'it has expired',
  CERT_NOT_YET_VALID: 'it is not valid yet',
  CERT_REVOKED: 'it has been revoked',
  UNABLE_TO_GET_CRL: 'tlsServer.crlFile has no list of the authority that issued it',
  CRL_HAS_EXPIRED: 'the list of its authority in tlsServer.crlFile is out of date',
  CRL_NOT_YET_VALID: 'the list of its authority in tlsServer.crlFile is not valid yet',
  INVALID_PURPOSE: 'it is not for clients (extended key usage)',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: 'none of the authorities in clientCaFile issued it',
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: 'none of the authorities in clientCaFile issued it',
  SELF_SIGNED_CERT_IN_CHAIN: 'none of the authorities in clientCaFile issued it',
  DEPTH_ZERO_SELF_SIGNED_CERT: 'it is self-signed',
};

const NO_SANS: readonly string[] = [];
const NO_CHAIN: readonly X509Certificate[] = [];
/** Longer chains exist by mistake only. */
const LONGEST_CHAIN = 10;

/** @param mode whether certificates are asked for; what is shown unasked does not exist in TLS */
export function readClientCertificate(socket: TLSSocket, mode: TlsServerConfig['clientCertificate']): ShownCertificate {
  if (mode === 'none') return { sans: NO_SANS, chain: NO_CHAIN, fault: null };
  const certificate = socket.getPeerX509Certificate();
  if (certificate === undefined) return { sans: NO_SANS, chain: NO_CHAIN, fault: mode === 'require' ? refuse('the client showed no certificate') : null };
  if (socket.authorized) return { sans: sansOf(certificate), chain: chainOf(certificate), fault: null };
  // Typed as an Error, and in truth the code alone.
  const code = String(socket.authorizationError);
  return { sans: NO_SANS, chain: NO_CHAIN, fault: refuse(`the client's certificate is not accepted: ${REASONS[code] ?? code}`) };
}

/** When the first certificate of a chain expires, ms since the epoch. */
export function expiryOf(chain: readonly X509Certificate[]): number {
  return Math.min(...chain.map(({ validToDate }) => validToDate.getTime()));
}

function chainOf(certificate: X509Certificate): readonly X509Certificate[] {
  const chain = [certificate];
  for (let next = certificate.issuerCertificate; next !== undefined && chain.length < LONGEST_CHAIN; next = next.issuerCertificate) {
    // A root is its own issuer.
    if (chain.at(-1)?.fingerprint256 === next.fingerprint256) break;
    chain.push(next);
  }
  return chain;
}

function refuse(detail: string): Fault {
  return new Fault('client-certificate', detail, { remedy: 'show a certificate for clients that is valid now and was issued by an authority of tlsServer.clientCaFile' });
}
