/**
 * Keep-alive connections to one origin of one destination. The most recently
 * used idle connection goes first: the others grow old and close, which keeps
 * NAT ports few.
 */
import { Crowd } from '../crowd.ts';
import type { Dialled } from '../dial/dial.ts';
import { Fault } from '../errors.ts';
import { Pace } from './pace.ts';
import { type ConnectionOptions, PooledConnection } from './pooled-connection.ts';
import { type Waiter, WaitingLine } from './waiting-line.ts';

export interface PoolOptions extends ConnectionOptions {
  /** Connections at most. */
  readonly size: number;
  /** Exchanges that may wait for a connection. */
  readonly queue: number;
  /** How long one may wait, ms. */
  readonly queueTimeout: number;
  /** Opens one connection; the pool owns the socket it yields. Rejects with a Fault. */
  readonly open: (signal: AbortSignal) => Promise<Dialled>;
  /** Told of each change of the numbers of active and idle connections (+1, 0, -1). */
  readonly onChange: (active: number, idle: number) => void;
}

/** So many connections are opened as soon as somebody waits; more only for who has lost patience (pace.ts). */
const EAGER = 16;
/** After a limit kept us from dialling, and others are connected, this long passes before the next attempt, ms. */
const LIMIT_PAUSE_MS = 1000;

export class UpstreamPool {
  readonly #options: PoolOptions;
  readonly #idle: PooledConnection[] = [];
  readonly #active = new Crowd<PooledConnection>();
  readonly #opening = new Set<AbortController>();
  readonly #waiting: WaitingLine;
  readonly #pace = new Pace();
  /** No dial before this, monotonic ms. */
  #pausedUntil = 0;
  #retired = false;
  #closed = false;

  constructor(options: PoolOptions) {
    this.#options = options;
    this.#waiting = new WaitingLine({
      longest: options.queueTimeout,
      onLate: (waiter) => {
        waiter.onNoConnection(this.#busy(`none became free within ${options.queueTimeout} ms`));
      },
      onTick: () => {
        this.#growForWaiting();
      },
    });
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
      connection.wake();
      connection.activeSince = performance.now();
      this.#active.add(connection);
      this.#options.onChange(1, -1);
      return connection;
    }
  }

  /**
   * Waits for the first connection that is free; while the pool may grow and
   * waiting takes long, a new one is dialled. `leave` takes the waiter back.
   * @param fresh only one that was never used before will do, as far as the pool may grow: after a connection that
   *   had grown old, any other might have, too
   */
  wait(waiter: Waiter, fresh = false): void {
    if (this.#closed) {
      waiter.onNoConnection(new Fault('draining', 'the proxy is shutting down'));
      return;
    }
    const room = this.#hasRoom();
    if (!room && this.#waiting.length >= this.#options.queue) {
      waiter.onNoConnection(this.#busy(`${this.#options.queue} requests wait for one`));
      return;
    }
    this.#waiting.add(waiter, fresh && room);
    this.#growForWaiting();
  }

  /** The waiter is no longer interested; a dial that nobody waits for is given up. */
  leave(waiter: Waiter): void {
    if (!this.#waiting.remove(waiter)) return;
    if (this.#opening.size > this.#waiting.length) {
      const [newest] = [...this.#opening].slice(-1);
      newest?.abort();
    }
  }

  /** The exchange on this connection has ended. Call once the parser is done with it, not from inside its callbacks. */
  release(connection: PooledConnection): void {
    if (!this.#active.delete(connection)) return;
    const now = performance.now();
    this.#pace.note(now - connection.activeSince);
    connection.activeSince = now;
    if (this.#closed || !connection.usable || connection.isOld) {
      this.#options.onChange(-1, 0);
      this.#destroy(connection);
      this.#growForWaiting();
      return;
    }
    connection.uses += 1;
    const next = this.#waiting.next(true);
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
    while (this.#waiting.length > 0) this.#waiting.next(false)?.onNoConnection(new Fault('draining', 'the proxy is shutting down'));
    for (const connection of this.#active) this.#destroy(connection);
  }

  get #size(): number {
    return this.#idle.length + this.#active.size + this.#opening.size;
  }

  #hasRoom(): boolean {
    return this.#size < this.#options.size;
  }

  #isPaused(): boolean {
    return this.#active.size > 0 && performance.now() < this.#pausedUntil;
  }

  #busy(how: string): Fault {
    const { size, origin } = this.#options;
    return new Fault('limit-reached', `all of at most ${size} connections to ${origin} are busy, and ${how}`, { retryAfter: 1, remedy: 'raise limits.upstreamConnections' });
  }

  /** Never more dials than there are waiters; a full line is no reason to be patient. */
  #growForWaiting(): void {
    while (!this.#closed && this.#opening.size < this.#waiting.length && this.#hasRoom() && !this.#isPaused()) {
      // Where it is not far, one at a time: each may turn out not to help.
      const impatient = this.#waiting.isImpatient(this.#opening.size, this.#pace.patience) && (this.#pace.isFar || this.#opening.size === 0);
      const pressed = this.#size < EAGER || this.#waiting.length > this.#options.queue || impatient;
      if (!pressed) return;
      this.#grow();
    }
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
        if (!controller.signal.aborted) this.#notOpened(Fault.from(error));
        this.#growForWaiting();
      },
    );
  }

  /** Whoever waits longest learns of it: a failed dial must not leave anyone waiting for nothing. */
  #notOpened(fault: Fault): void {
    // Out of ports, but what is connected goes on: whoever waits may have one of those.
    if (fault.code === 'limit-reached' && this.#active.size > 0) this.#pausedUntil = performance.now() + LIMIT_PAUSE_MS;
    else this.#waiting.next(false)?.onNoConnection(fault);
  }

  #opened(dialled: Dialled): void {
    const waiter = this.#waiting.next(false);
    if (this.#closed || (waiter === null && this.#retired)) {
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
    if (waiter === null) {
      // Who it was dialled for has been served: the next one has it.
      connection.rest(this.#options.keepAlive);
      this.#idle.push(connection);
      this.#options.onChange(0, 1);
    } else {
      this.#active.add(connection);
      this.#options.onChange(1, 0);
      waiter.onConnection(connection);
    }
  }

  #destroy(connection: PooledConnection): void {
    // undici's promise settles when the socket is gone; there is nothing left to do then, and destroy does not reject.
    void connection.client.destroy();
    connection.dialled.socket.destroy();
  }
}
