/**
 * The connections of one listener from their first moment: owned, counted,
 * turned away beyond the limit, held while a PROXY header is still to come,
 * and closed at the end. Tells log and counters what ends without a request.
 */
import type { Socket } from 'node:net';
import type { LimitsConfig, ListenerConfig } from '../config/config.ts';
import { Crowd, Tally } from '../crowd.ts';
import type { Descriptors } from '../descriptors.ts';
import { Fault } from '../errors.ts';
import { outOfDescriptors } from '../limits.ts';
import { resetSocket } from '../relay/failed-writes.ts';
import type { Telemetry } from '../telemetry/telemetry.ts';
import { ClientConnection, type ConnectionOptions, type ConnectionTerms } from './client-connection.ts';
import type { ConnectionClock } from './connection-clock.ts';
import type { HttpForms } from './http-forms.ts';
import { receiveProxyHeader } from './proxy-protocol.ts';
import { refusalText } from './refuse.ts';
import { endUnread, environmentOf, type RequestEnvironment } from './request-context.ts';
import { createPeerReader, NO_ADDRESS, NO_SANS, peerInHeader, type PeerReader } from './trusted-peers.ts';

/** The self-test, as listeners know it. */
export interface SelfTestSockets {
  /** Whether the other end of a connection is a socket of the self-test; told with each connection that is accepted. */
  readonly claims: (socket: Socket) => boolean;
  /** The address that the connection under way asks for, as a PROXY header could name it; null: its own. */
  readonly asker: string | null;
}

/** What the connections of one listener have in common. */
export interface ListenerOptions {
  readonly listener: ListenerConfig;
  readonly connections: ConnectionCount;
  readonly terms: () => ConnectionTerms;
  readonly clock: ConnectionClock;
  readonly forms: HttpForms;
  readonly environment: RequestEnvironment;
  readonly selfTest: SelfTestSockets;
}

interface ConnectionGateOptions extends ListenerOptions {
  /** A PROXY header must be complete within this, ms. */
  readonly timeout: number;
  /** Answers and closes a connection that is not let in. */
  readonly refuse: (connection: ClientConnection, fault: Fault) => void;
}

/** Lets connections of one listener in, and keeps a list of those that are open. */
export class ConnectionGate {
  readonly #options: ConnectionGateOptions;
  readonly #connections = new Crowd<ClientConnection>();
  readonly #peers: PeerReader;
  readonly #connectionOptions: ConnectionOptions;

  constructor(options: ConnectionGateOptions) {
    this.#options = options;
    this.#peers = createPeerReader(options.listener);
    this.#connectionOptions = describeConnections(options, this.#peers);
  }

