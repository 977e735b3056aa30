/**
 * One HTTP request and its response, relayed over a pooled connection: the same
 * for every form that we terminate. The header section is sent as soon as there
 * is a connection for it; content flows in both directions with back-pressure,
 * whichever side is done first.
 *
 * Longer than 400 lines: each side's next step depends on the other, so both
 * share one state.
 */
import type { Socket } from 'node:net';
import { Fault } from '../errors.ts';
import { type Framing, NO_CONTENT } from '../http1/body-reader.ts';
import { NO_FIELDS, type RawFields } from '../http1/fields.ts';
import type { ResponseHead } from '../http1/response-head.ts';
import type { AccessRecord } from '../telemetry/access-record.ts';
import { TimeLimit } from '../time-limit.ts';
import { forwardResponseHeaders, forwardTrailers, type MapField, nominatedBy } from './headers.ts';
import type { UpstreamPool } from './pool.ts';
import { fitsReplay, type ReplayBudget, RequestReplay } from './replay.ts';
import type { ResponseHandler, UpstreamConnection } from './upstream-connection.ts';
import type { ConnectionWaiter } from './waiting-line.ts';

/** The instructions for an exchange. */
export interface ExchangePlan {
  readonly pool: UpstreamPool;
  /** The client whose share of the pool's connections it uses. */
  readonly client: string;
  /** The client as it has been identified: the same one has an equal object. */
  readonly identity: object;
  readonly method: string;
  /** Request line and header section, ready for the upstream. */
  readonly head: string;
  readonly framing: Framing;
  /** The client waits for `100 Continue` before it sends its content (RFC 9110 §10.1.1). */
  readonly expectsContinue: boolean;
  /** The client asked for a WebSocket. */
  readonly upgrades: boolean;
  /** The proxy's name in `Via`, or null for none. */
  readonly viaName: string | null;
  /** Rewrites fields of the response, or null for no change. */
  readonly mapField: MapField | null;
  /** Credentials in the request authenticate the connection (NTLM, Negotiate). */
  readonly authenticatesConnection: boolean;
  readonly replays: ReplayBudget;
  readonly timeouts: ExchangeTimeouts;
}

/** How long an exchange may be without progress. */
export interface ExchangeTimeouts {
  /** From the complete request to the head of the response, ms. */
  readonly responseHeaders: number;
  /** Longest time without a byte in either direction, ms. */
  readonly body: number;
}

/** The client's side of an exchange: its connection. */
export interface ExchangeClient {
  readonly httpVersion: string;
  /** Sends an informational response. @returns false: as for `write` */
  inform(status: number, fields: RawFields): boolean;
  /** Begins the final response. `fields` have no framing but a Content-Length. */
  respond(head: ResponseHead, fields: RawFields): void;
  /** Some of its content. @returns false: the client does not keep up; `clientDrained` follows */
  write(content: Buffer): boolean;
  /** The response is complete. */
  complete(trailers: RawFields): void;
  /** No content of the request is wanted for now. */
  pause(): void;
  resume(): void;
  /** The connection-authenticated upstream connection of this client, client connection and pool; null: none. @param loggingIn only this connection can complete a login, whatever its age */
  pinned(pool: UpstreamPool, identity: object, loggingIn: boolean): UpstreamConnection | null;
  /** The upstream connection belongs to this client on this client connection only from now on, and is closed with it. */
  pin(pool: UpstreamPool, identity: object, connection: UpstreamConnection): void;
}

/** Notified of the end: exactly one of the three is called. */
export interface ExchangeOwner {
  /** Complete; the response has been passed to the client's connection. */
  onDone(): void;
  /** Failed. `answerable`: nothing has been sent to the client yet, so the owner answers; otherwise the client must see a truncated transfer. */
  onFault(fault: Fault, answerable: boolean): void;
  /** The upstream accepted the upgrade: the owner answers 101 and relays the two sockets, which it now owns. */
  onUpgrade(upstream: Socket, head: ResponseHead, fields: RawFields): void;
  /** Our code threw: the client's connection ends. */
  onCrash(error: unknown): void;
}

/** More informational responses than this are an attack or a bug of the upstream. */
const MAX_INFORMATIONAL = 32;
/** RFC 9110 §10.1.1 allows a proxy to send 100 by itself. How long the upstream may take to do it first, ms. */
const CONTINUE_PATIENCE = 1000;
/** RFC 9110 §9.2.2: may be repeated when the connection broke before any answer. */
const IDEMPOTENT: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS', 'TRACE', 'PUT', 'DELETE']);

type ExchangeState = 'waiting' | 'asking' | 'responding' | 'ended';

