/**
 * Ends the TLS of clients that asked for one of our own names. It does not
 * listen: it is given connections, of which the ClientHello may have been read
 * and put back, and gives on the TLS inside.
 */
import type { X509Certificate } from 'node:crypto';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { createServer, type Server, type TLSSocket } from 'node:tls';
import type { TlsServerConfig } from '../config/config.ts';
import { serverOptions } from '../config/tls-context.ts';
import { Fault } from '../errors.ts';
import { sansOf } from '../identity/certificate.ts';
import { type CertificateId, isRevoked, readRevocationLists, type RevocationList } from '../identity/revocation.ts';
import { closeGently } from './refuse.ts';
import { NO_SANS } from './trusted-peers.ts';

interface ServerHandshake {
  /** It must end within this, ms. */
  readonly timeout: number;
  /** TLS stands. The socket is the caller's; when it closes, so does the connection under it. */
  readonly onSecure: (socket: TLSSocket, shown: ClientCertificate) => void;
  /** The TLS handshake failed. The client has its alert, if there is one, and the connection closes. */
  readonly onFault: (fault: Fault) => void;
}

/** Ends TLS with one configuration of certificates; a reload that changes them makes another one. It has no port, and nothing to close. */
export class TlsTerminator {
  readonly names: ReadonlySet<string>;
  readonly #config: TlsServerConfig;
  readonly #server: Server;
  readonly #lists: readonly RevocationList[];
  /** By connection: Node's events give the inner socket only. */
  readonly #pending = new Map<string, { readonly finish: () => void; readonly handshake: ServerHandshake }>();

  /** @throws what OpenSSL says of a certificate that it cannot use */
  constructor(config: TlsServerConfig) {
    this.#config = config;
    this.names = new Set(config.names);
    this.#lists = readRevocationLists(config.crl ?? '').filter((list) => list !== null);
    this.#server = createServer(serverOptions(config));
    this.#server.on('secureConnection', (socket) => {
      this.#secured(socket);
    });
    this.#server.on('tlsClientError', (error, socket) => {
      this.#take(socket)?.handshake.onFault(explainHandshakeError(error));
    });
  }

  /** Whether another configuration accepts the very client certificates that this one does, but for those that are revoked. */
  identifiesLike({ clientCa, clientCertificate }: TlsServerConfig): boolean {
    return clientCertificate === this.#config.clientCertificate && (clientCertificate === 'none' || clientCa === this.#config.clientCa);
  }

  /** Whether a list of revoked certificates has one of these. */
  hasRevoked(certificates: readonly CertificateId[]): boolean {
    return certificates.some((certificate) => isRevoked(this.#lists, certificate));
  }

  /** Takes the connection over; whoever counts it does so until it closes. */
  accept(raw: Socket, handshake: ServerHandshake): void {
    const key = connectionKey(raw);
    const onClose = (): void => {
      this.#take(raw, key)?.handshake.onFault(goneAway());
    };
    const timer = setTimeout(() => {
      this.#take(raw, key)?.handshake.onFault(new Fault('request-timeout', `the TLS handshake with the client did not end within ${handshake.timeout} ms`));
      raw.destroy();
    }, handshake.timeout);
    raw.once('close', onClose);
    this.#pending.set(key, {
      handshake,
      finish: () => {
        clearTimeout(timer);
        raw.off('close', onClose);
      },
    });
    // A client that ends in the middle of the handshake is gone; TLS takes this over from the connection.
    raw.allowHalfOpen = false;
    this.#server.emit('connection', raw);
  }

  #secured(socket: TLSSocket): void {
    const pending = this.#take(socket);
    if (pending === null) {
      socket.destroy();
      return;
    }
    // From here on a plain connection: a tunnel's directions end on their own.
    socket.allowHalfOpen = true;
    pending.handshake.onSecure(socket, readClientCertificate(socket, this.#config.clientCertificate));
  }

  /** Null when it was over before. */
  #take(socket: Socket, key = connectionKey(socket)): { readonly handshake: ServerHandshake } | null {
    const pending = this.#pending.get(key);
    if (pending === undefined) return null;
    this.#pending.delete(key);
    pending.finish();
    return pending;
  }
}

