/**
 * A client's connection, from accept to close: the one owner of its socket. It
 * reads one request at a time, and the next one only when the answer has been
 * sent; it writes the answers; errors do not spread beyond it. Its clock is
 * connection-clock.ts.
 *
 * Longer than 400 lines: a connection is one state machine; reading, answering
 * and closing are its transitions.
 */
import type { Socket } from 'node:net';
import { isDeepStrictEqual } from 'node:util';
import type { Config, ListenerConfig } from '../config/config.ts';
import { Fault } from '../errors.ts';
import { BodyReader, NO_CONTENT } from '../http1/body-reader.ts';
import type { RawFields } from '../http1/fields.ts';
import { HeadReader, MessageError, type MessageFlaw } from '../http1/head-reader.ts';
import { headText, MessageWriter } from '../http1/message-writer.ts';
import { readRequestHead, type RequestHead } from '../http1/request-head.ts';
import type { ResponseHead } from '../http1/response-head.ts';
import { STATUS_CODES } from '../lean-imports.ts';
import type { Proof } from '../policy/verdict.ts';
import type { ExchangeClient } from '../relay/exchange.ts';
import type { UpstreamPool } from '../relay/pool.ts';
import { noteUnder, resetSocket } from '../relay/failed-writes.ts';
import { keepBytes, receiveDirectly, receiveNoMore } from '../relay/node-internals.ts';
import type { UpstreamConnection } from '../relay/upstream-connection.ts';
import type { ConnectionClock, Watched } from './connection-clock.ts';
import { type ClientPeer, peerOf } from './trusted-peers.ts';
import { recogniseMistake } from './wrong-protocol.ts';

/** How a request is served on a connection, until it is answered. */
export interface RequestUnderWay {
  readonly stamp: number;
  readonly patience: number;
  readonly due: number;
  /** Some content, valid during the call. */
  content(content: Buffer): void;
  contentEnd(trailers: RawFields): void;
  /** The client can take more content. */
  drained(): void;
  /** The client has ended its direction. @returns whether the request continues */
  clientEnded(): boolean;
  /** The connection is gone. */
  clientClosed(): void;
  /** The content is malformed: the start of the next request is unknown. */
  broke(fault: Fault): void;
  stalled(): void;
  /** `due` has come. */
  onDue(now: number): void;
  /** The connection's authorisation has been revoked. @returns whether that closed a tunnel */
  revoked(fault: Fault): boolean;
  /** Our code threw. Ends the request, and answers if that is still possible. */
  crashed(fault: Fault): void;
}

/** What a client connection gets from its listener. The configuration is read for each request, so a reload applies to open connections too. */
export interface ConnectionOptions {
  readonly listener: Pick<ListenerConfig, 'forms' | 'proxyProtocol'>;
  readonly environment: { readonly config: ConnectionTerms };
  readonly clock: ConnectionClock;
  /** A request's header section is complete. It is answered, or becomes a tunnel. */
  readonly onRequest: (connection: ClientConnection, head: RequestHead) => void;
  /** The bytes are not a request. Logs and counts it, and returns the answer to send. */
  readonly refusalFor: (connection: ClientConnection, fault: Fault) => string;
  /** The client has gone in the middle of `what`, which was to become a request. Logs and counts it. */
  readonly onLeft: (connection: ClientConnection, what: string) => void;
  /** Our code threw on behalf of this connection, and of `request`, which reports its own end. */
  readonly onCrash: (connection: Pick<ClientConnection, 'peer' | 'selfTest'>, error: unknown, request: RequestUnderWay | null) => void;
}

/** What a reload may change. */
export interface ConnectionTerms {
  readonly limits: Pick<Config['limits'], 'headerBytes' | 'headerFields'>;
  readonly timeouts: Pick<Config['timeouts'], 'requestHeaders' | 'keepAlive' | 'body'>;
}

