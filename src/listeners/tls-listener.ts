/**
 * A port for TLS. The ClientHello of each connection decides what it is: TLS
 * for one of our own names ends here and carries HTTP, any other is passed on
 * to the destination that it names. docs/tls.md is its contract.
 */
import type { Server } from 'node:http';
import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import type { Config, ListenerConfig } from '../config/config.ts';
import { Fault } from '../errors.ts';
import { noteUnder } from '../relay/reset.ts';
import { ClientHelloReader, type HelloResult } from '../target/client-hello.ts';
import type { ShownCertificate } from './client-certificate.ts';
import { ConnectionGate } from './connection-gate.ts';
import type { ConnectionCount } from './connection-count.ts';
import { receiveFirstBytes } from './first-bytes.ts';
import type { HttpForms } from './http-forms.ts';
import { createHttpServer, refuseConnection } from './http-server.ts';
import { bindListener, type Listener } from './listener.ts';
import { proxyHeaderMistake } from './parser-fault.ts';
import type { SniForm } from './sni-form.ts';
import { takeConnections } from './take-connections.ts';
import { refuseTls } from './tls-alert.ts';
import type { TlsTerminator } from './tls-terminator.ts';
import { connectionPeer, createPeerReader, noteFault, noteInner } from './trusted-peers.ts';
import { endUnread, type VisitContext, visitOf } from './visit.ts';

/** What a reload changes. */
export interface TlsTerms {
  readonly config: Pick<Config, 'timeouts' | 'tlsServer'>;
  /** Of `config.tlsServer`; null: no TLS ends here. */
  readonly terminator: TlsTerminator | null;
}

export interface TlsListenerOptions extends TlsTerms {
  readonly listener: ListenerConfig;
  readonly config: Pick<Config, 'name' | 'limits' | 'timeouts' | 'tlsServer'>;
  readonly forms: HttpForms;
  readonly sni: SniForm;
  readonly connections: ConnectionCount;
  readonly context: VisitContext;
}

export interface TlsListener extends Listener {
  /** Connections from now on follow this. Those that a client certificate of before identified end. */
  adopt(terms: TlsTerms): void;
}

/** @throws when the address cannot be bound, with the system's error */
export async function openTlsListener(options: TlsListenerOptions): Promise<TlsListener> {
  const front = new TlsFront(options);
  const listener = await bindListener(front.server, front.gate, options.listener);
  return {
    ...listener,
    adopt: (terms) => {
      front.adopt(terms);
    },
  };
}

class TlsFront {
  readonly server: Server;
  readonly gate: ConnectionGate;
  readonly #options: TlsListenerOptions;
  #terms: TlsTerms;
  readonly #serve: (socket: Socket) => void;
  /** TLS that ends here. */
  readonly #ended = new Set<Socket>();

