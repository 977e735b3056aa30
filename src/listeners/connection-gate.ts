/**
 * The connections of one listener from their first moment: counted, turned
 * away beyond the limit, held while a PROXY header is still to come, and
 * closed at the end.
 */
import type { Socket } from 'node:net';
import type { ListenerConfig } from '../config/config.ts';
import { Crowd } from '../crowd.ts';
import type { Fault } from '../errors.ts';
import { resetSocket } from '../relay/reset.ts';
import type { ClientConnection } from './client-connection.ts';
import type { ConnectionCount } from './connection-count.ts';
import { receiveProxyHeader } from './proxied-socket.ts';
import { GONE, peerInHeader, type PeerReader } from './trusted-peers.ts';

export interface ConnectionGateOptions {
  readonly listener: Pick<ListenerConfig, 'proxyProtocol'>;
  readonly peers: PeerReader;
  readonly connections: ConnectionCount;
  /** A PROXY header must be complete within this, ms. */
  readonly timeout: number;
  /** Makes the owner of a new socket. */
  readonly own: (socket: Socket) => ClientConnection;
  /** Answers and closes a connection that is not let in. */
  readonly refuse: (connection: ClientConnection, fault: Fault) => void;
}

export class ConnectionGate {
  readonly #options: ConnectionGateOptions;
  readonly #connections = new Crowd<ClientConnection>();
  constructor(options: ConnectionGateOptions) {
    this.#options = options;
  }

  /** Owns and counts a new connection. Null: it was turned away, or is gone already. */
  enter(socket: Socket): ClientConnection | null {
    const { connections, peers, refuse, own } = this.#options;
    const connection = own(socket);
    if (connections.exhausted()) {
      resetSocket(socket);
      return null;
    }
    // Nobody is there to be served, and there is no address that the policy could be asked about.
    if (connection.peer.address === GONE) {
      connection.destroy();
      return null;
    }
    const address = peers.trusts(connection.peer) ? null : connection.peer.address;
    const full = connections.enter(address);
    // Those that linger over their refusal hold a descriptor too.
    const lingers = full !== null && connections.enterRefused();
    this.#connections.add(connection);
    connection.onClosed = () => {
      this.#connections.delete(connection);
      if (full === null) connections.leave(address);
      else if (lingers) connections.leaveRefused();
    };
    if (full === null) return connection;
    refuse(connection, full);
    if (!lingers) connection.destroy();
    return null;
  }

  /** Goes on with `next` at once, or when the PROXY header that has to come first has been read. */
  receive(connection: ClientConnection, next: (connection: ClientConnection) => void): void {
    const { listener, peers, timeout, refuse } = this.#options;
    if (listener.proxyProtocol === 'off' || !peers.trusts(connection.peer)) {
      next(connection);
      return;
    }
    receiveProxyHeader(connection.socket, {
      timeout,
      onHeader(header) {
        connection.proxyHeaderLength = header.length;
        connection.peer = peerInHeader(header) ?? connection.peer;
        connection.guard(() => {
          next(connection);
        });
      },
      onFault(fault) {
        connection.guard(() => {
          refuse(connection, fault);
        });
      },
      onEnd() {},
    });
  }

  /** Closes what no request is being served on; the others close after their answer. */
  stop(): void {
    // What has arrived is read in the turn between: it was accepted before the end.
    setImmediate(setImmediate, () => {
      for (const connection of this.#connections) connection.closeWhenIdle();
    });
  }

  /** Closes every connection now. */
  destroy(): void {
    for (const connection of this.#connections) connection.destroy();
  }

  /** Those that are open now. */
  get connections(): Iterable<ClientConnection> {
    return this.#connections;
  }
}
