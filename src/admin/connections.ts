/**
 * The places for connections on the admin port. A probe or scraper always gets
 * one: idle connections are closed first, and among those one of the caller
 * that holds the most.
 */
import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import type { AdminRefusal } from '../telemetry/cells.ts';

/** Limits of the admin port's connections. `onRefused` is called for connections that get no place, or lose theirs. */
export interface ConnectionPlacesOptions {
  readonly most: number;
  /** For one address. */
  readonly mostOfOne: number;
  /** Whether the limit is reached. */
  readonly tight: () => boolean;
  readonly onRefused: (reason: Extract<AdminRefusal, 'connections' | 'evicted'>, address: string) => void;
}

interface AdminConnection {
  readonly socket: Socket;
  readonly address: string;
  /** It is being answered; null: none is. */
  request: IncomingMessage | null;
}

/** Decides which connections of the admin port stay open when there are too many. It closes those that lose their place; otherwise the server owns the socket. */
export class ConnectionPlaces {
  readonly #options: ConnectionPlacesOptions;
  /** The oldest first. */
  readonly #places = new Map<Socket, AdminConnection>();
  readonly #byAddress = new Map<string, number>();

  constructor(options: ConnectionPlacesOptions) {
    this.#options = options;
  }

  /** Takes a place for a new connection until it closes. False: there is none, and the caller closes it. */
  enter(socket: Socket): boolean {
    const address = socket.remoteAddress ?? '';
    const { most, mostOfOne, tight, onRefused } = this.#options;
    const mine = this.#byAddress.get(address) ?? 0;
    const victim =
      mine >= mostOfOne
        ? this.#oldestIdle(address)
        : this.#places.size >= most || (this.#places.size > 0 && tight())
          ? this.#choose(mine)
          : undefined;
    if (victim === null) {
      onRefused('connections', address);
      return false;
    }
    if (victim !== undefined) {
      onRefused('evicted', victim.address);
      this.#leave(victim);
      victim.socket.destroy();
    }
    const place: AdminConnection = { socket, address, request: null };
    this.#places.set(socket, place);
    this.#byAddress.set(address, (this.#byAddress.get(address) ?? 0) + 1);
    socket.once('close', () => {
      this.#leave(place);
    });
    return true;
  }

  /** A request has come. False: it has no place, or the one before it is still being answered. */
  begin(request: IncomingMessage): boolean {
    const place = this.#places.get(request.socket);
    if (place?.request !== null) return false;
    place.request = request;
    return true;
  }

  /** The whole answer has been handed to the socket. */
  finish(socket: Socket): void {
    const place = this.#places.get(socket);
    if (place !== undefined) place.request = null;
  }

  /** Whether a request that has come whole is not answered yet: nothing else may be written. */
  owes(socket: Socket): boolean {
    return this.#places.get(socket)?.request?.complete === true;
  }

  /** Whether the connection still has a place. */
  has(socket: Socket): boolean {
    return this.#places.has(socket);
  }

  /** Null: all connections are being answered, and no caller holds more than the new one would. */
  #choose(mine: number): AdminConnection | null {
    const [greediest, most] = [...this.#byAddress].reduce<[string, number]>((one, other) => (other[1] > one[1] ? other : one), ['', 0]);
    return this.#oldestIdle(greediest) ?? this.#oldestIdle(null) ?? (most > mine + 1 ? this.#oldest(greediest) : null);
  }

  #oldestIdle(address: string | null): AdminConnection | null {
    for (const place of this.#places.values()) if (place.request === null && (address === null || place.address === address)) return place;
    return null;
  }

  #oldest(address: string): AdminConnection | null {
    for (const place of this.#places.values()) if (place.address === address) return place;
    return null;
  }

  #leave({ socket, address }: AdminConnection): void {
    if (!this.#places.delete(socket)) return;
    const rest = (this.#byAddress.get(address) ?? 1) - 1;
    if (rest === 0) this.#byAddress.delete(address);
    else this.#byAddress.set(address, rest);
  }
}