/** One request with its response. It takes a connection from the pool, and closes that if the exchange fails; the owner answers the client. */
export class Exchange implements ResponseHandler, ConnectionWaiter {
  /** Grows with any progress: read by the clock of the client's connection. */
  stamp = 0;
  readonly careful: boolean;
  readonly #client: ExchangeClient;
  readonly #plan: ExchangePlan;
  readonly #record: AccessRecord;
  readonly #owner: ExchangeOwner;
  readonly #replay: RequestReplay;
  #state: ExchangeState = 'waiting';
  #connection: UpstreamConnection | null = null;
  #requestDone: boolean;
  /** The upstream does not keep up with the client's content. */
  #uploadBlocked = false;
  /** The client does not keep up with the upstream's content. */
  #downloadBlocked = false;
  #informational = 0;
  #continued = false;
  #continueLimit: TimeLimit | null = null;
  /** Fields named by `Connection` of the response: not allowed as trailers either. */
  #nominated: ReadonlySet<string> | null = null;

  constructor(client: ExchangeClient, plan: ExchangePlan, record: AccessRecord, owner: ExchangeOwner) {
    this.#client = client;
    this.#plan = plan;
    this.#record = record;
    this.#owner = owner;
    this.#requestDone = plan.framing === NO_CONTENT;
    const idempotent = IDEMPOTENT.has(plan.method);
    // What cannot be sent again in full must not meet a stale connection.
    this.careful = !idempotent || !fitsReplay(plan.framing);
    this.#replay = new RequestReplay(plan.replays, idempotent);
  }

  /** The client whose share of the pool it takes. */
  get client(): string {
    return this.#plan.client;
  }

