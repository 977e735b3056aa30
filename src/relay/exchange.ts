/**
 * One HTTP request and its response, relayed over a pooled connection: the
 * same for every form that we terminate. Streams both ways with back-pressure,
 * informational responses, trailers and upgrades.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { errors, type Dispatcher } from 'undici';
import { Fault } from '../errors.ts';
import type { AccessRecord } from '../telemetry/access-record.ts';
import type { ExchangeOwner, ExchangePlan } from './exchange-plan.ts';
import { explainUpstreamError, isConnectionLoss } from './exchange-faults.ts';
import { forwardResponseHeaders, forwardTrailers } from './headers.ts';
import type { UpstreamPool } from './pool.ts';
import type { PooledConnection } from './pooled-connection.ts';
import { rawHeaders, rawTrailers, type RawFields } from './raw-fields.ts';
import { RequestBody } from './request-body.ts';
import { resetSocket } from './reset.ts';
import { findHeadFault, reasonPhrase } from './response-head.ts';
import type { Waiter } from './waiting-line.ts';

/** More informational responses than this are an attack or a bug on the upstream's side. */
const MAX_INFORMATIONAL = 32;

/** RFC 9110 §9.2.2: may be repeated when the connection broke before any answer. */
const IDEMPOTENT: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS', 'TRACE', 'PUT', 'DELETE']);

const kExchange = Symbol('exchange');
type ExchangedResponse = ServerResponse & { [kExchange]?: Exchange | undefined };

// One function each for all exchanges: nothing is bound or closed over per request.
function onClientClose(this: ExchangedResponse): void {
  this[kExchange]?.clientClosed();
}
function onClientDrain(this: ExchangedResponse): void {
  this[kExchange]?.clientDrained();
}
function onClientStall(this: ExchangedResponse): void {
  this[kExchange]?.clientStalled();
}

export class Exchange implements Dispatcher.DispatchHandler, Waiter {
  readonly #req: IncomingMessage;
  readonly #res: ExchangedResponse;
  readonly #plan: ExchangePlan;
  readonly #record: AccessRecord;
  readonly #owner: ExchangeOwner;
  #controller: Dispatcher.DispatchController | null = null;
  #connection: PooledConnection | null = null;
  #body: RequestBody | null = null;
  #informational = 0;
  #retried = false;
  #responded = false;
  #ended = false;

  constructor(req: IncomingMessage, res: ServerResponse, plan: ExchangePlan, record: AccessRecord, owner: ExchangeOwner) {
    this.#req = req;
    this.#res = res;
    this.#plan = plan;
    this.#record = record;
    this.#owner = owner;
  }

  /** Begins; everything after is told to the owner. */
  start(): void {
    this.#res[kExchange] = this;
    this.#res.on('close', onClientClose);
    const connection = this.#plan.pool.take();
    if (connection === null) this.#plan.pool.wait(this);
    else this.onConnection(connection);
  }

  // --- from the pool

