/**
 * Keep-alive connections to one origin of one destination. The most recently
 * used idle connection goes first: the others expire, which keeps NAT ports
 * few. Each client has a share of the connections, so no client can block all
 * others.
 *
 * Longer than 400 lines: a connection is idle, active or being opened, and each
 * change concerns the waiting exchanges.
 */
import { Crowd } from '../crowd.ts';
import type { Dialled } from '../dial/dial.ts';
import { Fault } from '../errors.ts';
import { FairShare, type Offer, type ConnectionWaiter, WaitingLine } from './waiting-line.ts';
import { Pace, SilentCloses } from './reuse.ts';
import { type UpstreamConnectionOptions, UpstreamConnection } from './upstream-connection.ts';

/** For `UpstreamPool`; times in ms. */
export interface PoolOptions extends UpstreamConnectionOptions {
  /** `https://host:port`, for messages. */
  readonly origin: string;
  /** Most connections. A client may hold no more of them than are still free. */
  readonly size: number;
  /** How many exchanges may wait for a connection. */
  readonly queue: number;
  /** How long one may wait, ms. */
  readonly queueTimeout: number;
  /** Opens one connection, for this client at first; the pool owns the socket it yields. Rejects with a Fault. */
  readonly open: (signal: AbortSignal, client: string) => Promise<Dialled>;
  /** Called with each change of the numbers of active and idle connections (+1, 0, -1). */
  readonly onChange: (active: number, idle: number) => void;
}

/** How many connections are opened without delay when exchanges wait; more only for those that have waited long (reuse.ts). */
const EAGER = 16;
/** Where one client holds this many, clients that hold none do not wait for them. */
const CROWD = EAGER / 2;
/** After a limit has prevented a dial for a client, and others are connected, time until the next attempt for it, ms. */
const LIMIT_PAUSE_MS = 1000;
/** Turns of the event loop after which a close that came with the last answer has been read. */
const SETTLING_TURNS = 2;
/** Where closes are likely, how long a connection rests, ms, and for how many turns, so that a close right after the answer is seen: a busy process has few turns in that time. */
const REST_MS = 10;
const REST_TURNS = 8;
/** A connection that has been idle for this long stayed open, ms; a later close is due to its idle time. */
const STAYED_MS = 1000;

/** An idle connection. */
interface Resting {
  readonly connection: UpstreamConnection;
  /** Turn of the event loop in which it became idle. */
  readonly turn: number;
  /** It has been counted as one that stayed open. */
  stayed: boolean;
}

/** The connections to one origin. It owns every connection until `detach`. */
export class UpstreamPool {
  readonly #options: PoolOptions;
  readonly #idle: Resting[] = [];
  readonly #active = new Crowd<UpstreamConnection>();
  readonly #opening = new Set<AbortController>();
  readonly #waiting: WaitingLine;
  readonly #share: FairShare;
  readonly #pace = new Pace();
  readonly #held = (client: string): number | null => (this.#share.admits(client) ? this.#share.heldBy(client) : null);
  /** Turns of the event loop, counted while a connection settles. */
  #turn = 0;
  /** Turns are counted until this one. */
  #lastTurn = 0;
  /** Serves waiting exchanges while connections rest; not needed when none waits. */
  #lookAgain: NodeJS.Timeout | null = null;
  /** Closes idle connections when they expire; runs while there are any. */
  #sweeper: NodeJS.Timeout | null = null;
  /** Clients for which a limit has prevented a dial, perhaps that of their share: the limit, and no dial before this, monotonic ms. */
  readonly #limited = new Map<string, { readonly fault: Fault; readonly until: number }>();
  /** As `#held`, of those for which a dial may be tried now. */
  readonly #dialable = (client: string): number | null => (this.#limitOf(client) === null ? this.#held(client) : null);
  readonly #silentCloses = new SilentCloses();
  #retired = false;
  #closed = false;