  /** How long `stamp` may stay the same, ms. While it waits for a connection, the pool's time limit applies. */
  get patience(): number {
    const { responseHeaders, body } = this.#plan.timeouts;
    if (this.#state === 'waiting') return Infinity;
    return this.#state === 'asking' && this.#requestDone && !this.#downloadBlocked ? responseHeaders : body;
  }

  /** Begins; everything else is reported to the owner. */
  start(): void {
    const { pool, identity, authenticatesConnection: loggingIn } = this.#plan;
    const connection = this.#client.pinned(pool, identity, loggingIn) ?? pool.take(this);
    if (connection !== null) this.#begin(connection);
    else pool.wait(this);
  }

  // --- from the pool

  onConnection(connection: UpstreamConnection): void {
    this.#guard(() => {
      this.#begin(connection);
    });
  }

  onNoConnection(fault: Fault): void {
    this.#guard(() => {
      this.#fail(fault);
    });
  }

  // --- from the client

  /** Some content of the request has come. */
  content(content: Buffer): void {
    this.stamp += 1;
    this.#record.bytesSent += content.length;
    this.#replay.keep(content, this.#connection !== null);
    if (this.#connection === null) {
      // Read with the header section; no more is read until there is a connection.
      this.#uploadBlocked = true;
      this.#client.pause();
    } else if (!this.#connection.write(content) && !this.#uploadBlocked) {
      this.#uploadBlocked = true;
      this.#client.pause();
    }
  }

  /** The request is complete. */
  contentEnd(trailers: RawFields): void {
    this.stamp += 1;
    this.#requestDone = true;
    this.#replay.complete(trailers);
    this.#connection?.finish(trailers);
  }

  /** The client's connection has closed. */
  clientClosed(): void {
    this.#fail(
      new Fault(
        'client-closed',
        `the client closed its connection before ${this.#state === 'waiting' ? 'there was one to the upstream' : 'the response was complete'}`,
      ),
    );
  }

  /** The client can take more of the response. */
  clientDrained(): void {
    if (!this.#downloadBlocked) return;
    this.stamp += 1;
    this.#downloadBlocked = false;
    this.#connection?.resume();
  }

  /** Called by the clock: no progress for `patience`. */
  stalled(): void {
    const { responseHeaders, body } = this.#plan.timeouts;
    if (this.#downloadBlocked) this.#fail(new Fault('client-stalled', `the client did not read for ${body} ms`));
    else if (!this.#requestDone && !this.#uploadBlocked && !this.#isRefused)
      this.#fail(new Fault('request-timeout', `the client sent nothing of the request body for ${body} ms`));
    else if (this.#state === 'responding')
      this.#fail(new Fault('upstream-silent', `the upstream sent nothing of the response for ${body} ms`));
    else if (this.#requestDone)
      this.#fail(new Fault('upstream-silent', `the upstream did not begin to answer within ${responseHeaders} ms`));
    else this.#fail(new Fault('upstream-silent', `the upstream did not take the request body for ${body} ms`));
  }

  /** The final answer has come in place of 100, or is a refusal: a client need not send the rest of its content (RFC 9110 §10.1.1, RFC 9112 §9.5). */
  get #isRefused(): boolean {
    return this.#state === 'responding' && ((this.#plan.expectsContinue && !this.#continued) || this.#record.status >= 300);
  }

  /** The proxy itself ends the exchange: the drain deadline, or a malformed request body. */
  abort(fault: Fault): void {
    this.#fail(fault);
  }

  // --- from the upstream

  onInformational(head: ResponseHead): void {
    this.stamp += 1;
    this.#informational += 1;
    if (this.#informational > MAX_INFORMATIONAL) {
      this.#fail(new Fault('upstream-malformed', `the upstream sent more than ${MAX_INFORMATIONAL} informational responses`));
      return;
    }
    if (head.status === 100) {
      this.#stopContinuing();
      if (this.#continued) return;
      this.#continued = true;
    }
    // RFC 9110 §15.2: a proxy forwards 1xx, but not to an HTTP/1.0 client.
    if (this.#client.httpVersion === '1.0') return;
    this.#keepPace(
      this.#client.inform(
        head.status,
        forwardResponseHeaders(head, { viaName: this.#plan.viaName, mapField: this.#plan.mapField, trailers: false }),
      ),
    );
  }

  onHead(head: ResponseHead): void {
    if (this.#goesAgain(head)) return;
    const plan = this.#plan;
    this.stamp += 1;
    this.#stopContinuing();
    this.#state = 'responding';
    this.#connection?.dialled.circuit?.answered(head.status, plan.client);
    this.#replay.release();
    this.#record.firstByteMs = performance.now() - this.#record.startedAt;
    this.#record.status = head.status;
    this.#record.upstreamStatus = head.status;
    if (head.authenticatesConnection || plan.authenticatesConnection) this.#pin();
    this.#nominated = nominatedBy(head.fields);
    this.#client.respond(
      head,
      forwardResponseHeaders(head, {
        viaName: plan.viaName,
        mapField: plan.mapField,
        trailers: this.#client.httpVersion !== '1.0',
        nominated: this.#nominated,
      }),
    );
  }

  onContent(content: Buffer): void {
    this.stamp += 1;
    this.#record.bytesReceived += content.length;
    this.#keepPace(this.#client.write(content));
  }

  onEnd(trailers: RawFields): void {
    if (this.#state === 'ended') return;
    this.#end();
    this.#client.complete(trailers === NO_FIELDS ? trailers : forwardTrailers(trailers, this.#nominated));
    this.#owner.onDone();
  }

  onSwitch(head: ResponseHead): void {
    const connection = this.#connection;
    if (connection === null || !this.#plan.upgrades || head.upgrade.toLowerCase() !== 'websocket') {
      this.#fail(
        new Fault(
          'upstream-malformed',
          this.#plan.upgrades
            ? 'the upstream switched protocols, and not to the one it was asked for'
            : 'the upstream switched protocols without being asked to',
          { facts: { receivedStatus: 101 } },
        ),
      );
      return;
    }
    connection.dialled.circuit?.answered(head.status, this.#plan.client);
    const upstream = connection.detach();
    this.#end();
    this.#owner.onUpgrade(
      upstream,
      head,
      forwardResponseHeaders(head, { viaName: this.#plan.viaName, mapField: this.#plan.mapField, trailers: false }),
    );
  }

  onDrain(): void {
    this.stamp += 1;
    if (!this.#uploadBlocked) return;
    this.#uploadBlocked = false;
    this.#client.resume();
  }

  /** The end of an idle connection, announced while our request was on its way: it may be repeated (RFC 9110 §15.5.9). */
  #goesAgain(head: ResponseHead): boolean {
    if (head.status !== 408 || head.keepAlive || !this.#requestDone) return false;
    const cut = new Fault('upstream-cut', 'the upstream ended the connection with 408');
    if (!this.#mayRetry(cut)) return false;
    this.#connection?.abandon();
    this.onBroken(cut);
    return true;
  }

  onBroken(fault: Fault): void {
    if (this.#state === 'ended') return;
    if (this.#isStale(fault)) this.#plan.pool.noteStale();
    if (this.#mayRetry(fault)) {
      this.#replay.noteRetry();
      this.#releaseConnection();
      this.#record.dialled = false;
      this.#record.upstreamAddress = '-';
      this.#record.via = '';
      this.#record.reusedConnection = false;
      this.#record.noteLocalEnd({});
      this.#state = 'waiting';
      this.#plan.pool.wait(this, true);
    } else this.#fail(fault);
  }

  onCrash(error: unknown): void {
    this.#end();
    this.#owner.onCrash(error);
  }

  #continueLate(): void {
    this.#continueLimit = null;
    if (this.#continued || this.#state !== 'asking') return;
    this.#continued = true;
    this.#guard(() => {
      this.#client.inform(100, NO_FIELDS);
    });
  }

  /** What it throws ends the exchange. */
  #guard(step: () => void): void {
    try {
      step();
    } catch (error) {
      this.onCrash(error);
    }
  }

  #begin(connection: UpstreamConnection): void {
    const plan = this.#plan;
    this.stamp += 1;
    this.#state = 'asking';
    this.#connection = connection;
    this.#record.became = 'exchange';
    this.#record.attempts += 1;
    noteConnection(this.#record, connection);
    connection.begin(this, plan.method, plan.head, plan.framing);
    for (const content of this.#replay.held) connection.write(content);
    this.#replay.noteSent();
    if (this.#requestDone) connection.finish(this.#replay.trailers);
    else if (this.#uploadBlocked) {
      this.#uploadBlocked = false;
      this.#client.resume();
    }
    if (!plan.expectsContinue || this.#continued) return;
    this.#stopContinuing();
    this.#continueLimit = new TimeLimit(CONTINUE_PATIENCE, () => {
      this.#continueLate();
    });
  }

  /** The upstream is read no faster than the client reads. */
  #keepPace(keepsUp: boolean): void {
    if (keepsUp || this.#downloadBlocked) return;
    this.#downloadBlocked = true;
    this.#connection?.pause();
  }

  /** Only a reused connection can have been stale (RFC 9112 §9.3.1), and only before any answer. What is no answer may be left of the one before: content of 204, for example. */
  #isStale({ code, facts }: Fault): boolean {
    return this.#isReused && (code === 'upstream-cut' || (code === 'upstream-malformed' && facts.receivedStatus === undefined));
  }

  get #isReused(): boolean {
    return this.#connection !== null && this.#connection.uses > 0 && this.#state === 'asking' && this.#informational === 0;
  }

  /** If all of it is kept and may be repeated, it is sent again unchanged. @param fault with which the connection broke; upstream-silent: it was lost */
  #mayRetry(fault: Fault): boolean {
    const failed = this.#isStale(fault) || (this.#isReused && fault.code === 'upstream-silent');
    return failed && this.#connection?.pinned === false && this.#replay.mayRepeat;
  }

  #pin(): void {
    const connection = this.#connection;
    if (connection === null || connection.pinned) return;
    connection.pinned = true;
    this.#client.pin(this.#plan.pool, this.#plan.identity, connection);
  }

  #fail(fault: Fault): void {
    if (this.#state === 'ended') return;
    const answerable = this.#state !== 'responding';
    const connection = this.#connection;
    // A stale connection is no evidence about the upstream's health.
    if (this.#state === 'asking' && !this.#isStale(fault)) connection?.dialled.circuit?.endedUnanswered(fault, this.#plan.client);
    connection?.abandon();
    this.#end();
    this.#owner.onFault(
      connection !== null && fault.kind.blame === 'upstream' ? fault.with({ nextHop: connection.nextHop }) : fault,
      answerable,
    );
  }

  /** From here on nothing more is reported. */
  #end(): void {
    this.#state = 'ended';
    this.#stopContinuing();
    this.#replay.release();
    this.#releaseConnection();
  }

  #releaseConnection(): void {
    const connection = this.#connection;
    this.#connection = null;
    if (connection === null) this.#plan.pool.leave(this);
    else this.#plan.pool.release(connection);
  }

  #stopContinuing(): void {
    this.#continueLimit?.clear();
    this.#continueLimit = null;
  }
}

/** Which connection carries it; the phases are those of the exchange it was opened for. */
function noteConnection(record: AccessRecord, { dialled, uses }: UpstreamConnection): void {
  const { socket, address, via, dnsMs, tcpMs, tlsMs, hopMs, attempts, reported } = dialled;
  record.dialled = true;
  record.upstreamAddress = address ?? '-';
  record.noteLocalEnd(socket);
  record.via = via;
  if (reported !== undefined) record.noteReported(reported.code, reported.message);
  record.reusedConnection = uses > 0;
  if (record.reusedConnection) return;
  record.dials = attempts;
  record.dnsMs = dnsMs;
  record.tcpMs = tcpMs;
  record.tlsMs = tlsMs;
  record.hopMs = hopMs;
}
