/**
 * Terminates the TLS of clients that asked for one of the proxy's own names. It
 * does not listen: it is passed connections, whose ClientHello may have been
 * read and put back, and returns the decrypted streams.
 */
import type { X509Certificate } from 'node:crypto';
import type { Socket } from 'node:net';
import { createServer, type Server, type TLSSocket } from 'node:tls';
import type { TlsServerConfig } from '../config/config.ts';
import { certificatesIn, serverContext, serverOptions, splitCertificates, trustedUntil } from '../config/tls-context.ts';
import { Fault } from '../errors.ts';
import { sansOf } from '../identity/certificate.ts';
import { type CertificateId, isRevoked, readRevocationLists, type RevocationList } from '../identity/revocation.ts';
import { TimeLimit } from '../time-limit.ts';
import { NO_SANS } from './trusted-peers.ts';

interface ServerHandshake {
  /** Time limit for the handshake, ms. */
  readonly timeout: number;
  /** TLS is established. The socket is the caller's; when it closes, so does the connection under it. */
  readonly onSecure: (socket: TLSSocket) => void;
  /** The TLS handshake failed. The client has got its alert, if there is one, and the connection closes. */
  readonly onFault: (fault: Fault) => void;
}

/** Terminates TLS with one configuration of certificates; a reload that changes them creates another one. It has no port, and nothing to close. */
export class TlsTerminator {
  readonly names: ReadonlySet<string>;
  readonly #config: TlsServerConfig;
  readonly #server: Server;
  readonly #lists: readonly RevocationList[];
  readonly #authorities: readonly X509Certificate[];
  /** By connection: Node's events give only the inner socket. */
  readonly #pending = new Map<string, { readonly finish: () => void; readonly handshake: ServerHandshake }>();

  /** @throws OpenSSL's error for a certificate that it cannot use */
  constructor(config: TlsServerConfig) {
    this.#config = config;
    this.names = new Set(config.names);
    this.#authorities = certificatesIn(config.clientCa);
    this.#lists = readRevocationLists(config.crl ?? '').filter((list) => list !== null);
    const context = serverContext(config);
    // Node's server makes its own context without `allowPartialTrustChain`, and does not say so. Our names come as SNI,
    // so it verifies no certificate, and needs no lists.
    this.#server = createServer({
      ...serverOptions(config),
      crl: undefined,
      SNICallback: (_name, done) => {
        done(null, context);
      },
    });
    this.#server.on('secureConnection', (socket) => {
      this.#secured(socket);
    });
    this.#server.on('tlsClientError', (error, socket) => {
      this.#take(socket)?.handshake.onFault(explainHandshakeError(error));
    });
  }

  /** Whether another configuration accepts exactly the same client certificates, revoked ones aside. */
  identifiesLike({ clientCa, clientCertificate }: TlsServerConfig): boolean {
    return clientCertificate === this.#config.clientCertificate && (clientCertificate === 'none' || clientCa === this.#config.clientCa);
  }

  /** Whether another configuration trusts each authority that this one trusts, and so accepts every certificate that it accepted, revoked ones aside. */
  isWidenedBy({ clientCa, clientCertificate }: TlsServerConfig): boolean {
    if (clientCertificate === 'none' || clientCa === null || this.#config.clientCa === null) return false;
    const trusted = new Set(splitCertificates(clientCa));
    return splitCertificates(this.#config.clientCa).every((authority) => trusted.has(authority));
  }

  /** Whether a list of revoked certificates contains one of these. */
  hasRevoked(certificates: readonly CertificateId[]): boolean {
    return certificates.some((certificate) => isRevoked(this.#lists, certificate));
  }

  /** What the client has shown in the handshake. TLS has no certificates that were not asked for. */
  readCertificate(socket: TLSSocket): ClientCertificate {
    const { clientCertificate } = this.#config;
    if (clientCertificate === 'none') return NO_CERTIFICATE;
    const certificate = socket.getPeerX509Certificate();
    if (certificate === undefined)
      return clientCertificate === 'require'
        ? { ...NO_CERTIFICATE, fault: refuseCertificate('the client showed no certificate') }
        : NO_CERTIFICATE;
    if (socket.authorized) {
      const authorities = this.#authorities;
      const until = trustedUntil(certificate, authorities);
      return { sans: sansOf(certificate), chain: chainOf(certificate, authorities), until, fault: null };
    }
    // Typed as an Error, but it is only the code.
    const code = String(socket.authorizationError);
    return { ...NO_CERTIFICATE, fault: refuseCertificate(`the client's certificate is not accepted: ${REASONS[code] ?? code}`) };
  }

  /** Takes the connection over; the caller counts it until it closes. */
  accept(raw: Socket, handshake: ServerHandshake): void {
    const key = connectionKey(raw);
    const onClose = (): void => {
      this.#take(raw, key)?.handshake.onFault(goneAway());
    };
    const limit = new TimeLimit(handshake.timeout, () => {
      this.#take(raw, key)?.handshake.onFault(
        new Fault('request-timeout', `the TLS handshake with the client did not end within ${handshake.timeout} ms`),
      );
      raw.destroy();
    });
    raw.once('close', onClose);
    this.#pending.set(key, {
      handshake,
      finish: () => {
        limit.clear();
        raw.off('close', onClose);
      },
    });
    // A client that ends in the middle of the handshake has gone; TLS inherits this from the connection.
    raw.allowHalfOpen = false;
    this.#server.emit('connection', raw);
  }

  #secured(socket: TLSSocket): void {
    const pending = this.#take(socket);
    if (pending === null) {
      socket.destroy();
      return;
    }
    // From here on a plain connection: each direction of a tunnel ends on its own.
    socket.allowHalfOpen = true;
    pending.handshake.onSecure(socket);
  }

  /** Null when it had ended before. */
  #take(socket: Socket, key = connectionKey(socket)): { readonly handshake: ServerHandshake } | null {
    const pending = this.#pending.get(key);
    if (pending === undefined) return null;
    this.#pending.delete(key);
    pending.finish();
    return pending;
  }
}

