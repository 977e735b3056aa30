/**
 * Keep-alive connections to one origin of one destination. Each connection is
 * an undici Client that lives exactly as long as its socket, so that we always
 * know which address an exchange went to and whether it was reused. The most
 * recently used idle connection goes first: the others grow old and close,
 * which keeps NAT ports few.
 */
import { Client } from 'undici';
import type { Dialled } from '../dial/dial.ts';
import { Fault } from '../errors.ts';
import type { AccessRecord } from '../telemetry/access-record.ts';

export interface PoolOptions {
  /** `https://host:port`, for undici's own bookkeeping. */
  readonly origin: string;
  /** Connections at most. */
  readonly size: number;
  /** Exchanges that may wait for a connection. */
  readonly queue: number;
  /** How long one may wait once every connection is busy, ms. */
  readonly queueTimeout: number;
  readonly keepAlive: number;
  readonly responseHeaders: number;
  readonly body: number;
  /** Response header section, bytes. */
  readonly headerBytes: number;
  /** Opens one connection; the pool owns the socket it yields. Rejects with a Fault. */
  readonly open: (signal: AbortSignal) => Promise<Dialled>;
  /** Told of each change of the numbers of active and idle connections (+1, 0, -1). */
  readonly onChange: (active: number, idle: number) => void;
}

/** Who waits for a connection. Exactly one of the two is called, once. */
export interface Waiter {
  onConnection(connection: PooledConnection): void;
  onNoConnection(fault: Fault): void;
}

export class PooledConnection {
  readonly client: Client;
  readonly dialled: Dialled;
  /** Exchanges carried before the present one. */
  uses = 0;
  /** The socket's own first error: undici reports a TLS alert as a mere close. */
  socketError: Error | null = null;

  constructor(dialled: Dialled, options: PoolOptions) {
    this.dialled = dialled;
    dialled.socket.once('error', (error) => {
      this.socketError = error;
    });
    let handedOver = false;
    this.client = new Client(options.origin, {
      pipelining: 1,
      allowH2: false,
      keepAliveTimeout: options.keepAlive,
      keepAliveMaxTimeout: options.keepAlive,
      headersTimeout: options.responseHeaders,
      bodyTimeout: options.body,
      maxHeaderSize: options.headerBytes,
      connect: (_, callback) => {
        // undici must not be answered in the same turn: its queue would not be resumed.
        queueMicrotask(() => {
          if (handedOver || dialled.socket.destroyed) {
            callback(new Fault('upstream-cut', 'the pooled connection was closed by the upstream'), null);
            return;
          }
          handedOver = true;
          callback(null, dialled.socket);
        });
      },
    });
  }

  /** Tells the record which connection carries its exchange; the phases are those of whoever it was opened for. */
  note(record: AccessRecord): void {
    const { address, dnsMs, tcpMs, tlsMs, reported } = this.dialled;
    record.upstreamAddress = address;
    if (reported !== undefined) record.noteReported(reported.code, reported.message);
    record.reusedConnection = this.uses > 0;
    if (record.reusedConnection) return;
    record.dnsMs = dnsMs;
    record.tcpMs = tcpMs;
    record.tlsMs = tlsMs;
  }

  get usable(): boolean {
    return !this.dialled.socket.destroyed;
  }
}

interface Waiting {
  readonly waiter: Waiter;
  /** Takes none that has been used. */
  readonly fresh: boolean;
  timer: NodeJS.Timeout | null;
}

export class UpstreamPool {
  readonly #options: PoolOptions;
  readonly #idle: PooledConnection[] = [];
  readonly #active = new Set<PooledConnection>();
  readonly #opening = new Set<AbortController>();
  readonly #waiting: Waiting[] = [];
  #retired = false;
  #closed = false;

  constructor(options: PoolOptions) {
    this.#options = options;
  }

  /** No connection, none on its way and nobody waiting: may be forgotten. */
  get empty(): boolean {
    return this.#idle.length + this.#active.size + this.#opening.size + this.#waiting.length === 0;
  }

  /** Nobody uses it or waits: idle connections are all it may have. */
  get quiet(): boolean {
    return this.#active.size + this.#opening.size + this.#waiting.length === 0;
  }

  /** An idle connection, now active; null when there is none. */
  take(): PooledConnection | null {
    for (;;) {
      const connection = this.#idle.pop();
      if (connection === undefined) return null;
      if (!connection.usable) {
        this.#options.onChange(0, -1);
        this.#destroy(connection);
        continue;
      }
      this.#active.add(connection);
      this.#options.onChange(1, -1);
      return connection;
    }
  }