  onConnection(connection: PooledConnection): void {
    if (this.#ended) {
      this.#plan.pool.release(connection);
      return;
    }
    this.#connection = connection;
    connection.note(this.#record);
    const plan = this.#plan;
    if (plan.hasBody) this.#body ??= new RequestBody(this.#req, plan.bodyTimeout);
    connection.client.dispatch(
      {
        method: plan.method,
        path: plan.path,
        headers: plan.headers,
        body: this.#body,
        upgrade: plan.upgrade,
        servername: plan.serverName,
      } as Dispatcher.DispatchOptions,
      this,
    );
  }

  onNoConnection(fault: Fault): void {
    this.#fail(fault);
  }

  // --- from undici

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    if (this.#ended) {
      controller.abort(new errors.RequestAbortedError());
      return;
    }
    // The upstream is connected and judged: now the client may send its body. We answer
    // ourselves because undici sends no Expect (RFC 9110 §10.1.1; docs/request-life.md).
    if (this.#plan.expectsContinue && !this.#retried) this.#res.writeContinue();
  }

  onResponseStart(controller: Dispatcher.DispatchController, statusCode: number, _headers: unknown, statusMessage?: string): void {
    if (this.#ended) return;
    const raw = rawHeaders(controller);
    const fault = findHeadFault(statusCode, raw);
    if (fault !== null) {
      this.#fail(fault);
      return;
    }
    if (statusCode < 200) {
      this.#relayInformational(statusCode, raw);
      return;
    }
    const res = this.#res;
    this.#record.firstByteMs = performance.now() - this.#record.startedAt;
    // Dates are the origin's (RFC 9110 §6.6.1): none is made up.
    res.sendDate = false;
    const chunks = res.useChunkedEncodingByDefault && this.#plan.method !== 'HEAD' && statusCode !== 204 && statusCode !== 304;
    res.writeHead(statusCode, reasonPhrase(statusCode, statusMessage), forwardResponseHeaders(raw, this.#plan.via, this.#plan.mapLocation, chunks, statusCode));
    this.#responded = true;
    this.#record.status = statusCode;
    res.on('drain', onClientDrain);
    res.on('timeout', onClientStall);
    process.nextTick(sendHead, this);
  }

  /** The head does not wait for content that comes later; content that came with it goes out with it. */
  sendHead(): void {
    if (!this.#ended && this.#record.bytesReceived === 0) this.#res.flushHeaders();
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (this.#ended) return;
    this.#record.bytesReceived += chunk.length;
    if (!this.#res.write(chunk)) {
      controller.pause();
      // While the client does not read, this is its clock.
      this.#res.setTimeout(this.#plan.bodyTimeout);
    }
  }

  onResponseEnd(controller: Dispatcher.DispatchController): void {
    if (this.#ended) return;
    const broken = this.#connection?.socketError ?? null;
    // undici takes a reset for the end where the close of the connection marks it.
    if (broken !== null) {
      this.onResponseError(controller, broken);
      return;
    }
    const raw = rawTrailers(controller);
    if (raw.length > 0) this.#res.addTrailers(forwardTrailers(raw));
    this.#end();
    this.#res.end();
    // What is still buffered has a clock too: Node closes the socket when it moves no byte for this long.
    if (this.#res.writableLength > 0) this.#res.setTimeout(this.#plan.bodyTimeout);
    this.#owner.onDone(this.#record);
  }

  onRequestUpgrade(controller: Dispatcher.DispatchController, statusCode: number, _headers: unknown, upstream: Duplex): void {
    const connection = this.#connection;
    if (connection !== null) this.#plan.pool.detach(connection);
    this.#connection = null;
    if (this.#ended) {
      upstream.destroy();
      return;
    }
    this.#end();
    this.#owner.onUpgrade(upstream, statusCode, forwardResponseHeaders(rawHeaders(controller), this.#plan.via, null), this.#record);
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    if (this.#ended) {
      this.#releaseSoon();
      return;
    }
    if (this.#mayRetry(error)) {
      this.#retried = true;
      this.#controller = null;
      this.#record.upstreamAddress = '-';
      this.#releaseSoon();
      this.#plan.pool.wait(this, true);
      return;
    }
    const cause = isConnectionLoss(error) ? (this.#connection?.socketError ?? error) : error;
    this.#fail(explainUpstreamError(cause, { responded: this.#responded, bodyPending: this.#plan.hasBody && !this.#req.complete }));
  }

  // --- from the client's side

  clientClosed(): void {
    if (this.#ended) return;
    this.#fail(new Fault('client-closed', 'the client closed its connection before the response was complete'));
  }

  clientDrained(): void {
    if (this.#ended) return;
    this.#res.setTimeout(0);
    this.#controller?.resume();
  }

  clientStalled(): void {
    this.#fail(new Fault('client-stalled', `the client did not read for ${this.#plan.bodyTimeout} ms`));
  }

  /** The proxy itself gives the exchange up: the drain deadline, or a broken request body. */
  abort(fault: Fault): void {
    this.#fail(fault);
  }

  #relayInformational(statusCode: number, raw: RawFields): void {
    this.#informational += 1;
    if (this.#informational > MAX_INFORMATIONAL) {
      this.#fail(new Fault('upstream-malformed', `the upstream sent more than ${MAX_INFORMATIONAL} informational responses`));
      return;
    }
    // RFC 9110 §15.2: a proxy forwards 1xx, but not to an HTTP/1.0 client.
    if (this.#req.httpVersionMinor === 0 && this.#req.httpVersionMajor === 1) return;
    this.#res.writeInformation(statusCode, forwardResponseHeaders(raw, null, null, true, statusCode));
  }

  #mayRetry(error: Error): boolean {
    const connection = this.#connection;
    // Only a reused connection can have died of old age (RFC 9112 §9.3.1), only a request
    // without content can be sent again as it was, and only before any answer.
    return (
      connection !== null &&
      (connection.uses > 0 || connection.hasRested) &&
      !this.#retried &&
      !this.#responded &&
      this.#informational === 0 &&
      !this.#plan.hasBody &&
      IDEMPOTENT.has(this.#plan.method) &&
      isConnectionLoss(error)
    );
  }

  #fail(fault: Fault): void {
    if (this.#ended) return;
    const answerable = !this.#responded && !this.#res.headersSent && !this.#res.destroyed;
    if (this.#connection === null) this.#plan.pool.leave(this);
    // Given to undici but not begun: only the end of the connection takes it back.
    else if (this.#controller === null) this.#connection.dialled.socket.destroy();
    this.#end();
    this.#controller?.abort(fault);
    // Never a clean end for a broken transfer: the client must see it cut (docs/invariants.md).
    if (!answerable) cut(this.#req, this.#res);
    this.#owner.onFault(fault, this.#record, answerable);
  }

  /** From here on nothing more is told to anyone. */
  #end(): void {
    this.#ended = true;
    this.#record.bytesSent = this.#body?.bytes ?? 0;
    this.#res.off('close', onClientClose);
    this.#res.off('drain', onClientDrain);
    this.#res.off('timeout', onClientStall);
    this.#res[kExchange] = undefined;
    this.#releaseSoon();
  }

  /** The parser decides after its callback whether the socket can be used again. */
  #releaseSoon(): void {
    const connection = this.#connection;
    if (connection === null) return;
    this.#connection = null;
    process.nextTick(release, this.#plan.pool, connection);
  }
}

/**
 * RFC 9112 §6.3: for an HTTP/1.0 client the close is the end, so only a reset shows that this is none.
 */
function cut(req: IncomingMessage, res: ServerResponse): void {
  if (req.httpVersion === '1.0' && res.socket !== null) resetSocket(res.socket);
  res.destroy();
}

function sendHead(exchange: Exchange): void {
  exchange.sendHead();
}

function release(pool: UpstreamPool, connection: PooledConnection): void {
  pool.release(connection);
}
