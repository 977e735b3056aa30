/**
 * One request's stay in the proxy, from its first byte to its log line. It
 * owns whatever the request became (an exchange or a tunnel), answers when
 * that fails, and ends exactly once.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import type { Crowd } from '../crowd.ts';
import type { Permit } from '../egress.ts';
import { Fault } from '../errors.ts';
import type { ExchangeOwner, ExchangePlan } from '../relay/exchange-plan.ts';
import { Exchange } from '../relay/exchange.ts';
import type { IdleClock } from '../relay/idle-clock.ts';
import type { Opening } from '../relay/opening.ts';
import { Tunnel, type TunnelOwner, type TunnelSocket } from '../relay/tunnel.ts';
import type { AccessRecord, ClosedBy } from '../telemetry/access-record.ts';
import type { Telemetry } from '../telemetry/telemetry.ts';
import { refusalText, refuseResponse, refuseSocket } from './refuse.ts';
import { refuseTls } from './tls-alert.ts';

/** Where denials are remembered (explain/recent-denials.ts). */
export interface DenialMemory {
  /** Told of each request that ended with a fault, or that report mode alone let pass. Keeps what concerns it. */
  note(record: AccessRecord, fault: Fault | null, permit: Permit | null): void;
}

export interface VisitContext {
  /** Our name, for `Proxy-Status`. */
  readonly name: string;
  readonly telemetry: Telemetry;
  readonly denials: DenialMemory;
  /** The configured name of a client address, `-` for none. */
  readonly clientName: (address: string) => string;
  readonly idleClock: IdleClock;
  /** Every visit under way: what a drain waits for. */
  readonly visits: Crowd<Visit>;
  /** Once true, connections are closed after their response. */
  draining: boolean;
}

/** Whom a visit is for, and by what it can be answered. */
export interface Caller {
  readonly socket: Duplex;
  /** Null where no HTTP is spoken: raw TLS, which is answered with alerts. */
  readonly req: IncomingMessage | null;
  /** Null for CONNECT, which has no response in Node's sense. */
  readonly res: ServerResponse | null;
  /** What the client sent early, after an upgrade or CONNECT request; of raw TLS all that has been read. */
  readonly head: Buffer | null;
}

const kVisit = Symbol('visit');
interface Visited {
  [kVisit]?: Visit | undefined;
}

/** The visit under way on a client socket. */
export function visitOf(socket: Duplex): Visit | null {
  return (socket as Visited)[kVisit] ?? null;
}

export class Visit implements ExchangeOwner, TunnelOwner {
  readonly record: AccessRecord;
  readonly #caller: Caller;
  readonly #context: VisitContext;
  readonly #socket: Duplex;
  #permit: Permit | null = null;
  #exchange: Exchange | null = null;
  #tunnel: Tunnel | null = null;
  #dial: AbortController | null = null;
  #ended = false;

  constructor(context: VisitContext, record: AccessRecord, caller: Caller) {
    this.#context = context;
    this.record = record;
    this.#caller = caller;
    this.#socket = caller.socket;
    context.visits.add(this);
    (caller.socket as Visited)[kVisit] = this;
    if (context.draining) this.closeAfter();
  }