/** Both sockets know both ends of the connection, and no other connection has the same two. */
function connectionKey({ remoteAddress, remotePort, localAddress, localPort }: Socket): string {
  return `${remoteAddress ?? ''} ${remotePort ?? ''} ${localAddress ?? ''} ${localPort ?? ''}`;
}

function explainHandshakeError(error: NodeJS.ErrnoException & { reason?: string }): Fault {
  if (error.code === 'ECONNRESET' || error.code === 'EPIPE') return goneAway();
  return new Fault('client-tls-failed', `the TLS handshake with the client failed: ${error.reason ?? error.message}`, { cause: error });
}

function goneAway(): Fault {
  return new Fault('client-closed', 'the client closed its connection in the middle of the TLS handshake', { remedy: 'some clients do so when they do not accept the certificate' });
}

// The TLS alerts that we send without a TLS session of our own: the client's
// handshake fails with a reason. docs/tls.md has the table.

/** RFC 8446 §5.1, §6: record type 21, the version every client of ours accepts, two bytes, fatal. */
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

/** The alert that says so; null where there is none for it. */
export function alertFor(fault: Fault): Buffer | null {
  const name = nameFor(fault);
  return name === null ? null : Buffer.from([...FATAL_ALERT, ALERTS[name]]);
}

function nameFor({ code, kind }: Fault): Alert | null {
  switch (code) {
    case 'host-not-allowed':
    case 'sni-mismatch':
      return 'unrecognized_name';
    // RFC 8446 §9.2: what a server sends that needs a name and got none.
    case 'sni-missing':
      return 'missing_extension';
    case 'tls-hello-malformed':
      return 'decode_error';
    // Nothing the client could act on.
    case 'request-timeout':
      return null;
    // Cannot be shown in raw TLS, so this is no different from another denial.
    case 'credentials-missing':
    case 'credentials-wrong':
      return 'access_denied';
    default:
      return kind.blame === 'policy' ? 'access_denied' : 'internal_error';
  }
}

/** Answers a client that is in the middle of its TLS handshake, and closes its connection. */
export function refuseTls(socket: Duplex, fault: Fault): void {
  // The client may be gone by now; then there is nobody to tell.
  socket.on('error', () => {});
  const alert = alertFor(fault);
  if (alert === null) {
    socket.destroy();
    return;
  }
  socket.end(alert);
  closeGently(socket);
}

// What a client's certificate says about it, once TLS with it stands.

/** What a TLS client has shown of itself. */
export interface ClientCertificate {
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

const NO_CHAIN: readonly X509Certificate[] = [];
/** Longer chains exist by mistake only. */
const LONGEST_CHAIN = 10;

/** @param mode whether certificates are asked for; what is shown unasked does not exist in TLS */
function readClientCertificate(socket: TLSSocket, mode: TlsServerConfig['clientCertificate']): ClientCertificate {
  if (mode === 'none') return { sans: NO_SANS, chain: NO_CHAIN, fault: null };
  const certificate = socket.getPeerX509Certificate();
  if (certificate === undefined) return { sans: NO_SANS, chain: NO_CHAIN, fault: mode === 'require' ? refuseCertificate('the client showed no certificate') : null };
  if (socket.authorized) return { sans: sansOf(certificate), chain: chainOf(certificate), fault: null };
  // Typed as an Error, and in truth the code alone.
  const code = String(socket.authorizationError);
  return { sans: NO_SANS, chain: NO_CHAIN, fault: refuseCertificate(`the client's certificate is not accepted: ${REASONS[code] ?? code}`) };
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

function refuseCertificate(detail: string): Fault {
  return new Fault('client-certificate', detail, { remedy: 'show a certificate for clients that is valid now and was issued by an authority of tlsServer.clientCaFile' });
}
