/**
 * The connections of one listener from their first moment: counted, turned
 * away beyond the limit, held while a PROXY header is still to come, and
 * closed at the end.
 */
import type { Socket } from 'node:net';
import type { ListenerConfig } from '../config/config.ts';
import { Crowd } from '../crowd.ts';
import type { Fault } from '../errors.ts';
import type { ConnectionCount } from './connection-count.ts';
import { receiveProxyHeader } from './proxied-socket.ts';
import { connectionPeer, noteProxyHeader, type PeerReader } from './trusted-peers.ts';

export interface ConnectionGateOptions {
  readonly listener: Pick<ListenerConfig, 'proxyProtocol'>;
  readonly peers: PeerReader;
  readonly connections: ConnectionCount;
  /** A PROXY header must be complete within this, ms. */
  readonly timeout: number;
  /** Answers and closes a connection that is not let in. */
  readonly refuse: (socket: Socket, fault: Fault) => void;
}

export class ConnectionGate {
  readonly #options: ConnectionGateOptions;
  readonly #sockets = new Crowd<Socket>();
  /** Those among them that are nobody's yet: it is still to come what they are. */
  readonly #held = new Crowd<Socket>();

  constructor(options: ConnectionGateOptions) {
    this.#options = options;
  }

  /** Counts a new connection. False: it was turned away. */
  enter(socket: Socket): boolean {
    const { connections, peers, refuse } = this.#options;
    const address = peers.trusts(socket) ? null : connectionPeer(socket).address;
    const full = connections.enter(address);
    if (full !== null) {
      refuse(socket, full);
      return false;
    }
    this.#sockets.add(socket);
    socket.once('close', () => {
      this.#sockets.delete(socket);
      this.#held.delete(socket);
      connections.leave(address);
    });
    return true;
  }

  /** Whether it was let in, and is open. */
  has(socket: Socket): boolean {
    return this.#sockets.has(socket);
  }

  /** Goes on with `next` at once, or when the PROXY header that has to come first has been read. */
  receive(socket: Socket, next: (socket: Socket) => void): void {
    const { listener, peers, timeout, refuse } = this.#options;
    if (listener.proxyProtocol === 'off' || !peers.trusts(socket)) {
      next(socket);
      return;
    }
    this.hold(socket);
    receiveProxyHeader(socket, {
      timeout,
      onHeader(header) {
        noteProxyHeader(socket, header);
        next(socket);
      },
      onFault(fault) {
        refuse(socket, fault);
      },
      onEnd: () => {
        this.letGo(socket);
      },
    });
  }

  /** A drain does not wait for it, as long as it is held. */
  hold(socket: Socket): void {
    this.#held.add(socket);
  }

  letGo(socket: Socket): void {
    this.#held.delete(socket);
  }

  /** Closes what is nobody's yet, and who has not said a word. */
  stop(): void {
    for (const socket of this.#held) socket.destroy();
    // Node takes a connection for idle only after its first request. What has arrived is read in the turn between.
    setImmediate(setImmediate, () => {
      for (const socket of this.#sockets) if (socket.bytesRead === 0) socket.destroy();
    });
  }

  /** Closes every connection now. */
  destroy(): void {
    for (const socket of this.#sockets) socket.destroy();
  }
}
