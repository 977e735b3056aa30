/** What a client's certificate says about it, once TLS with it stands. */
import type { TLSSocket } from 'node:tls';
import type { TlsServerConfig } from '../config/config.ts';
import { Fault } from '../errors.ts';
import { sansOf } from '../identity/certificate.ts';

export interface ShownCertificate {
  /** Names of a certificate that was verified. */
  readonly sans: readonly string[];
  /** Why no request on this connection can be served; null when they can. */
  readonly fault: Fault | null;
}

/** OpenSSL's codes as Node gives them, for what happens most; any other is quoted. */
const REASONS: Readonly<Record<string, string>> = {
  CERT_HAS_EXPIRED: 'it has expired',
  CERT_NOT_YET_VALID: 'it is not valid yet',
  INVALID_PURPOSE: 'it is not for clients (extended key usage)',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: 'none of the authorities in clientCaFile issued it',
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: 'none of the authorities in clientCaFile issued it',
  SELF_SIGNED_CERT_IN_CHAIN: 'none of the authorities in clientCaFile issued it',
  DEPTH_ZERO_SELF_SIGNED_CERT: 'it is self-signed',
};

const NO_SANS: readonly string[] = [];

/** @param mode whether certificates are asked for; what is shown unasked does not exist in TLS */
export function readClientCertificate(socket: TLSSocket, mode: TlsServerConfig['clientCertificate']): ShownCertificate {
  if (mode === 'none') return { sans: NO_SANS, fault: null };
  const certificate = socket.getPeerX509Certificate();
  if (certificate === undefined) return { sans: NO_SANS, fault: mode === 'require' ? refuse('the client showed no certificate') : null };
  if (socket.authorized) return { sans: sansOf(certificate), fault: null };
  // Typed as an Error, and in truth the code alone.
  const code = String(socket.authorizationError);
  return { sans: NO_SANS, fault: refuse(`the client's certificate is not accepted: ${REASONS[code] ?? code}`) };
}

function refuse(detail: string): Fault {
  return new Fault('client-certificate', detail, { remedy: 'show a certificate for clients that is valid now and was issued by an authority of tlsServer.clientCaFile' });
}
