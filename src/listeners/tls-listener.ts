/**
 * A port for TLS. The ClientHello of each connection decides: TLS for one of
 * the proxy's own names is terminated here and carries HTTP, any other is
 * forwarded to the destination that it names. docs/tls.md is its contract.
 */
import type { TLSSocket } from 'node:tls';
import { Fault } from '../errors.ts';
import { idOf } from '../identity/revocation.ts';
import type { Proof } from '../policy/verdict.ts';
import { ClientHelloReader, type HelloResult } from '../targets/client-hello.ts';
import type { ClientConnection } from './client-connection.ts';
import { alertFor, type ClientCertificate, type TlsTerminator } from './tls-terminator.ts';
import { ConnectionGate, type ListenerOptions, unreadRecordOf } from './connection-gate.ts';
import { receiveFirstBytes } from './first-bytes.ts';
import { endUnread, environmentOf } from './request-context.ts';
import type { SniForm } from './sni-form.ts';
import { proxyHeaderMistake } from './wrong-protocol.ts';

interface TlsListenerOptions extends ListenerOptions {
  readonly sni: SniForm;
  /** From `tlsServer` of the configuration in force; null: TLS is not terminated here. */
  readonly terminator: TlsTerminator | null;
}

/** A port that accepts raw TLS, and TLS for the proxy's own names. */
export class TlsListener extends ConnectionGate {
  readonly #options: TlsListenerOptions;
  #terminator: TlsTerminator | null;

  constructor(options: TlsListenerOptions) {
    super(options);
    this.#options = options;
    this.#terminator = options.terminator;
  }

  /** New connections use the terminator of the configuration that is in force now. Connections authenticated in another way are closed. @returns how many of them were tunnels */
  adopt(terminator: TlsTerminator | null): number {
    const before = this.#terminator;
    this.#terminator = terminator;
    if (before === null) return 0;
    const [verified, others] = [this.#isOutdated(before, true), this.#isOutdated(before, false)];
    let cut = 0;
    if (!others) return cut;
    for (const connection of this.connections) {
      if (!connection.secure || (!verified && connection.proof !== null)) continue;
      connection.guard(() => {
        if (connection.revoke(outdated())) cut += 1;
      });
    }
    return cut;
  }

  /**
   * The previous configuration identified clients in another way than this one.
   * @param verified whether the client has shown a certificate that was accepted: it still would be where authorities
   * were only added, while a client without one might now show one
   */
  #isOutdated(terminator: TlsTerminator, verified: boolean): boolean {
    const { tlsServer } = this.#options.environment.config;
    return tlsServer === null || !(terminator.identifiesLike(tlsServer) || (verified && terminator.isWidenedBy(tlsServer)));
  }

  protected override begin(connection: ClientConnection): void {
    const reader = new ClientHelloReader();
    receiveFirstBytes(connection.socket, {
      timeout: this.#options.environment.config.timeouts.requestHeaders,
      onBytes: (chunk) => {
        const result = reader.push(chunk);
        if (result === 'more') return null;
        const head = reader.earlier.length === 0 ? chunk : Buffer.concat([reader.earlier, chunk]);
        return () => {
          connection.guard(() => {
            this.#onHello(connection, result, head);
          });
        };
      },
      onGiveUp: (why) => {
        if (why === 'reset') connection.left('the ClientHello');
        else
          connection.guard(() => {
            this.refuse(
              connection,
              why === 'late'
                ? new Fault('request-timeout', 'the ClientHello did not arrive in time')
                : malformedHello('the connection ended in the middle of it'),
            );
          });
      },
    });
  }