/**
 * - `opening`: the protocol is not known yet (PROXY header, TLS); the code that detects it has the
 *   socket.
 * - `silent`: HTTP, and no byte has come yet.
 * - `head`: a header section is incomplete.
 * - `busy`: a request is being served; its content may still be coming.
 * - `discarding`: it has been answered before its content was complete.
 * - `flushing`: it has been answered, and the client has not read most of the
 *   answer yet.
 * - `idle`: between requests.
 * - `lingering`: the last answer has been written; further bytes are discarded.
 * - `detached`: the socket carries a tunnel, or is about to.
 */
type Stage = 'opening' | 'silent' | 'head' | 'busy' | 'discarding' | 'flushing' | 'idle' | 'lingering' | 'detached' | 'closed';

/** How long a client that has its last answer may take to close, or to finish discarded content, ms. */
export const LINGER = 5_000;
/** A client may read its answer only after all of its upload: as long as that goes on, it may take so many times as long. */
const MOST_LINGERS = 6;
/** Less than this in that time is not an upload, bytes. */
const LEAST_UPLOAD = 16_384;
/** How many of the client's first bytes are kept: enough to recognise the protocol. */
const FIRST_BYTES = 16;
const NONE_YET = Buffer.alloc(0);
const REASON_PHRASE = /^[\t\x20-\x7e\x80-\xff]+$/;

const FLAWS = {
  malformed: 'request-malformed',
  framing: 'framing-forbidden',
  'too-large': 'headers-too-large',
  'target-too-long': 'target-too-long',
} as const satisfies Record<MessageFlaw, string>;

/** An upstream connection that was authenticated, and for whom. */
interface Pin {
  readonly identity: object;
  readonly connection: UpstreamConnection;
}

const kConnection = Symbol('client connection');
type Connected = Socket & { [kConnection]?: ClientConnection | undefined };

// One function each for all connections: nothing is bound or closed over per connection.
function onData(this: Connected, chunk: Buffer): void {
  this[kConnection]?.received(chunk);
}
function onEnd(this: Connected): void {
  this[kConnection]?.ended();
}
function onDrain(this: Connected): void {
  this[kConnection]?.drained();
}
function onClose(this: Connected): void {
  this[kConnection]?.closed();
}
/** 'close' follows. What the proxy closes itself has no error. */
function onError(this: Connected): void {
  this[kConnection]?.failed();
}

function goOn(connection: ClientConnection): void {
  connection.goOn();
}

/** One client connection, with the request that is being served on it. It owns the socket and closes it, unless a tunnel has taken it over. */
export class ClientConnection implements ExchangeClient, Watched {
  /** Forms of request that its listener accepts. */
  readonly forms: ListenerConfig['forms'];
  /** Plain, or TLS once that has been established. */
  socket: Socket;
  /** The client's address: from a PROXY header, or else the peer of the TCP connection. */
  peer: ClientPeer;
  /** Why no request on it can be served; each is refused with this. */
  fault: Fault | null = null;
  /** When the client's certificate expires: no request is served afterwards. Null: there is none. */
  proof: Proof | null = null;
  /** Length of its PROXY header, bytes; 0: there was none. */
  proxyHeaderLength = 0;
  /** Its PROXY header says that the peer opened it for itself (LOCAL, UNKNOWN): a health check. */
  isOfPeer = false;
  /** The address whose share of the connections it takes; null: none's. */
  countedAs: string | null = null;
  /** TLS is terminated here. */
  secure = false;
  /** The peer is the self-test of this process. */
  selfTest = false;
  /** It was let in during an overload: what it asks first is not refused for that again. */
  letIn = false;
  request: RequestUnderWay | null = null;
  /** When what it sends now has begun: the connection, or a header section. By `performance.now()`, ms. */
  since = performance.now();
  /** Called once, when it has closed. */
  onClosed: () => void = () => {};
  seen = 0;
  seenAt = 0;
  readonly #options: ConnectionOptions;
  readonly #raw: Socket;
  #stage: Stage = 'opening';
  #stamp = 0;
  #heads: HeadReader | null = null;
  #body: BodyReader | null = null;
  #writer: MessageWriter;
  #head: RequestHead | null = null;
  /** Bytes read beyond the current request. */
  #rest: Buffer | null = null;
  /** The first bytes, as long as they are needed to recognise the protocol. */
  #first: Buffer | null = NONE_YET;
  #last = false;
  /** The request's owner wants no content for now. */
  #paused = false;
  /** Bytes that have come behind the answer, since it was sent or the clock last looked, and how often it has looked. */
  #discarded = 0;
  #lingers = 0;
  #goingOn = false;
  #pins: Map<UpstreamPool, Pin> | null = null;