  /** Owns and counts a new connection. Null: it was turned away, or is gone already. */
  enter(socket: Socket): ClientConnection | null {
    const { connections, refuse, selfTest } = this.#options;
    const connection = new ClientConnection(socket, this.#connectionOptions);
    if (selfTest.claims(socket)) {
      this.#keep(connection);
      return connection;
    }
    if (connections.exhausted()) {
      resetSocket(socket);
      return null;
    }
    // Nobody is there to be served, and there is no address that the policy could be asked about.
    if (connection.peer.address === NO_ADDRESS) {
      connection.destroy();
      return null;
    }
    const address = this.#peers.trusts(connection.peer) ? null : connection.peer.address;
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

  /** A connection of the self-test takes no place of a client's, and is not counted. */
  #keep(connection: ClientConnection): void {
    connection.selfTest = true;
    this.#connections.add(connection);
    connection.onClosed = () => {
      this.#connections.delete(connection);
    };
  }

  /** Goes on with `next` at once, or when the PROXY header that has to come first has been read. */
  receive(connection: ClientConnection, next: (connection: ClientConnection) => void): void {
    const { listener, timeout, refuse, selfTest } = this.#options;
    if (listener.proxyProtocol === 'off' || !this.#peers.trusts(connection.peer)) {
      if (connection.selfTest && selfTest.asker !== null) connection.peer = { address: selfTest.asker, port: 0, sans: NO_SANS };
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

/** What is done with what a connection brings, and with what goes wrong on it. */
function describeConnections({ listener, terms, clock, forms, environment }: ListenerOptions, peers: PeerReader): ConnectionOptions {
  return {
    listener,
    terms,
    clock,
    onRequest: (connection, head) => {
      forms.onRequest(connection, head, peers);
    },
    refusalFor: (connection, fault) => {
      const record = forms.record(connection.peer.address);
      endUnread(environmentOf(connection, environment), record, fault, fault.kind.status);
      return refusalText(fault, record.requestId, environment.name);
    },
    onCrash: (connection, error, request) => {
      const { peer } = connection;
      const { message, stack } = error instanceof Error ? error : new Error(String(error));
      environment.telemetry.notice('error', 'internal error: one client connection was closed', { clientAddress: peer.address, reason: message, stack: stack ?? message });
      // A request has a line of its own; what has none is counted here.
      if (request === null) endUnread(environmentOf(connection, environment), forms.record(peer.address), new Fault('internal', message, { cause: error }), 0);
    },
  };
}

type ConnectionLimits = Pick<LimitsConfig, 'connections' | 'connectionsPerClient'>;

/** Each holds a descriptor for some seconds, beside those that limits.connections counts. */
const MOST_REFUSED = 64;

/** Client connections of all listeners together: how many may be open in all, and from one address. */
export class ConnectionCount {
  readonly #telemetry: Telemetry;
  readonly #descriptors: Pick<Descriptors, 'take' | 'exhausted'>;
  #limits: ConnectionLimits;
  #open = 0;
  /** Turned away, and not closed yet. */
  #refused = 0;
  /** Cannot grow far past the limit in all. */
  readonly #byAddress = new Tally();

  constructor(limits: ConnectionLimits, telemetry: Telemetry, descriptors: Pick<Descriptors, 'take' | 'exhausted'>) {
    this.#limits = limits;
    this.#descriptors = descriptors;
    this.#telemetry = telemetry;
  }

  /** Counts go on; only what is allowed changes. */
  adopt(limits: ConnectionLimits): void {
    this.#limits = limits;
  }

  /** Not even an answer can be afforded: a new connection is to be cut. */
  exhausted(): boolean {
    return this.#descriptors.exhausted();
  }

  /**
   * Takes a place; each null is answered by one `leave`.
   * @param address of the other end; null where many clients stand behind it, so that it may have all the places
   * @returns why there is none
   */
  enter(address: string | null): Fault | null {
    const { connections, connectionsPerClient } = this.#limits;
    if (this.#open >= connections) return reached(`${connections} client connections are open`, 'raise limits.connections');
    if (!this.#descriptors.take('connection')) return outOfDescriptors();
    if (address !== null) {
      if (this.#byAddress.of(address) >= connectionsPerClient) return reached(`${connectionsPerClient} connections from ${address} are open`, "raise limits.connectionsPerClient, or list the address in the listener's trustedPeers if it is a load balancer's");
      this.#byAddress.add(address);
    }
    this.#open += 1;
    this.#telemetry.clientConnections(1);
    return null;
  }

  /** A connection that was turned away may stay until its client has read why. @returns false: there are too many of those already */
  enterRefused(): boolean {
    if (this.#refused >= MOST_REFUSED) return false;
    this.#refused += 1;
    return true;
  }

  /** A connection that was turned away has closed. */
  leaveRefused(): void {
    this.#refused -= 1;
  }

  /** @param address as it was given to `enter` */
  leave(address: string | null): void {
    this.#open -= 1;
    this.#telemetry.clientConnections(-1);
    if (address !== null) this.#byAddress.remove(address);
  }
}

function reached(detail: string, remedy: string): Fault {
  return new Fault('limit-reached', detail, { retryAfter: 1, remedy });
}
