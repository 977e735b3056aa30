/**
 * OpenSSL's settings for TLS on either side. The loader and the handshakes call
 * these same functions, so a file that loads can be served.
 */
import { constants, X509Certificate } from 'node:crypto';
import { createSecureContext, type SecureContext, type TlsOptions } from 'node:tls';
import { isDeepStrictEqual } from 'node:util';
import type { TlsServerConfig, UpstreamTlsConfig } from './config.ts';

/** Each certificate of caFile is a trust anchor, also one issued by another authority (OpenSSL's `-partial_chain`). */
const EACH_IS_TRUSTED = { allowPartialTrustChain: true } as const;

/**
 * Towards an upstream or parent. Its own authorities replace the system's: a
 * configured authority is meant exclusively, and a public authority must not be
 * able to vouch for a private partner.
 *
 * @throws OpenSSL's error for a certificate or key that it cannot use
 */
export function clientContext({ ca, cert, key }: Pick<UpstreamTlsConfig, 'ca' | 'cert' | 'key'>): SecureContext {
  return createSecureContext({
    minVersion: 'TLSv1.2',
    ...(ca === null ? {} : { ca, ...EACH_IS_TRUSTED }),
    ...(cert === null ? {} : { cert }),
    ...(key === null ? {} : { key }),
  });
}

/** RFC 9325 §4.2: forward secrecy and authenticated encryption only; TLS 1.3 has no others. */
const SUITES = [
  'TLS_AES_128_GCM_SHA256',
  'TLS_AES_256_GCM_SHA384',
  'TLS_CHACHA20_POLY1305_SHA256',
  ...['AES128-GCM-SHA256', 'AES256-GCM-SHA384', 'CHACHA20-POLY1305'].flatMap((cipher) => [`ECDHE-ECDSA-${cipher}`, `ECDHE-RSA-${cipher}`]),
].join(':');

/** Towards clients. */
export function serverOptions({ cert, key, clientCa, clientCertificate, crl }: TlsServerConfig): TlsOptions {
  // A client that renegotiates makes the proxy repeat the expensive part of a handshake (RFC 9325 §3.5).
  const secureOptions = constants.SSL_OP_NO_RENEGOTIATION;
  const options: TlsOptions = { cert, key, minVersion: 'TLSv1.2', ciphers: SUITES, secureOptions, ALPNProtocols: ['http/1.1'] };
  if (clientCertificate === 'none' || clientCa === null) return options;
  // With lists, OpenSSL needs each chain up to its root, whose list has that of the next authority.
  // Not refused here, where a client would only see a closed connection, but with each request. A resumed session has
  // no certificate: it would outlast its expiry, and its authority.
  return {
    ...options,
    requestCert: true,
    rejectUnauthorized: false,
    ca: clientCa,
    ...(crl === null ? EACH_IS_TRUSTED : { crl }),
    secureOptions: secureOptions | constants.SSL_OP_NO_TICKET,
  };
}

/** The latest one: a list of revoked certificates may take 100 MB and half a second in it. */
let latestContext: { readonly config: TlsServerConfig; readonly context: SecureContext } | null = null;

/**
 * Towards clients. The same for the same configuration, so what was tested is what is used.
 * @throws OpenSSL's error for a certificate, key or list that it cannot use
 */
export function serverContext(config: TlsServerConfig): SecureContext {
  if (latestContext === null || !isDeepStrictEqual(latestContext.config, config))
    latestContext = { config, context: createSecureContext(serverOptions(config)) };
  return latestContext.context;
}

/** The same for lists of revoked certificates alone. @throws OpenSSL's error for those that it cannot use */
export function tryLists(crl: string): void {
  if (latestContext?.config.crl !== crl) createSecureContext({ crl });
}

/** The certificates of a text that has nothing else. */
export function certificatesIn(pem: string | null): X509Certificate[] {
  return splitCertificates(pem).map((each) => new X509Certificate(each));
}

/** The same, each as its own text. */
export function splitCertificates(pem: string | null): string[] {
  return pem?.match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g) ?? [];
}

/**
 * Until when a verified certificate is trusted, ms since the epoch: until the
 * first certificate of its chain expires. OpenSSL does not say which chain it
 * has verified, so the one that lasts longest counts.
 *
 * @param certificate with the others that the peer has sent
 * @param authorities those that are trusted; if none of them issued it, its own end counts
 */
export function trustedUntil(certificate: X509Certificate, authorities: readonly X509Certificate[]): number {
  // One that is not a time is not verified.
  const endOf = ({ validToDate }: X509Certificate): number => validToDate.getTime() || 0;
  const others = new Set(authorities);
  for (let next = certificate.issuerCertificate; next !== undefined; next = next.issuerCertificate) others.add(next);
  // The one that is reached for longest goes first, so nothing reaches another one for longer afterwards.
  const reached = new Map([[certificate, endOf(certificate)]]);
  for (let [first] = reached; first !== undefined; [first] = [...reached].sort(([, one], [, two]) => two - one)) {
    const [issued, until] = first;
    if (authorities.includes(issued)) return until;
    reached.delete(issued);
    for (const other of others) if (issued.checkIssued(other) && others.delete(other)) reached.set(other, Math.min(until, endOf(other)));
  }
  return endOf(certificate);
}