  #onHello(connection: ClientConnection, result: HelloResult, head: Buffer): void {
    if (result.kind === 'not-tls') {
      this.#onOther(connection, result.reason, head);
      return;
    }
    if (result.kind === 'invalid') {
      this.refuse(connection, malformedHello(result.reason));
      return;
    }
    const { serverName, random, ech } = result;
    const terminator = this.#terminator;
    if (serverName === null)
      this.refuse(
        connection,
        new Fault('sni-missing', 'the ClientHello names no host', { remedy: 'call by name: TLS to an address names none' }),
      );
    else if (terminator?.names.has(serverName) === true) this.#terminate(connection, terminator, head);
    else this.#options.sni.onSteered(connection, { head, host: serverName, random, ech });
  }

  #terminate(connection: ClientConnection, terminator: TlsTerminator, head: Buffer): void {
    const raw = connection.socket;
    raw.unshift(head);
    terminator.accept(raw, {
      timeout: this.#options.environment.config.timeouts.tls,
      onSecure: (socket) => {
        connection.guard(() => {
          const shown = terminator.readCertificate(socket);
          // A reload during the handshake.
          this.#serveInside(
            connection,
            socket,
            this.#isOutdated(terminator, shown.chain.length > 0) ? { ...shown, fault: outdated() } : shown,
          );
        });
      },
      onFault: (fault) => {
        // The proxy itself closes it while it drains; and a load balancer resets its checks once it has seen the handshake succeed.
        const expected = fault.code === 'client-closed' && (this.#options.environment.draining || connection.isOfPeer);
        connection.guard(() => {
          if (!expected) this.#note(connection, fault);
        });
      },
    });
  }

  #serveInside(connection: ClientConnection, socket: TLSSocket, certificate: ClientCertificate): void {
    connection.secured(socket, certificate.sans);
    connection.fault = certificate.fault;
    connection.proof = this.#proofOf(certificate);
    connection.serve();
  }

  /** Checks an accepted certificate against the current list of revoked certificates. */
  #proofOf({ chain, until }: ClientCertificate): Proof | null {
    if (chain.length === 0) return null;
    const ids = chain.map(idOf).filter((id) => id !== null);
    return {
      of: 'connection',
      lapsed: (now) => {
        if (now >= until) return "the client's certificate has expired";
        return this.#terminator?.hasRevoked(ids) === true ? "the client's certificate has been revoked" : null;
      },
    };
  }

  /** Not TLS. Plain HTTP gets an HTTP answer; TLS is to follow a PROXY header; no other protocol could read an answer. */
  #onOther(connection: ClientConnection, reason: string, head: Buffer): void {
    const proxyHeader = proxyHeaderMistake(head, connection, this.#options.listener.proxyProtocol);
    if (proxyHeader !== null) this.refuse(connection, proxyHeader);
    else if (beginsLikeHttp(head))
      connection.refuse(
        new Fault('http-on-tls-port', 'this port speaks TLS, the client began plain HTTP', {
          remedy: 'write https:// before this address, or use the port of an HTTP listener',
        }),
      );
    else {
      this.#note(connection, malformedHello(reason, 'send TLS to this port, and nothing before it'));
      connection.destroy();
    }
  }

  protected override refuse(connection: ClientConnection, fault: Fault): void {
    this.#note(connection, fault);
    connection.endWith(alertFor(fault));
  }

  protected override lastWords(fault: Fault): Buffer | null {
    return alertFor(fault);
  }

  /** For connections that were answered without HTTP, or not answered. */
  #note(connection: ClientConnection, fault: Fault): void {
    endUnread(environmentOf(connection, this.#options.environment), unreadRecordOf(connection), fault, 0);
  }
}

function outdated(): Fault {
  return new Fault('revoked', 'a reload changed how clients authenticate', { remedy: 'connect again' });
}

function malformedHello(
  reason: string,
  remedy = 'call by a host name without a final dot, and let a TLS library write the whole ClientHello',
): Fault {
  return new Fault('tls-hello-malformed', reason, { remedy });
}

/** A method, or the preface of HTTP/2, begins with capital letters (RFC 9110 §9.1). */
function beginsLikeHttp(head: Buffer): boolean {
  return /^[A-Z]+(?: |$)/.test(head.toString('latin1', 0, 20));
}