/** Both sockets have the same two addresses and ports, which no other connection has. */
function connectionKey({ remoteAddress, remotePort, localAddress, localPort }: Socket): string {
  return `${remoteAddress ?? ''} ${remotePort ?? ''} ${localAddress ?? ''} ${localPort ?? ''}`;
}

function explainHandshakeError(error: NodeJS.ErrnoException & { reason?: string }): Fault {
  if (error.code === 'ECONNRESET' || error.code === 'EPIPE') return goneAway();
  return new Fault('client-tls-failed', `the TLS handshake with the client failed: ${error.reason ?? error.message}`, { cause: error });
}

function goneAway(): Fault {
  return new Fault('client-closed', 'the client closed its connection in the middle of the TLS handshake', {
    remedy: 'some clients do so when they do not accept the certificate',
  });
}

// The TLS alerts that the proxy sends without its own TLS session: the client's
// handshake fails with a reason. docs/tls.md has the table.

/** RFC 8446 §5.1, §6: record type 21, the version that all clients accept, two bytes, fatal. */
const FATAL_ALERT = [21, 3, 3, 0, 2, 2] as const;

/** RFC 8446 §6, RFC 6066 §9. */
const ALERTS = {
  access_denied: 49,
  decode_error: 50,
  internal_error: 80,
  missing_extension: 109,
  unrecognized_name: 112,
} as const;

type Alert = keyof typeof ALERTS;

/** The alert for this fault; null: there is none. */
export function alertFor(fault: Fault): Buffer | null {
  const name = nameFor(fault);
  return name === null ? null : Buffer.from([...FATAL_ALERT, ALERTS[name]]);
}

function nameFor({ code, kind }: Fault): Alert | null {
  switch (code) {
    case 'host-not-allowed':
    case 'sni-mismatch':
      return 'unrecognized_name';
    // RFC 8446 §9.2: what a server sends that requires a name and got none.
    case 'sni-missing':
      return 'missing_extension';
    case 'tls-hello-malformed':
      return 'decode_error';
    // Nothing that the client could change.
    case 'request-timeout':
      return null;
    // Raw TLS cannot carry credentials, so this is like any other denial.
    case 'credentials-missing':
    case 'credentials-wrong':
      return 'access_denied';
    default:
      return kind.blame === 'policy' ? 'access_denied' : 'internal_error';
  }
}

// What a client certificate says about the client, after the handshake.

/** What a TLS client has presented. */
export interface ClientCertificate {
  /** Names in a verified certificate. */
  readonly sans: readonly string[];
  /** That certificate and its issuers; empty: there is none. */
  readonly chain: readonly X509Certificate[];
  /** When the first certificate of that chain expires, ms since the epoch. */
  readonly until: number;
  /** Why no request on this connection can be served; null when they can. */
  readonly fault: Fault | null;
}

/** OpenSSL's codes as Node gives them, for the most common cases; any other is quoted. */
const REASONS: Readonly<Record<string, string>> = {
  CERT_HAS_EXPIRED: 'it has expired',
  CERT_NOT_YET_VALID: 'it is not valid yet',
  CERT_REVOKED: 'it has been revoked',
  UNABLE_TO_GET_CRL: 'tlsServer.crlFile has no list of its authority, or one for other certificates only',
  CRL_HAS_EXPIRED: 'the list of its authority in tlsServer.crlFile is out of date',
  CRL_NOT_YET_VALID: 'the list of its authority in tlsServer.crlFile is not valid yet',
  CRL_SIGNATURE_FAILURE: 'the list of its authority in tlsServer.crlFile is signed with another key',
  INVALID_PURPOSE: 'it is not for clients (extended key usage)',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: 'none of the authorities in clientCaFile issued it',
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: 'none of the authorities in clientCaFile issued it',
  SELF_SIGNED_CERT_IN_CHAIN: 'none of the authorities in clientCaFile issued it',
  DEPTH_ZERO_SELF_SIGNED_CERT: 'it is self-signed',
  // OpenSSL's reasons that have no name in Node.
  UNSPECIFIED:
    'OpenSSL refuses it: its key may be too short, its authority may not issue its names or sign lists, or it has a critical extension that is not known',
};

const NO_CERTIFICATE: ClientCertificate = { sans: NO_SANS, chain: [], until: Infinity, fault: null };

/**
 * The certificate and all that issued it: OpenSSL has verified one chain of these, and does not say which. The client may
 * have left out some of them, and sent others that have expired or do not belong to it.
 */
function chainOf(certificate: X509Certificate, authorities: readonly X509Certificate[]): readonly X509Certificate[] {
  const others = new Set(authorities);
  for (let next = certificate.issuerCertificate; next !== undefined; next = next.issuerCertificate) others.add(next);
  const chain = [certificate];
  for (const issued of chain) {
    for (const other of others)
      if (issued.checkIssued(other) && Date.now() < other.validToDate.getTime() && others.delete(other)) chain.push(other);
  }
  return chain;
}

function refuseCertificate(detail: string): Fault {
  return new Fault('client-certificate', detail, {
    remedy: 'show a certificate for clients that is valid now and was issued by an authority of tlsServer.clientCaFile',
  });
}
