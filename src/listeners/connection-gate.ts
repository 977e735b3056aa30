/**
 * One port for clients: how it is bound, stopped and closed; and its
 * connections from accept on: owned, counted, refused above the limit, held
 * until an expected PROXY header has come, and closed at the end. They carry
 * plain HTTP; tls-listener.ts is the port for TLS. Logs and counts what ends
 * without a request.
 */
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import type { ListenAddress, ListenerConfig } from '../config/config.ts';
import { Crowd } from '../crowd.ts';
import { Fault } from '../errors.ts';
import type { ConnectionCount } from '../limits.ts';
import { AcceptQueue } from '../overload/overload.ts';
import { resetSocket } from '../relay/failed-writes.ts';
import { AccessRecord, nextRequestId } from '../telemetry/access-record.ts';
import { ClientConnection, type ConnectionOptions } from './client-connection.ts';
import type { ConnectionClock } from './connection-clock.ts';
import type { HttpForms } from './http-forms.ts';
import { receiveProxyHeader } from './proxy-protocol.ts';
import { refusalText } from './refuse.ts';
import { endUnread, environmentOf, type RequestEnvironment } from './request-context.ts';
import { createPeerReader, NO_ADDRESS, NO_SANS, peerInHeader, peerOf, type PeerReader } from './trusted-peers.ts';

/** The self-test, as seen by listeners. */
export interface SelfTestSockets {
  /** Whether the peer of a connection is a socket of the self-test; called for each accepted connection. */
  readonly claims: (socket: Socket) => boolean;
  /** The address that the current connection claims, as a PROXY header could; null: its own. */
  readonly asker: string | null;
}

/** What the connections of one listener have in common. */
export interface ListenerOptions {
  readonly listener: ListenerConfig;
  readonly connections: ConnectionCount;
  readonly clock: ConnectionClock;
  readonly forms: HttpForms;
  readonly environment: RequestEnvironment;
  readonly selfTest: SelfTestSockets;
}

/** A port for plain HTTP, and the owner of its connections. Ends by `stop`, then `destroy` for the rest. */
export class ConnectionGate {
  /** Resolves when it is stopped, and every connection is closed. */
  readonly closed: Promise<void>;
  /** The open connections. */
  protected readonly connections = new Crowd<ClientConnection>();
  readonly #options: ListenerOptions;
  readonly #server: Server;
  readonly #queue = new AcceptQueue();
  readonly #peers: PeerReader;
  readonly #connectionOptions: ConnectionOptions;