  /** The response under way is the last on its connection. */
  closeAfter(): void {
    const { res } = this.#caller;
    if (res === null) return;
    res.shouldKeepAlive = false;
    // A head on its way has promised to keep the connection: that is broken between two requests only.
    if (res.headersSent) {
      res.once('finish', () => {
        if (visitOf(this.#socket) === null) this.#socket.end();
      });
    }
  }

  /** Whether some of the request's body is still to come. */
  get bodyPending(): boolean {
    return this.#caller.req?.complete === false;
  }

  /** The request was admitted: its permit is held until the visit ends. */
  hold(permit: Permit): void {
    this.#permit = permit;
  }

  /** Goes on when `wait` is over, unless the client has gone meanwhile. What either throws is answered. */
  resume<T>(wait: Promise<T>, then: (value: T) => void): void {
    wait
      .then((value) => {
        if (this.#socket.destroyed) this.#failed(new Fault('client-closed', 'the client closed its connection while its credentials were verified'));
        else then(value);
      })
      .catch((error: unknown) => {
        this.refuse(Fault.from(error));
      });
  }

  startExchange(req: IncomingMessage, res: ServerResponse, plan: ExchangePlan): void {
    this.#exchange = new Exchange(req, res, plan, this.record, this);
    this.#exchange.start();
  }

  /**
   * Dials for a CONNECT or raw TLS, then relays. Nothing more of the client is
   * read before the dial is done (CVE-2025-64763), and 200 is sent only then.
   * @param opening looks at what the client sends first; null: nobody does
   */
  async startTunnel(dial: (signal: AbortSignal) => Promise<TunnelSocket>, opening: Opening | null): Promise<void> {
    const controller = new AbortController();
    const onClientClose = (): void => {
      controller.abort();
    };
    this.#dial = controller;
    this.#socket.once('close', onClientClose);
    try {
      const upstream = await dial(controller.signal);
      this.#socket.off('close', onClientClose);
      this.#dial = null;
      if (this.#ended || this.#socket.destroyed) {
        upstream.destroy();
        this.#failed(new Fault('client-closed', 'the client closed its connection while the upstream was dialled'));
        return;
      }
      if (this.#caller.req !== null) {
        this.#socket.write(`HTTP/1.1 200 Connection Established\r\nX-Request-Id: ${this.record.requestId}\r\n\r\n`);
        this.record.status = 200;
      }
      this.#relay(upstream, opening);
    } catch (error) {
      this.#socket.off('close', onClientClose);
      this.#dial = null;
      if (this.#socket.destroyed) this.#failed(new Fault('client-closed', 'the client closed its connection while the upstream was dialled'));
      else this.refuse(Fault.from(error));
    }
  }

  /** Answers with a fault, if there is still somebody to answer, and ends. */
  refuse(fault: Fault): void {
    if (this.#ended) return;
    const { requestId } = this.record;
    const { name } = this.#context;
    const { req, res } = this.#caller;
    if (req !== null) this.record.status = fault.kind.status;
    if (req === null) refuseTls(this.#socket, fault);
    else if (res === null) refuseSocket(this.#socket, fault, requestId, name);
    else if (res.headersSent || res.destroyed) {
      this.record.status = res.headersSent ? res.statusCode : 0;
      res.destroy();
    } else refuseResponse(res, fault, requestId, name);
    this.#end(fault, 'proxy');
  }

  /** The client broke the rules in the middle: of an exchange's body, for one. */
  broke(fault: Fault): void {
    this.closeAfter();
    if (this.#exchange === null) this.refuse(fault);
    else this.#exchange.abort(fault);
  }

  /**
   * The policy has changed: a tunnel, open or being dialled, that it no longer
   * permits is closed. Exchanges end as they began: what they were is over in
   * a moment, and half of it cannot be taken back.
   * @param revoke why a permit, to this address if it is known yet, holds no longer; or null
   * @returns whether it was closed
   */
  recheck(revoke: (permit: Permit, address: string | null) => Fault | null): boolean {
    if (this.#permit === null || (this.#tunnel === null && this.#dial === null)) return false;
    const fault = revoke(this.#permit, this.#tunnel === null ? null : this.record.upstreamAddress);
    if (fault !== null) this.cut(fault);
    return fault !== null;
  }

  /** The proxy gives up on it: the drain deadline. */
  cut(fault: Fault): void {
    this.#dial?.abort();
    if (this.#tunnel !== null) this.#tunnel.end(fault);
    else if (this.#exchange !== null) this.#exchange.abort(fault);
    else this.refuse(fault);
  }

  // --- ExchangeOwner

  onDone(): void {
    this.#end(null, 'upstream');
  }

  onFault(fault: Fault, record: AccessRecord, answerable: boolean): void {
    // A dial that failed has been counted where it was made.
    if (fault.kind.blame === 'upstream' && record.upstreamAddress !== '-') this.#context.telemetry.upstreamFailed(record.destination, fault.code);
    if (answerable && fault.code !== 'client-closed') this.refuse(fault);
    else this.#failed(fault);
  }

  onUpgrade(upstream: Duplex, statusCode: number, headers: string[]): void {
    const { res } = this.#caller;
    if (res === null || this.#socket.destroyed) {
      upstream.destroy();
      this.#failed(new Fault('client-closed', 'the client closed its connection before the upgrade was answered'));
      return;
    }
    this.#exchange = null;
    this.record.status = statusCode;
    this.record.firstByteMs = performance.now() - this.record.startedAt;
    let head = `HTTP/1.1 ${statusCode} Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n`;
    for (let i = 0; i + 1 < headers.length; i += 2) head += `${headers[i] ?? ''}: ${headers[i + 1] ?? ''}\r\n`;
    // From here the socket carries frames: Node's response object must let go of it.
    res.detachSocket(res.req.socket);
    this.#socket.write(`${head}\r\n`, 'latin1');
    this.#relay(upstream, null);
  }

  // --- TunnelOwner

  lastWords(fault: Fault): string {
    return refusalText(fault, this.record.requestId, this.#context.name);
  }

  onTunnelEnd(_tunnel: Tunnel, fault: Fault | null, closedBy: ClosedBy): void {
    const { form, destination } = this.record;
    if (form !== '-') this.#context.telemetry.tunnelClosed(form, destination);
    this.#end(fault, closedBy);
  }

  #relay(upstream: TunnelSocket, opening: Opening | null): void {
    const { telemetry, idleClock } = this.#context;
    const { form, destination } = this.record;
    if (form !== '-') telemetry.tunnelOpened(form, destination, this.record);
    this.#tunnel = new Tunnel(this.#socket, upstream, this.record, idleClock, this, opening);
    this.#tunnel.start(this.#caller.head);
  }

  /** Ended with nobody left to answer. */
  #failed(fault: Fault): void {
    this.#end(fault, fault.code === 'client-closed' ? 'client' : fault.kind.blame === 'upstream' ? 'upstream' : 'proxy');
  }

  #end(fault: Fault | null, closedBy: ClosedBy): void {
    if (this.#ended) return;
    this.#ended = true;
    const { record } = this;
    if (fault !== null) {
      record.code = fault.code;
      record.detail = fault.advice;
      // Refused before the policy was asked: the log still says whose request it was.
      if (record.client === '-') record.client = this.#context.clientName(record.clientAddress);
    }
    record.closedBy = closedBy;
    record.durationMs = performance.now() - record.startedAt;
    this.#permit?.release();
    this.#context.visits.delete(this);
    if (visitOf(this.#socket) === this) (this.#socket as Visited)[kVisit] = undefined;
    this.#context.telemetry.ended(record);
    if (fault !== null || record.wouldDeny !== '') this.#context.denials.note(record, fault, this.#permit);
  }
}

/**
 * Logs and counts a fault that no request belongs to, after it has been answered.
 * @param status that was sent; 0 for none
 */
export function endUnread({ telemetry, denials, clientName }: VisitContext, record: AccessRecord, fault: Fault, status: number): void {
  record.client = clientName(record.clientAddress);
  record.code = fault.code;
  record.detail = fault.advice;
  record.status = status;
  record.closedBy = fault.code === 'client-closed' ? 'client' : 'proxy';
  telemetry.ended(record);
  denials.note(record, fault, null);
}