  constructor(options: TlsListenerOptions) {
    const { listener, config, connections } = options;
    this.#options = options;
    this.#terms = options;
    const peers = createPeerReader(listener);
    this.gate = new ConnectionGate({
      listener,
      peers,
      connections,
      timeout: config.timeouts.requestHeaders,
      refuse: (socket, fault) => {
        this.#refuse(socket, fault);
      },
    });
    this.server = createHttpServer({ ...options, peers, serves: (socket) => this.#ended.has(socket) });
    this.#serve = takeConnections(this.server);
    this.server.on('connection', (socket: Socket) => {
      // 'close' follows, which the gate listens for.
      socket.on('error', () => {});
      if (this.gate.enter(socket)) this.gate.receive(socket, this.#awaitHello);
    });
  }

  adopt(terms: TlsTerms): void {
    const { terminator } = this.#terms;
    this.#terms = terms;
    if (terminator === null || !this.#isOutdated(terminator)) return;
    this.server.closeIdleConnections();
    for (const socket of this.#ended) {
      const fault = outdated();
      noteFault(socket, fault);
      visitOf(socket)?.recheck(() => fault);
    }
  }

  /** It accepted client certificates that would not be accepted now, or the other way round. */
  #isOutdated(terminator: TlsTerminator): boolean {
    const { tlsServer } = this.#terms.config;
    return tlsServer === null || !terminator.identifiesLike(tlsServer);
  }

  readonly #awaitHello = (socket: Socket): void => {
    const reader = new ClientHelloReader();
    this.gate.hold(socket);
    receiveFirstBytes(socket, {
      timeout: this.#terms.config.timeouts.requestHeaders,
      onBytes: (chunk) => {
        const result = reader.push(chunk);
        if (result === 'more') return null;
        const head = reader.earlier.length === 0 ? chunk : Buffer.concat([reader.earlier, chunk]);
        return () => {
          this.#onHello(socket, result, head);
        };
      },
      onGiveUp: (why) => {
        this.#refuse(socket, why === 'late' ? new Fault('request-timeout', 'the ClientHello did not arrive in time') : malformed('the connection ended in the middle of it'));
      },
      onOver: () => {
        this.gate.letGo(socket);
      },
    });
  };

  #onHello(socket: Socket, result: HelloResult, head: Buffer): void {
    if (result.kind === 'not-tls') {
      this.#onOther(socket, result.reason, head);
      return;
    }
    if (result.kind === 'invalid') {
      this.#refuse(socket, malformed(result.reason));
      return;
    }
    const { serverName, ech } = result;
    const { terminator } = this.#terms;
    const { sni, listener } = this.#options;
    if (serverName === null) this.#refuse(socket, new Fault('sni-missing', 'the ClientHello names no host', { remedy: 'call by name: TLS to an address names none' }));
    else if (terminator?.names.has(serverName) === true) this.#terminate(socket, terminator, head);
    else sni.onSteered({ socket, head, host: serverName, ech, peer: connectionPeer(socket), forms: listener.forms });
  }

  #terminate(raw: Socket, terminator: TlsTerminator, head: Buffer): void {
    raw.unshift(head);
    this.gate.hold(raw);
    terminator.accept(raw, {
      timeout: this.#terms.config.timeouts.tls,
      onSecure: (socket, shown) => {
        this.gate.letGo(raw);
        // A reload during the handshake.
        this.#begin(socket, raw, this.#isOutdated(terminator) ? { ...shown, fault: outdated() } : shown);
      },
      onFault: (fault) => {
        // At the end it is ourselves who close it.
        if (!this.#options.context.draining || fault.code !== 'client-closed') this.#note(raw, fault);
      },
    });
  }

  #begin(socket: TLSSocket, raw: Socket, { sans, fault }: ShownCertificate): void {
    noteInner(socket, raw, sans);
    noteUnder(socket, raw);
    if (fault !== null) noteFault(socket, fault);
    this.#ended.add(socket);
    socket.once('close', () => {
      this.#ended.delete(socket);
    });
    this.#serve(socket);
  }

  /** No TLS at all. Plain HTTP is told so in its own language; what else it is does not understand us either way. */
  #onOther(socket: Socket, reason: string, head: Buffer): void {
    const proxyHeader = proxyHeaderMistake(head, socket, this.#options.listener.proxyProtocol);
    if (proxyHeader !== null) refuseConnection(socket, proxyHeader, this.#options);
    else if (beginsLikeHttp(head)) refuseConnection(socket, new Fault('http-on-tls-port', 'this port speaks TLS, the client began plain HTTP', { remedy: 'write https:// before this address, or use the port of an HTTP listener' }), this.#options);
    else {
      this.#note(socket, malformed(reason));
      socket.destroy();
    }
  }

  #refuse(socket: Socket, fault: Fault): void {
    this.#note(socket, fault);
    refuseTls(socket, fault);
  }

  /** Of what was answered without HTTP, or not at all. */
  #note(socket: Socket, fault: Fault): void {
    const { forms, context } = this.#options;
    endUnread(context, forms.record(connectionPeer(socket).address), fault, 0);
  }
}

function outdated(): Fault {
  return new Fault('revoked', 'a reload changed how clients show who they are', { remedy: 'connect again' });
}

function malformed(reason: string): Fault {
  return new Fault('tls-hello-malformed', reason, { remedy: 'send TLS to this port, and nothing before it' });
}

/** A method, or the preface of HTTP/2: capital letters (RFC 9110 §9.1). */
function beginsLikeHttp(head: Buffer): boolean {
  return /^[A-Z]+(?: |$)/.test(head.toString('latin1', 0, 20));
}
