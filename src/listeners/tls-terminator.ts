/**
 * Ends the TLS of clients that asked for one of our own names. It does not
 * listen: it is given connections, of which the ClientHello may have been read
 * and put back, and gives on the TLS inside.
 */
import type { Socket } from 'node:net';
import { createServer, type Server, type TLSSocket } from 'node:tls';
import type { TlsServerConfig } from '../config/config.ts';
import { serverOptions } from '../config/tls-context.ts';
import { Fault } from '../errors.ts';
import { type CertificateId, isRevoked, readRevocationLists, type RevocationList } from '../identity/revocation.ts';
import { readClientCertificate, type ShownCertificate } from './client-certificate.ts';

export interface Handshake {
  /** It must end within this, ms. */
  readonly timeout: number;
  /** TLS stands. The socket is the caller's; when it closes, so does the connection under it. */
  readonly onSecure: (socket: TLSSocket, shown: ShownCertificate) => void;
  /** The TLS handshake failed. The client has its alert, if there is one, and the connection closes. */
  readonly onFault: (fault: Fault) => void;
}

export class TlsTerminator {
  readonly names: ReadonlySet<string>;
  readonly #config: TlsServerConfig;
  readonly #server: Server;
  readonly #lists: readonly RevocationList[];
  /** By connection: Node's events give the inner socket only. */
  readonly #pending = new Map<string, { readonly finish: () => void; readonly handshake: Handshake }>();

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
      this.#take(socket)?.handshake.onFault(explain(error));
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
  accept(raw: Socket, handshake: Handshake): void {
    const key = keyOf(raw);
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
    // From here on as on a plain connection: a tunnel's directions end on their own.
    socket.allowHalfOpen = true;
    pending.handshake.onSecure(socket, readClientCertificate(socket, this.#config.clientCertificate));
  }

  /** Null when it was over before. */
  #take(socket: Socket, key = keyOf(socket)): { readonly handshake: Handshake } | null {
    const pending = this.#pending.get(key);
    if (pending === undefined) return null;
    this.#pending.delete(key);
    pending.finish();
    return pending;
  }
}

/** Both sockets know both ends of the connection, and no other connection has the same two. */
function keyOf({ remoteAddress, remotePort, localAddress, localPort }: Socket): string {
  return `${remoteAddress ?? ''} ${remotePort ?? ''} ${localAddress ?? ''} ${localPort ?? ''}`;
}

function explain(error: NodeJS.ErrnoException & { reason?: string }): Fault {
  if (error.code === 'ECONNRESET' || error.code === 'EPIPE') return goneAway();
  return new Fault('client-tls-failed', `the TLS handshake with the client failed: ${error.reason ?? error.message}`, { cause: error });
}

function goneAway(): Fault {
  return new Fault('client-closed', 'the client closed its connection in the middle of the TLS handshake', { remedy: 'some clients do so when they do not accept the certificate' });
}