  constructor(socket: Socket, options: ConnectionOptions) {
    this.socket = socket;
    this.#raw = socket;
    this.forms = options.listener.forms;
    this.#options = options;
    // Now: after a reset the address is no longer available.
    this.peer = peerOf(socket);
    this.#writer = new MessageWriter(socket);
    (socket as Connected)[kConnection] = this;
    socket.on('error', onError).on('close', onClose);
    options.clock.watch(this);
  }

  /** Of the latest request. */
  get httpVersion(): string {
    return this.#head?.version ?? '1.1';
  }

  // --- reading

  /** It is used for HTTP from here on. */
  serve(): void {
    const { limits } = this.#options.environment.config;
    this.#heads = new HeadReader({ limit: limits.headerBytes, lenient: false, startLine: true });
    this.#enter('silent');
    receiveDirectly(this.socket, onData);
    this.socket.on('end', onEnd).on('drain', onDrain);
    if (this.socket.isPaused()) this.socket.resume();
  }

  /** TLS has been established on it: requests arrive by `socket` now. */
  secured(socket: Socket, sans: readonly string[]): void {
    this.socket = socket;
    this.secure = true;
    this.peer = { ...this.peer, sans };
    noteUnder(socket, this.#raw);
    this.#writer = new MessageWriter(socket, true);
    (socket as Connected)[kConnection] = this;
    socket.on('error', onError).on('close', onClose);
  }

  /** The socket has read some bytes, valid during the call. */
  received(chunk: Buffer): void {
    try {
      if (this.#stage === 'silent' || this.#stage === 'idle') this.since = performance.now();
      if (this.#first !== null) this.#look(this.#first, chunk);
      if (this.#stage === 'lingering') this.#discarded += chunk.length;
      else this.#read(chunk, 0);
    } catch (error) {
      if (error instanceof MessageError) this.#onMessageError(error);
      else this.crash(error);
    }
  }

  /** The client has ended its direction: in the middle of an exchange that means that it has gone (docs/http.md). */
  ended(): void {
    try {
      if (this.#stage === 'busy' && this.request?.clientEnded() === true) return;
      if (this.#stage === 'head') this.left('a request');
      this.#close();
    } catch (error) {
      this.crash(error);
    }
  }

  /** The client has reset the connection. */
  failed(): void {
    if (this.#stage === 'head') this.left('a request');
  }

  /** The client has gone before there was a request. @param what it had begun to send */
  left(what: string): void {
    // Once: TLS and the connection under it both report it.
    this.#enter('lingering');
    this.guard(() => {
      this.#options.onLeft(this, what);
    });
  }

  /** The socket can take more again. */
  drained(): void {
    try {
      this.#stamp += 1;
      if (this.#stage === 'busy') this.request?.drained();
      else if (this.#stage === 'flushing') this.#next();
    } catch (error) {
      this.crash(error);
    }
  }

  /** The socket has closed; ends the request that was being served. */
  closed(): void {
    if (this.#stage === 'closed') return;
    this.#stage = 'closed';
    this.#options.clock.forget(this);
    this.#rest = null;
    this.#heads = null;
    try {
      this.onClosed();
      if (this.#pins !== null) for (const [pool, { connection }] of this.#pins) release(pool, connection);
      this.#raw.destroy();
      this.request?.clientClosed();
    } catch (error) {
      this.crash(error);
    }
  }

  /** Reads on after an answer: in a turn of its own, so no client blocks the event loop. */
  goOn(): void {
    this.#goingOn = false;
    const rest = this.#rest;
    this.#rest = null;
    if (this.#stage === 'closed' || this.#stage === 'lingering') return;
    if (rest !== null) this.received(rest);
    this.#readOn();
  }

  #read(chunk: Buffer, start: number): void {
    let at = start;
    while (at < chunk.length) {
      switch (this.#stage) {
        case 'silent':
        case 'idle':
          if (at > start) {
            // One has been answered: the next is read in a turn of its own.
            this.#hold(chunk, at);
            this.#goOnLater();
            return;
          }
          at = this.#readHead(chunk, at);
          break;
        case 'head':
          at = this.#readHead(chunk, at);
          break;
        case 'busy':
        case 'discarding':
          // Content that is not wanted yet is kept as it came, after the request, which may still be being decided.
          if (this.#body === null || this.#body.done || this.#paused) {
            this.#hold(chunk, at);
            return;
          }
          at = this.#readContent(this.#body, chunk, at);
          break;
        case 'flushing':
        case 'detached':
          this.#hold(chunk, at);
          return;
        default:
          return;
      }
    }
  }

  /** @returns the position of what follows the header section; the end of the chunk if nothing more is to be read of it */
  #readHead(chunk: Buffer, at: number): number {
    const section = this.#heads?.read(chunk, at) ?? null;
    if (section !== null) return this.#begin(section.text, chunk, section.next) === 'held' ? chunk.length : section.next;
    // Empty lines begin no request: for the clock, the client has sent nothing.
    if (this.#stage !== 'head' && this.#heads?.begun === true) this.#enter('head');
    return chunk.length;
  }

  /** A client that speaks another protocol is answered at its first bytes. */
  #look(before: Buffer, chunk: Buffer): void {
    const first = before.length === 0 ? chunk : Buffer.concat([before, chunk]);
    this.#first = first.length >= FIRST_BYTES ? null : Buffer.from(first);
    const mistake = recogniseMistake(first, this, this.#options.listener.proxyProtocol);
    if (mistake !== null) this.refuse(mistake);
  }

  #begin(text: string, chunk: Buffer, at: number): 'held' | 'begun' {
    const { limits } = this.#options.environment.config;
    const head = readRequestHead(text, limits.headerFields);
    this.#first = null;
    this.#head = head;
    this.#paused = false;
    this.#enter('busy');
    if (head.framing === NO_CONTENT) this.#body = null;
    else {
      this.#body ??= new BodyReader({ trailerBytes: limits.headerBytes, trailerFields: limits.headerFields, lenient: false });
      this.#body.begin(head.framing);
    }
    if (!head.keepAlive) this.#last = true;
    // What follows may be another protocol's: it waits for verdict and dial (CVE-2025-64763).
    const leaves = this.#leavesHttp(head);
    if (leaves) this.#hold(chunk, at);
    this.#options.onRequest(this, head);
    return leaves ? 'held' : 'begun';
  }

  #readContent(body: BodyReader, chunk: Buffer, at: number): number {
    const next = body.read(chunk, at, this.#onContent);
    if (body.done) this.#contentDone(body.trailers);
    return next;
  }

  readonly #onContent = (content: Buffer): void => {
    if (this.#stage === 'busy') this.request?.content(content);
    else this.#discarded += content.length;
  };

  #contentDone(trailers: RawFields): void {
    this.#stamp += 1;
    if (this.#stage === 'discarding') this.#next();
    else this.request?.contentEnd(trailers);
  }

  /** Keeps bytes beyond the current request, and stops reading: they may be served a turn later. */
  #hold(chunk: Buffer, at: number): void {
    if (at >= chunk.length) return;
    const rest = keepBytes(at === 0 ? chunk : chunk.subarray(at));
    this.#rest = this.#rest === null ? rest : Buffer.concat([this.#rest, rest]);
    this.socket.pause();
  }

  #onMessageError(error: MessageError): void {
    const fault = new Fault(FLAWS[error.flaw], error.message, { cause: error });
    try {
      this.#last = true;
      if (this.#stage === 'busy' && this.request !== null) {
        this.request.broke(fault);
        // The start of the next request is unknown: the answer is the last, and one that has begun is cut.
        if (this.#is('discarding')) this.#linger();
      } else if (this.#stage === 'discarding') this.#linger();
      else this.refuse(fault);
    } catch (crash) {
      this.crash(crash);
    }
  }

  // --- answering

  /** Answers where no request is being served, and closes. */
  refuse(fault: Fault): void {
    if (this.#stage === 'closed' || this.#stage === 'lingering') return;
    this.#enter('lingering');
    this.socket.write(this.#options.refusalFor(this, fault));
    this.#linger();
  }

  /** Closes, after these last bytes; null: there are none. */
  endWith(lastWords: Buffer | null): void {
    if (lastWords === null) {
      this.destroy();
      return;
    }
    this.socket.write(lastWords);
    this.#linger();
  }

  inform(status: number, fields: RawFields): boolean {
    this.#writer.flush();
    return (
      this.socket.write(headText(`HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}`, fields), 'latin1') || this.socket.writableLength === 0
    );
  }

  respond(head: ResponseHead, fields: RawFields): void {
    this.#stamp += 1;
    const { kind } = head.framing;
    const open = kind === 'chunked' || kind === 'close';
    const chunked = open && this.httpVersion !== '1.0';
    // RFC 9112 §6.3: for an HTTP/1.0 client the close is the end.
    if (open && !chunked) this.#last = true;
    // The partner does not want the content. Whether that comes, or the next request instead, is unknown: some
    // clients stop an upload that has been refused, and none sends it after a final answer instead of 100.
    if (this.#body?.done === false && (head.status >= 300 || this.#head?.expect !== '')) this.#last = true;
    this.#writer.begin(
      headText(statusLine(head), fields, `${chunked ? 'Transfer-Encoding: chunked\r\n' : ''}${this.#connectionField()}`),
      chunked,
    );
  }

  write(content: Buffer): boolean {
    return this.#writer.write(content);
  }

  complete(trailers: RawFields): void {
    this.#writer.end(trailers);
    this.#afterAnswer();
  }

  /** A whole answer of the proxy; its Content-Length is in `fields`. */
  answer(status: number, reason: string, fields: RawFields, body: Buffer): void {
    const head = Buffer.from(headText(`HTTP/1.1 ${status} ${reason}`, fields, this.#connectionField()), 'latin1');
    this.socket.write(this.#head?.method === 'HEAD' ? head : Buffer.concat([head, body]));
    this.#afterAnswer();
  }

  /** The same in one write, for answers that must be cheap. @param head without the field that says whether the connection is kept, and without the empty line; Latin-1, like the body */
  answerText(head: string, body: string): void {
    this.socket.write(`${head}${this.#connectionField()}\r\n${this.#head?.method === 'HEAD' ? '' : body}`, 'latin1');
    this.#afterAnswer();
  }

  /** This answer is the last on the connection, even if its header section said otherwise. */
  closeAfter(): void {
    this.#last = true;
  }

  /** The client sees that the answer was cut: a reset, because many take a plain end for the end of the content, whatever its length was to be. */
  cut(): void {
    this.#writer.flush();
    resetSocket(this.socket);
    this.destroy();
  }

  pause(): void {
    this.#paused = true;
    this.socket.pause();
  }

  resume(): void {
    this.#paused = false;
    // Some of the content has been read already.
    if (this.#rest !== null && this.#body?.done === false) this.#goOnLater();
    else this.#readOn();
  }

  /** Unless bytes already read must wait, or content is not wanted. */
  #readOn(): void {
    if (this.#rest === null && !this.#paused) this.socket.resume();
  }

  // --- connection-based authentication (RFC 4559 §6)

  pinned(pool: UpstreamPool, identity: object, loggingIn: boolean): UpstreamConnection | null {
    const pin = this.#pins?.get(pool);
    if (pin === undefined) return null;
    // A trusted peer sends requests of several clients on one connection.
    if (
      pin.connection.reusable &&
      !pin.connection.idleTooLong &&
      (loggingIn || !pin.connection.isOld) &&
      isDeepStrictEqual(pin.identity, identity)
    )
      return pin.connection;
    this.#pins?.delete(pool);
    release(pool, pin.connection);
    return null;
  }

  pin(pool: UpstreamPool, identity: object, connection: UpstreamConnection): void {
    this.#pins ??= new Map();
    // Reloads replace pools.
    for (const [before, { connection: pinned }] of this.#pins) if (!pinned.open) this.#pins.delete(before);
    this.#pins.set(pool, { identity, connection });
  }

  // --- leaving HTTP

  /**
   * The socket carries a tunnel from here on. The caller reads and writes it;
   * its close is still handled here.
   * @returns bytes already read from it; null: none
   */
  detach(): Buffer | null {
    const rest = this.#rest;
    this.#rest = null;
    this.#enter('detached');
    this.socket.pause();
    receiveNoMore(this.socket, onData);
    this.socket.off('end', onEnd).off('drain', onDrain);
    return rest;
  }

  /** Its authorisation has been revoked: tunnels end, and no more requests are served. @returns whether that closed a tunnel */
  revoke(fault: Fault): boolean {
    this.fault = fault;
    const cut = this.request?.revoked(fault) === true;
    if (this.#stage === 'idle' || this.#stage === 'silent') this.closeWhenIdle();
    return cut;
  }

  /** No more requests: closes now if none is being served, else after the answer. */
  closeWhenIdle(): void {
    this.#last = true;
    if (this.#stage === 'opening' || this.#stage === 'silent' || (this.#stage === 'idle' && this.#rest === null)) this.#close();
  }

  /** Runs code for this connection; an error ends this connection only. */
  guard(step: () => void): void {
    try {
      step();
    } catch (error) {
      this.crash(error);
    }
  }

  /** Ends it now, because our code threw on its behalf. */
  crash(error: unknown): void {
    const { request } = this;
    this.request = null;
    try {
      this.#options.onCrash(this, error, request);
      request?.crashed(Fault.from(error));
    } finally {
      if (this.#stage === 'lingering' || this.#stage === 'discarding') this.#linger();
      else this.destroy();
    }
  }

  destroy(): void {
    // As in `cut`: some of the content will be missing.
    if (this.socket.writableLength > 0) resetSocket(this.socket);
    this.socket.destroy();
    this.#raw.destroy();
  }

  // --- the clock

  get stamp(): number {
    const flowing = this.#stage === 'flushing' || this.#stage === 'lingering' ? this.socket.bytesWritten - this.socket.writableLength : 0;
    return this.#stamp + flowing + (this.request?.stamp ?? 0);
  }

  get patience(): number {
    const { timeouts } = this.#options.environment.config;
    switch (this.#stage) {
      case 'silent':
      case 'head':
        return timeouts.requestHeaders;
      case 'idle':
        return timeouts.keepAlive;
      case 'busy':
        return this.request?.patience ?? Infinity;
      case 'flushing':
        return timeouts.body;
      case 'discarding':
        return LINGER;
      case 'lingering':
        return this.socket.writableLength > 0 ? timeouts.body : LINGER;
      case 'detached':
        return this.request?.patience ?? Infinity;
      case 'opening':
      case 'closed':
        return Infinity;
    }
  }

  get due(): number {
    return this.request?.due ?? Infinity;
  }

  onStalled(): void {
    try {
      if (this.#stage === 'busy' || this.#stage === 'detached') this.request?.stalled();
      else if (this.#stage === 'head') this.refuse(new Fault('request-timeout', 'the request headers did not arrive in time'));
      else if (this.#stage === 'idle') this.#close();
      else if (!this.#stillUploads()) this.destroy();
    } catch (error) {
      this.crash(error);
    }
  }

  #stillUploads(): boolean {
    const enough = this.#discarded >= LEAST_UPLOAD;
    this.#discarded = 0;
    this.#lingers += 1;
    return enough && this.#lingers < MOST_LINGERS;
  }

  onDue(now: number): void {
    try {
      this.request?.onDue(now);
    } catch (error) {
      this.crash(error);
    }
  }

  #leavesHttp({ method, upgrade, framing }: RequestHead): boolean {
    return method === 'CONNECT' || (upgrade !== '' && framing === NO_CONTENT);
  }

  #connectionField(): string {
    // It is not another protocol after all: whether the early bytes were meant for it is unknown.
    if (this.#rest !== null && this.#head !== null && this.#leavesHttp(this.#head)) this.#last = true;
    return this.#last
      ? 'Connection: close\r\n'
      : `Connection: keep-alive\r\nKeep-Alive: timeout=${Math.floor(this.#options.environment.config.timeouts.keepAlive / 1000)}\r\n`;
  }

  #afterAnswer(): void {
    if (this.#last && this.#body?.done !== false) this.#linger();
    else if (this.#body?.done === false) this.#discard();
    else this.#next();
  }

  /** Unwanted content is still read: closing with unread bytes would cost the client its answer. */
  #discard(): void {
    this.#enter('discarding');
    if (this.#last) this.#linger();
    else this.resume();
  }

  /** The answer has been sent: the next request follows, unless the client has yet to read most of it. */
  #next(): void {
    // A client that has ended its direction can send no other request.
    if (this.#last || this.socket.readableEnded) {
      this.#linger();
      return;
    }
    this.#discarded = 0;
    this.#lingers = 0;
    if (this.socket.writableNeedDrain) {
      this.#enter('flushing');
      return;
    }
    this.#head = null;
    this.#paused = false;
    this.#enter('idle');
    if (this.#rest !== null || this.socket.isPaused()) this.#goOnLater();
  }

  #goOnLater(): void {
    if (this.#goingOn) return;
    this.#goingOn = true;
    setImmediate(goOn, this);
  }

  /** Closes once the last answer has been sent and the client has closed too, or after a while. */
  #linger(): void {
    if (this.#stage === 'closed') return;
    this.#enter('lingering');
    this.#rest = null;
    this.#paused = false;
    this.socket.end();
    this.socket.resume();
  }

  /** Closes once what is pending has been sent. */
  #close(): void {
    if (this.socket.writableLength > 0) this.#linger();
    else this.destroy();
  }

  /** To be called after anything that may have changed it. */
  #is(stage: Stage): boolean {
    return this.#stage === stage;
  }

  #enter(stage: Stage): void {
    this.#stage = stage;
    // A change for the clock in any case: the stamp of a request that has ended is missing from the sum.
    this.seen = NaN;
  }
}

function release(pool: UpstreamPool, connection: UpstreamConnection): void {
  connection.destroy();
  pool.release(connection);
}

/** The upstream's reason phrase where it can be forwarded, otherwise the standard one. */
function statusLine({ status, reason }: ResponseHead): string {
  return `HTTP/1.1 ${status} ${REASON_PHRASE.test(reason) ? reason : (STATUS_CODES[status] ?? '')}`;
}