  constructor(options: PoolOptions) {
    this.#options = options;
    this.#share = new FairShare(options.size);
    this.#waiting = new WaitingLine({
      size: options.queue,
      longest: options.queueTimeout,
      onLate: (waiter) => {
        waiter.onNoConnection(this.#late(waiter));
      },
      onTick: () => {
        this.#growForWaiting();
      },
    });
  }

  /** Exchanges that wait for a connection. */
  get queued(): number {
    return this.#waiting.length;
  }

  /** No connection, none being dialled and no exchange waiting: may be forgotten. */
  get empty(): boolean {
    return this.#idle.length === 0 && this.quiet;
  }

  /** No exchange uses it or waits: it has idle connections at most. */
  get quiet(): boolean {
    return this.#active.size + this.#opening.size + this.#waiting.length === 0;
  }

  /** All open connections, in use or idle. */
  get connections(): UpstreamConnection[] {
    return [...this.#active, ...this.#idle.map(({ connection }) => connection)];
  }

  /** An idle connection, now active; null: none is suitable. */
  take({ client, careful }: Pick<ConnectionWaiter, 'client' | 'careful'>): UpstreamConnection | null {
    if (!this.#share.admits(client)) return null;
    const resting = this.#popIdle(careful);
    if (resting === null) return null;
    if (resting.connection.dialled.lease?.admits(client) === false) {
      this.#idle.push(resting);
      return null;
    }
    this.#options.onChange(1, -1);
    this.#activate(resting.connection, client);
    return resting.connection;
  }

  /**
   * Waits for the first connection that is free; if the pool may grow and the
   * wait is long, a new one is dialled. `leave` removes the waiter.
   * @param fresh accepts only a connection that was never used, as far as the pool may grow: after one stale
   * connection, any other may be stale too
   */
  wait(waiter: ConnectionWaiter, fresh = false): void {
    if (this.#closed) {
      waiter.onNoConnection(new Fault('draining', 'the proxy is shutting down'));
      return;
    }
    const room = this.#hasRoom();
    if (!this.#waiting.share.admits(waiter.client) && !(room && this.#share.admits(waiter.client))) {
      const { queue } = this.#options;
      const full = this.#waiting.length >= queue;
      waiter.onNoConnection(
        this.#busy(
          waiter,
          full
            ? `${queue} requests may wait for one`
            : `${waiter.client} has its share (${this.#waiting.share.heldBy(waiter.client)}) of at most ${queue} requests that may wait for one`,
        ),
      );
      return;
    }
    this.#waiting.add(waiter, fresh);
    // An idle connection may have become idle when fewer turns were enough.
    if (this.#idle.length > 0) this.#settle();
    this.#growForWaiting();
  }

  /** The waiter is no longer interested. A dial goes on: the next one gets its connection, and whether the upstream answers is known in any case. */
  leave(waiter: ConnectionWaiter): void {
    this.#waiting.remove(waiter);
  }

  /** The exchange on this connection has ended, or has detached it, so that it leaves the pool and its socket stays open. A pinned one stays with its client connection, and in its share, until one of the two closes, or the pool retires. */
  release(connection: UpstreamConnection): void {
    const { lease } = connection.dialled;
    if (connection.pinned && connection.reusable && !this.#retired) {
      lease?.hold(connection.client);
      connection.noteUsed();
      return;
    }
    if (!this.#active.delete(connection)) return;
    // No other client can use it: this one accounts for its NAT port.
    if (!connection.reusable) lease?.hold(connection.client);
    this.#share.giveBack(connection.client);
    // One that its client kept has been idle for most of this time.
    if (!connection.pinned) this.#pace.note(connection.sinceChange);
    if (connection.uses > 0 && connection.reusable) this.#silentCloses.noteKept();
    connection.noteUsed();
    const unwanted = this.#closed || (this.#retired && this.#waiting.length === 0);
    if (unwanted || connection.pinned || !connection.reusable || connection.isOld) {
      this.#options.onChange(-1, 0);
      connection.destroy();
    } else {
      this.#options.onChange(-1, 1);
      this.#rest(connection);
    }
    this.#serveWaiting();
    this.#growForWaiting();
  }

  /** A reused connection had been closed without notice. */
  noteStale(): void {
    this.#silentCloses.noteClosed();
  }

  /** No connection is kept any more: idle ones close now, others when they are not needed any more. Waiting exchanges are still served. */
  retire(): void {
    this.#retired = true;
    for (const resting of this.#idle.splice(0)) this.#dismiss(resting);
    for (const connection of this.#active) if (connection.pinned && connection.reusable) connection.destroy();
    if (this.#sweeper !== null) clearInterval(this.#sweeper);
    this.#sweeper = null;
  }

  /** Everything ends now: waiting exchanges are refused, active connections are cut. */
  destroy(): void {
    this.retire();
    this.#closed = true;
    for (const opening of this.#opening) opening.abort();
    for (let waiter = this.#waiting.first(); waiter !== null; waiter = this.#waiting.first())
      waiter.onNoConnection(new Fault('draining', 'the proxy is shutting down'));
    for (const connection of this.#active) connection.destroy();
  }

  get #size(): number {
    return this.#idle.length + this.#active.size + this.#opening.size;
  }

  #hasRoom(): boolean {
    return this.#size < this.#options.size;
  }

  /** Idle connections that may be of no use to the waiting exchanges. */
  get #useless(): number {
    return this.#silentCloses.areFrequent ? this.#idle.length : 0;
  }

  #mayGrow(): boolean {
    return this.#hasRoom() || this.#useless > 0;
  }

  /** What prevents a dial for this client now; null: nothing is known. */
  #limitOf(client: string): Fault | null {
    const limited = this.#limited.get(client);
    return limited !== undefined && this.#active.size > 0 && performance.now() < limited.until ? limited.fault : null;
  }

  #late(waiter: ConnectionWaiter): Fault {
    const { origin, queueTimeout } = this.#options;
    const limit = this.#limitOf(waiter.client);
    if (limit !== null) return limit;
    // A dial may take longer than it should: with another handshake after one that was cut, for example.
    if (this.#opening.size > 0 && this.#share.admits(waiter.client))
      return new Fault('connect-timeout', `the connection to ${origin} was still being opened after ${queueTimeout} ms`);
    return this.#busy(waiter, `none became free within ${queueTimeout} ms`);
  }

  #busy({ client }: ConnectionWaiter, how: string): Fault {
    const { size, origin } = this.#options;
    const mine = this.#share.heldBy(client);
    const whose =
      mine > 0 && this.#hasRoom()
        ? `${client} has its share (${mine}) of at most ${size} connections to ${origin}`
        : `all of at most ${size} connections to ${origin} are busy`;
    return new Fault('limit-reached', `${whose}, and ${how}`, { retryAfter: 1, remedy: 'raise limits.upstreamConnections' });
  }

  #activate(connection: UpstreamConnection, client: string): void {
    connection.noteTaken();
    connection.client = client;
    this.#active.add(connection);
    this.#share.take(client);
  }

  /** The latest suitable idle connection, of those never used if `fresh`; null: there is none. */
  #popIdle(careful: boolean, fresh = false): Resting | null {
    for (let at = this.#idle.length - 1; at >= 0; at -= 1) {
      const resting = this.#idle[at];
      if (resting === undefined || !this.#fits(resting, careful) || (fresh && resting.connection.uses > 0)) continue;
      this.#idle.splice(at, 1);
      const { connection } = resting;
      // The sweeper may be a second late, by which the upstream may be closing it.
      if (connection.reusable && !connection.isOld && !connection.idleTooLong && connection.dialled.circuit?.blocked !== true)
        return resting;
      this.#dismiss(resting);
    }
    return null;
  }

  /**
   * Whether a connection may be used again now. The more of them close without notice, the longer it rests first; where
   * that is likely, a request that must not be sent twice (`careful`) takes only one that was never used.
   */
  #fits({ connection, turn }: Resting, careful: boolean): boolean {
    if (connection.uses === 0) return true;
    if (!careful && !this.#silentCloses.areFrequent) return true;
    if (careful && this.#silentCloses.areFrequent) return false;
    const turns = this.#turn - turn;
    return this.#silentCloses.areDoubtful ? turns >= REST_TURNS && connection.sinceChange >= REST_MS : turns >= SETTLING_TURNS;
  }

  #dismiss({ connection, stayed }: Resting): void {
    if (!stayed && connection.reusable && connection.sinceChange >= REST_MS) this.#silentCloses.noteKept();
    this.#options.onChange(0, -1);
    connection.destroy();
  }

  #rest(connection: UpstreamConnection): void {
    this.#idle.push({ connection, turn: this.#turn, stayed: false });
    this.#sweeper ??= setInterval(this.#sweep, Math.min(1000, Math.max(10, this.#options.keepAlive / 8))).unref();
    this.#settle();
  }

  /** Counts as many turns as an idle connection may have to rest. */
  #settle(): void {
    if (this.#lastTurn <= this.#turn) setImmediate(this.#countTurn);
    this.#lastTurn = this.#turn + (this.#silentCloses.areDoubtful ? REST_TURNS : SETTLING_TURNS);
  }

  readonly #sweep = (): void => {
    for (const resting of this.#idle.filter(({ connection }) => connection.idleTooLong)) {
      this.#idle.splice(this.#idle.indexOf(resting), 1);
      this.#dismiss(resting);
    }
    for (const resting of this.#idle) {
      if (resting.stayed || resting.connection.sinceChange < STAYED_MS) continue;
      resting.stayed = true;
      this.#silentCloses.noteKept();
    }
    if (this.#idle.length > 0 || this.#sweeper === null) return;
    clearInterval(this.#sweeper);
    this.#sweeper = null;
  };

  /** Counts turns until every idle connection has settled. */
  readonly #countTurn = (): void => {
    this.#turn += 1;
    if (this.#turn < this.#lastTurn) setImmediate(this.#countTurn);
    this.#serveWaiting();
    if (this.#waiting.length > 0 && this.#idle.length > 0 && this.#silentCloses.areDoubtful)
      this.#lookAgain ??= setTimeout(this.#onRested, REST_MS);
    if (this.#retired && this.#waiting.length === 0) this.retire();
  };

  readonly #onRested = (): void => {
    this.#lookAgain = null;
    this.#settle();
  };

  /** Gives idle connections to waiting exchanges. */
  #serveWaiting(): void {
    while (this.#waiting.length > 0 && this.#idle.length > 0) {
      // Those that wait may all accept only one that was never used.
      const [grows, fresh] = [this.#mayGrow(), this.#idle.some(({ connection: { uses } }) => uses === 0)];
      const freshComes = (client: string): boolean => fresh || (grows && this.#limitOf(client) === null);
      if (!this.#serve(this.#popIdle(true) ?? this.#popIdle(false), freshComes) && !this.#serve(this.#popIdle(true, true), freshComes))
        return;
    }
  }

  /**
   * @param freshComes who accepts only a connection that was never used need not take another
   * @returns whether a waiting exchange has got this idle connection, which otherwise stays idle
   */
  #serve(resting: Resting | null, freshComes: (client: string) => boolean): boolean {
    if (resting === null) return false;
    const { connection } = resting;
    const offer: Offer = connection.uses === 0 ? 'fresh' : this.#fits(resting, true) ? 'settled' : 'used';
    const { lease } = connection.dialled;
    const held = (client: string): number | null => (lease?.admits(client) === false ? null : this.#held(client));
    const waiter = this.#waiting.next(offer, held, freshComes);
    if (waiter === null) {
      this.#idle.push(resting);
      return false;
    }
    this.#options.onChange(1, -1);
    this.#activate(connection, waiter.client);
    waiter.onConnection(connection);
    return true;
  }

  /** Never more dials than there are waiters that may have one; a full line does not shorten the wait. */
  #growForWaiting(): void {
    while (!this.#closed && this.#waiting.length > this.#opening.size && this.#mayGrow()) {
      const { eligible, pressing, without } = this.#waiting.survey(this.#pace.patience, this.#pace.isFar, this.#dialable);
      if (eligible <= this.#opening.size) return;
      // If the upstream is near, one at a time: each may turn out not to help.
      const impatient = pressing > this.#opening.size && (this.#pace.isFar || this.#opening.size === 0);
      // Connections that one client holds may not be returned for long: other clients need not wait to find out.
      const crowdedOut = without > this.#opening.size && this.#share.most >= CROWD;
      const pressed = this.#size - this.#useless < EAGER || this.#waiting.length > this.#options.queue || crowdedOut || impatient;
      if (!pressed) return;
      this.#grow();
    }
  }

  #grow(): void {
    const client = this.#waiting.neediest(this.#dialable) ?? '';
    if (!this.#hasRoom()) {
      const oldest = this.#idle.shift();
      if (oldest === undefined) return;
      this.#dismiss(oldest);
    }
    const controller = new AbortController();
    this.#opening.add(controller);
    this.#options.open(controller.signal, client).then(
      (dialled) => {
        this.#opening.delete(controller);
        this.#opened(dialled);
      },
      (error: unknown) => {
        this.#opening.delete(controller);
        if (!controller.signal.aborted) this.#notOpened(Fault.from(error), client);
        this.#serveWaiting();
        this.#growForWaiting();
      },
    );
  }

  /** The longest waiter gets the error: a failed dial must not leave an exchange waiting for nothing. */
  #notOpened(fault: Fault, client: string): void {
    if (fault.code !== 'limit-reached') this.#waiting.next('fresh', this.#held)?.onNoConnection(fault);
    else if (this.#active.size === 0) this.#waiting.first(client)?.onNoConnection(fault);
    else {
      // Out of ports, but connections are open: a waiter may get one of those.
      const now = performance.now();
      for (const [other, { until }] of this.#limited) if (now >= until) this.#limited.delete(other);
      this.#limited.set(client, { fault, until: now + LIMIT_PAUSE_MS });
    }
  }

  #opened(dialled: Dialled): void {
    // Not for those that have their share of the ports: another was to open no more for them either.
    const waiter = this.#closed ? null : this.#waiting.next('fresh', this.#dialable);
    // No exchange uses it now: the trial of its address has no result yet.
    if (waiter === null) dialled.circuit?.giveBack();
    if (this.#closed || (waiter === null && this.#retired)) {
      dialled.socket.destroy();
      return;
    }
    const connection = new UpstreamConnection(dialled, this.#options);
    // A connection that closes without an exchange leaves the pool at once: an idle one, or one that its client keeps.
    connection.onIdleClose = () => {
      this.release(connection);
      const at = this.#idle.findIndex((resting) => resting.connection === connection);
      const [resting] = at === -1 ? [] : this.#idle.splice(at, 1);
      if (resting === undefined) return;
      if (connection.uses > 0 && connection.sinceChange < STAYED_MS) this.#silentCloses.noteClosed();
      this.#options.onChange(0, -1);
      this.#growForWaiting();
    };
    if (waiter === null) {
      // The exchange it was dialled for has been served: the next one gets it.
      this.#options.onChange(0, 1);
      this.#rest(connection);
    } else {
      this.#options.onChange(1, 0);
      this.#activate(connection, waiter.client);
      waiter.onConnection(connection);
    }
  }
}