  /**
   * Waits for the first connection that is free, dialling a new one while the
   * pool may grow. `leave` takes the waiter back.
   * @param fresh only one that was never used before will do, as far as the pool may grow: after a connection that
   *   had grown old, any other might have, too
   */
  wait(waiter: Waiter, fresh = false): void {
    if (this.#closed) {
      waiter.onNoConnection(new Fault('draining', 'the proxy is shutting down'));
      return;
    }
    const { size, queue, queueTimeout } = this.#options;
    const room = this.#hasRoom();
    if (!room && this.#waiting.length >= queue) {
      const detail = `all ${size} connections to ${this.#options.origin} are busy and ${queue} requests wait for one`;
      waiter.onNoConnection(new Fault('limit-reached', detail, { retryAfter: 1, remedy: 'raise limits.upstreamConnections' }));
      return;
    }
    const entry: Waiting = { waiter, fresh: fresh && room, timer: null };
    this.#waiting.push(entry);
    if (room) this.#grow();
    else
      entry.timer = setTimeout(() => {
        this.leave(waiter);
        const detail = `no connection to ${this.#options.origin} became free within ${queueTimeout} ms: all ${size} are busy`;
        waiter.onNoConnection(new Fault('limit-reached', detail, { retryAfter: 1, remedy: 'raise limits.upstreamConnections' }));
      }, queueTimeout);
  }

  /** The waiter is no longer interested; a dial that nobody waits for is given up. */
  leave(waiter: Waiter): void {
    const at = this.#waiting.findIndex((entry) => entry.waiter === waiter);
    if (at === -1) return;
    this.#remove(at);
    if (this.#opening.size > this.#waiting.length) {
      const [newest] = [...this.#opening].slice(-1);
      newest?.abort();
    }
  }

  /** The exchange on this connection has ended. Call once the parser is done with it, not from inside its callbacks. */
  release(connection: PooledConnection): void {
    if (!this.#active.delete(connection)) return;
    if (this.#closed || !connection.usable) {
      this.#options.onChange(-1, 0);
      this.#destroy(connection);
      this.#growForWaiting();
      return;
    }
    connection.uses += 1;
    const next = this.#next(this.#waiting.findIndex((entry) => !entry.fresh));
    if (next !== null) {
      this.#active.add(connection);
      next.onConnection(connection);
    } else if (this.#retired) {
      this.#options.onChange(-1, 0);
      this.#destroy(connection);
    } else {
      this.#idle.push(connection);
      this.#options.onChange(-1, 1);
    }
  }

  /** The connection now carries something else (an upgrade): it leaves the pool, its socket stays open. */
  detach(connection: PooledConnection): void {
    if (this.#active.delete(connection)) this.#options.onChange(-1, 0);
    void connection.client.close();
  }

  /** No connection is kept any more: idle ones close now, others when nobody needs them. Who waits is still served. */
  retire(): void {
    this.#retired = true;
    for (const connection of this.#idle.splice(0)) {
      this.#options.onChange(0, -1);
      this.#destroy(connection);
    }
  }

  /** Everything ends now: who waits is refused, active connections are cut. */
  destroy(): void {
    this.retire();
    this.#closed = true;
    for (const opening of this.#opening) opening.abort();
    while (this.#waiting.length > 0) this.#next()?.onNoConnection(new Fault('draining', 'the proxy is shutting down'));
    for (const connection of this.#active) this.#destroy(connection);
  }

  #hasRoom(): boolean {
    return this.#idle.length + this.#active.size + this.#opening.size < this.#options.size;
  }

  /** A place became free while more wait than dials are under way. */
  #growForWaiting(): void {
    if (!this.#closed && this.#waiting.length > this.#opening.size && this.#hasRoom()) this.#grow();
  }

  #grow(): void {
    const controller = new AbortController();
    this.#opening.add(controller);
    this.#options.open(controller.signal).then(
      (dialled) => {
        this.#opening.delete(controller);
        this.#opened(dialled);
      },
      (error: unknown) => {
        this.#opening.delete(controller);
        // Whoever waits longest learns of it: a failed dial must not leave anyone waiting for nothing.
        if (!controller.signal.aborted) this.#next()?.onNoConnection(Fault.from(error));
        this.#growForWaiting();
      },
    );
  }

  #opened(dialled: Dialled): void {
    const waiter = this.#next();
    if (waiter === null) {
      dialled.socket.destroy();
      return;
    }
    const connection = new PooledConnection(dialled, this.#options);
    // The socket says when it is over: an idle connection leaves the pool at once.
    dialled.socket.once('close', () => {
      const at = this.#idle.indexOf(connection);
      if (at === -1) return;
      this.#idle.splice(at, 1);
      this.#options.onChange(0, -1);
      this.#destroy(connection);
    });
    this.#active.add(connection);
    this.#options.onChange(1, 0);
    waiter.onConnection(connection);
  }

  #next(at = 0): Waiter | null {
    const entry = this.#waiting[at];
    if (entry === undefined) return null;
    this.#remove(at);
    return entry.waiter;
  }

  #remove(at: number): void {
    const [entry] = this.#waiting.splice(at, 1);
    if (entry?.timer) clearTimeout(entry.timer);
  }

  #destroy(connection: PooledConnection): void {
    // undici's promise settles when the socket is gone; there is nothing left to do then, and destroy does not reject.
    void connection.client.destroy();
    connection.dialled.socket.destroy();
  }
}