  constructor(options: ListenerOptions) {
    this.#options = options;
    this.#peers = createPeerReader(options.listener);
    this.#connectionOptions = describeConnections(options, this.#peers);
    // Each direction of a client ends on its own; reading begins when the connection has its owner; small answers are
    // not delayed.
    this.#server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
      this.#accept(socket);
    });
    this.closed = new Promise((resolve) => {
      this.#server.once('close', resolve);
    });
  }

  /** Accepts connections from now on. Rejects when the address cannot be bound, with the system's error. */
  open(): Promise<void> {
    return bindServer(this.#server, this.#options.listener);
  }

  /** Once it is open. */
  get address(): AddressInfo {
    // A server listening on an IP address has no other kind of address.
    return this.#server.address() as AddressInfo;
  }

  /** Accepts no more connections, and closes those without a request in progress; the others close after their answer. */
  stop(): void {
    this.#server.close();
    // Bytes that have arrived are read in the turn between: they were accepted before the end.
    setImmediate(setImmediate, () => {
      for (const connection of this.connections) connection.closeWhenIdle();
    });
  }

  /** Closes every connection now. */
  destroy(): void {
    for (const connection of this.connections) connection.destroy();
  }

  /** A connection has been accepted, and its PROXY header has been read if one was expected. */
  protected begin(connection: ClientConnection): void {
    connection.serve();
  }

  /** Answers and closes a connection that is not accepted. */
  protected refuse(connection: ClientConnection, fault: Fault): void {
    connection.refuse(fault);
  }

  /** What a client is sent that is refused before it has a connection, as it is on the wire; null: nothing. */
  protected lastWords(fault: Fault, requestId: string): Buffer | string | null {
    const { head, body } = this.#options.forms.refusals.text(fault, requestId);
    return `${head}Connection: close\r\n\r\n${body}`;
  }

  #accept(socket: Socket): void {
    try {
      const connection = this.#enter(socket);
      if (connection !== null) this.#receive(connection);
    } catch (error) {
      // Our code threw, perhaps before the socket had an owner.
      const peer = peerOf(socket);
      socket.on('error', ignoreError).destroy();
      this.#connectionOptions.onCrash({ peer, selfTest: false }, error, null);
    }
  }

  /** Owns and counts a new connection. Null: it was refused, or has closed already. */
  #enter(socket: Socket): ClientConnection | null {
    const { connections, selfTest } = this.#options;
    const own = selfTest.claims(socket);
    const { overload } = this.#options.environment;
    const overloaded = own ? null : (overload?.connectionRefusal(this.#queue) ?? null);
    if (overloaded !== null) {
      this.#turnAway(socket, overloaded);
      return null;
    }
    const connection = new ClientConnection(socket, this.#connectionOptions);
    if (own) {
      this.#keep(connection);
      return connection;
    }
    // There is no room even for an answer.
    if (connections.descriptors.exhausted()) {
      resetSocket(socket);
      return null;
    }
    // The client has gone, and there is no address to authorise.
    if (connection.peer.address === NO_ADDRESS) {
      connection.destroy();
      return null;
    }
    connection.countedAs = this.#shareOf(connection);
    const full = connections.enter(connection.countedAs);
    // Refused connections that linger hold a descriptor too.
    const lingers = full !== null && connections.enterRefused();
    this.connections.add(connection);
    connection.onClosed = () => {
      this.connections.delete(connection);
      if (full === null) connections.leave(connection.countedAs);
      else if (lingers) connections.leaveRefused();
    };
    if (full === null) {
      connection.letIn = overload?.cause === 'loop';
      return connection;
    }
    connection.guard(() => {
      this.refuse(connection, full);
    });
    if (!lingers) connection.destroy();
    return null;
  }

  /**
   * Refuses before anything is built for a connection: what it will ask costs as much again.
   * It is closed at once, so that what the client has sent already may reset it behind the answer.
   */
  #turnAway(socket: Socket, fault: Fault): void {
    const { environment } = this.#options;
    const record = new AccessRecord(nextRequestId(), performance.now(), peerOf(socket).address);
    const words = this.lastWords(fault, record.requestId);
    socket.on('error', ignoreError);
    if (words !== null) socket.write(words, 'latin1');
    socket.destroy();
    endUnread(environment, record, fault, words === null ? 0 : fault.kind.status);
  }

  /** A connection of the self-test takes no client's place, and is not counted. */
  #keep(connection: ClientConnection): void {
    connection.selfTest = true;
    this.connections.add(connection);
    connection.onClosed = () => {
      this.connections.delete(connection);
    };
  }

  /** Many clients are behind a trusted peer. */
  #shareOf({ peer }: ClientConnection): string | null {
    return this.#peers.trusts(peer.address) ? null : peer.address;
  }

  /** The PROXY header has named the client. @returns why it may have no other connection */
  #identify(connection: ClientConnection): Fault | null {
    const share = this.#shareOf(connection);
    const full = share === null ? null : this.#options.connections.identify(share);
    if (full === null) connection.countedAs = share;
    return full;
  }

  #receive(connection: ClientConnection): void {
    const { listener, environment, selfTest } = this.#options;
    if (listener.proxyProtocol === 'off' || !this.#peers.trusts(connection.peer.address)) {
      if (connection.selfTest && selfTest.asker !== null) connection.peer = { address: selfTest.asker, port: 0, sans: NO_SANS };
      this.begin(connection);
      return;
    }
    receiveProxyHeader(connection.socket, {
      timeout: environment.config.timeouts.requestHeaders,
      onHeader: (header) => {
        connection.proxyHeaderLength = header.length;
        connection.isOfPeer = header.address === null;
        connection.peer = peerInHeader(header) ?? connection.peer;
        connection.guard(() => {
          const full = this.#identify(connection);
          if (full === null) this.begin(connection);
          else this.refuse(connection, full);
        });
      },
      onFault: (fault) => {
        connection.guard(() => {
          this.refuse(connection, fault);
        });
      },
      onReset() {
        connection.left('the PROXY header');
      },
    });
  }
}

/** Handles the requests of a connection, and its errors. */
function describeConnections({ listener, clock, forms, environment }: ListenerOptions, peers: PeerReader): ConnectionOptions {
  return {
    listener,
    environment,
    clock,
    onRequest: (connection, head) => {
      forms.onRequest(connection, head, peers);
    },
    refusalFor: (connection, fault) => {
      const record = unreadRecordOf(connection);
      endUnread(environmentOf(connection, environment), record, fault, fault.kind.status);
      return refusalText(fault, record.requestId, environment.config.name);
    },
    onLeft: (connection, what) => {
      endUnread(
        environmentOf(connection, environment),
        unreadRecordOf(connection),
        new Fault('client-closed', `the client closed its connection in the middle of ${what}`),
        0,
      );
    },
    onCrash: (connection, error, request) => {
      const { peer } = connection;
      const { message, stack } = error instanceof Error ? error : new Error(String(error));
      environment.telemetry.notice('error', 'internal error: one client connection was closed', {
        clientAddress: peer.address,
        reason: message,
        stack: stack ?? message,
      });
      // A request has its own log line; anything else is counted here.
      if (request === null)
        endUnread(
          environmentOf(connection, environment),
          new AccessRecord(nextRequestId(), performance.now(), peer.address),
          new Fault('internal', message, { cause: error }),
          0,
        );
    },
  };
}

/** For what a connection began to send, and that is not a request. */
export function unreadRecordOf({ peer, since }: ClientConnection): AccessRecord {
  return new AccessRecord(nextRequestId(), since, peer.address);
}

/** Of a socket that is closed already. */
function ignoreError(): void {}

/** @throws when the address cannot be bound, with the system's error */
export function bindServer(server: Server, { host, port }: ListenAddress): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host, port }, () => {
      server.off('error', reject);
      resolve();
    });
  });
}
