/**
 * HTTP/1.1 towards an upstream on one dialled socket: writes one request at a
 * time and reads the response. RFC 9112 §9.3 alone decides whether the
 * connection can carry another exchange.
 */
import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import type { Dialled } from '../dial/dial.ts';
import { Fault } from '../errors.ts';
import { BodyReader, type Framing } from '../http1/body-reader.ts';
import type { RawFields } from '../http1/fields.ts';
import { HeadReader, MessageError } from '../http1/head-reader.ts';
import { MessageWriter } from '../http1/message-writer.ts';
import { readResponseHead, type ResponseHead } from '../http1/response-head.ts';
import { keepAlive, lostFault } from './reuse.ts';
import { readOnAfterFailedWrites } from './failed-writes.ts';
import { type Batch, currentBatch, isCurrent, keepBytes, receiveDirectly, receiveNoMore } from './node-internals.ts';

/** Bounds of a pooled connection and of the responses on it. */
export interface UpstreamConnectionOptions {
  /** How long an idle connection is kept, ms. */
  readonly keepAlive: number;
  /** Maximum age of a connection on which an exchange may begin, ms. */
  readonly age: number;
  /** Limit for the header section of a response, and for its trailer section, bytes. */
  readonly headerBytes: number;
  /** Limit for the number of fields of each. */
  readonly headerFields: number;
}

/** The exchange on the connection. An error thrown here ends the exchange (`onCrash`), never the process. */
export interface ResponseHandler {
  /** 1xx except 101. */
  onInformational(head: ResponseHead): void;
  onHead(head: ResponseHead): void;
  /** Some content, valid during the call. */
  onContent(content: Buffer): void;
  /** The response is complete. The connection may be released, and used again if it is `reusable`. */
  onEnd(trailers: RawFields): void;
  /** 101: nothing more is read here; `detach` returns the socket. */
  onSwitch(head: ResponseHead): void;
  /** The upstream can take content again. */
  onDrain(): void;
  /** No response, or no end of it, will come. The connection is closed. */
  onBroken(fault: Fault): void;
  onCrash(error: unknown): void;
}

/** After a name's addresses have changed, older connections are not used indefinitely; nor do they all end at once. */
const AGE_SPREAD = 1 / 10;
/** How much earlier than the upstream's announced timeout we stop using a connection, ms. */
const HINT_MARGIN = 500;

const TOO_LARGE = { remedy: 'Ask the partner for fewer or shorter fields, or raise limits.headerBytes or limits.headerFields.' };
const kUpstreamConnection = Symbol('upstream connection');
type UpstreamSocket = Socket & { [kUpstreamConnection]?: UpstreamConnection | undefined };

// One function each for all connections: nothing is bound or closed over per connection.
function onServerData(this: UpstreamSocket, chunk: Buffer): void {
  this[kUpstreamConnection]?.received(chunk);
}
function onServerEnd(this: UpstreamSocket): void {
  this[kUpstreamConnection]?.ended();
}
function onServerError(this: UpstreamSocket, error: Error): void {
  const connection = this[kUpstreamConnection];
  if (connection !== undefined) connection.error ??= error;
}
function onServerClose(this: UpstreamSocket): void {
  this[kUpstreamConnection]?.closed();
}
function onServerDrain(this: UpstreamSocket): void {
  this[kUpstreamConnection]?.drained();
}

/** One connection to an upstream, for one exchange at a time. It owns the socket until `detach`. */
export class UpstreamConnection {
  readonly dialled: Dialled;
  /** Exchanges carried before the current one. */
  uses = 0;
  /** The client whose share of the pool it counts as, while it is active. */
  client = '';
  /** How long it may be idle, ms: as configured, or less where the upstream announces an earlier close (Keep-Alive: timeout). */
  keepFor: number;
  /** Connection-based authentication took place on it: it belongs to one client connection (RFC 4559 §6). */
  pinned = false;
  /** Of the socket; its close follows. */
  error: Error | null = null;
  /** It closed while no exchange used it. */
  onIdleClose: (() => void) | null = null;
  readonly #options: UpstreamConnectionOptions;
  readonly #socket: UpstreamSocket;
  readonly #heads: HeadReader;
  readonly #body: BodyReader;
  readonly #writer: MessageWriter;
  readonly #oldAt: number;
  /** When the current exchange got it, or the last one returned it; monotonic ms. */
  #changedAt = performance.now();
  /** How many exchanges the upstream allows on it (Keep-Alive: max). */
  #most = Infinity;
  readonly #onContent: (content: Buffer) => void;
  #handler: ResponseHandler | null = null;
  #method = '';
  /** From the final response, once it has come. */
  #head: ResponseHead | null = null;
  #requestDone = true;
  #reusable = true;
  /** The current exchange began in it: nothing of it can be the answer. */
  #begunIn: Batch = null;

  /** Owns the dialled socket from here on, until `detach`. */
  constructor(dialled: Dialled, options: UpstreamConnectionOptions) {
    this.dialled = dialled;
    this.#options = options;
    this.keepFor = options.keepAlive;
    this.#oldAt = performance.now() + options.age * (1 - Math.random() * AGE_SPREAD);
    const socket: UpstreamSocket = dialled.socket;
    this.#socket = socket;
    this.#heads = new HeadReader({ limit: options.headerBytes, lenient: true, startLine: true });
    this.#body = new BodyReader({ trailerBytes: options.headerBytes, trailerFields: options.headerFields, lenient: true });
    this.#writer = new MessageWriter(socket, socket instanceof TLSSocket);
    this.#onContent = (content) => this.#handler?.onContent(content);
    socket[kUpstreamConnection] = this;
    keepAlive(socket);
    readOnAfterFailedWrites(socket);
    receiveDirectly(socket, onServerData);
    socket.on('end', onServerEnd).on('error', onServerError).on('close', onServerClose).on('drain', onServerDrain);
  }

  /** The name may have other addresses since it was dialled. */
  get isOld(): boolean {
    return performance.now() >= this.#oldAt;
  }

  /** How long the current exchange has had it or, while it is idle, for how long it has been; ms. */
  get sinceChange(): number {
    return performance.now() - this.#changedAt;
  }

  /** It has been idle for so long that the upstream may just be closing it. */
  get idleTooLong(): boolean {
    return this.sinceChange >= this.keepFor;
  }

  /** The peer of our TCP connection, for `Proxy-Status`. */
  get nextHop(): string {
    const { address, port } = this.dialled.peer;
    return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
  }

  /** The socket has not been destroyed. */
  get open(): boolean {
    return !this.#socket.destroyed;
  }

  /** The exchange is over on both sides, and another one may follow (RFC 9112 §9.3). */
  get reusable(): boolean {
    return this.#reusable && this.#handler === null && this.open;
  }

  /** An exchange has got it from the pool. */
  noteTaken(): void {
    this.#changedAt = performance.now();
  }

  /** Its exchange is over. */
  noteUsed(): void {
    this.#changedAt = performance.now();
    this.uses += 1;
  }

  /**
   * Sends the header section of a request. Content, if any, follows by `write`, then `finish`.
   * @param head as for `MessageWriter.begin`
   */
  begin(handler: ResponseHandler, method: string, head: string, framing: Framing): void {
    this.#handler = handler;
    this.#method = method;
    this.#head = null;
    this.#requestDone = false;
    // On a new connection, an upstream may refuse before it has read anything.
    this.#begunIn = this.uses === 0 ? null : currentBatch();
    this.#writer.begin(head, framing.kind === 'chunked');
  }

  /** @returns false: the upstream does not keep up; `onDrain` follows */
  write(content: Buffer): boolean {
    return this.#writer.write(content);
  }

  /** The request is complete. */
  finish(trailers: RawFields): void {
    this.#requestDone = true;
    this.#writer.end(trailers);
  }

  /** Stops reading, while the receiver of the response does not keep up. */
  pause(): void {
    this.#socket.pause();
  }

  /** Reads on after `pause`. */
  resume(): void {
    this.#socket.resume();
  }

  /** The connection changes its protocol: the socket is the caller's, with bytes read beyond the header section put back. */
  detach(): Socket {
    const socket = this.#socket;
    socket[kUpstreamConnection] = undefined;
    socket.pause();
    receiveNoMore(socket, onServerData);
    socket.off('end', onServerEnd).off('error', onServerError).off('close', onServerClose).off('drain', onServerDrain);
    this.#handler = null;
    this.#reusable = false;
    return socket;
  }

  /** The exchange was abandoned: the rest of its response must not be taken for another's. */
  abandon(): void {
    this.#handler = null;
    this.#reusable = false;
    this.#socket.destroy();
  }

  /** Closes the socket now, unless it is another's since `detach`. */
  destroy(): void {
    if (this.#socket[kUpstreamConnection] === this) this.#socket.destroy();
  }

  // --- from the socket

  /** The socket has read some bytes, valid during the call. */
  received(chunk: Buffer): void {
    const handler = this.#handler;
    try {
      this.#read(chunk);
    } catch (error) {
      if (error instanceof MessageError)
        this.#break(
          new Fault('upstream-malformed', error.message, {
            cause: error,
            facts: error.status === null ? {} : { receivedStatus: error.status },
            ...(error.flaw === 'too-large' ? TOO_LARGE : {}),
          }),
        );
      else this.#crash(handler, error);
    }
  }

  /** The upstream has ended its direction. */
  ended(): void {
    const handler = this.#handler;
    try {
      // A reset is not an end, even where the end of the connection marks the end of the content.
      if (handler === null || this.#head === null || this.#failure !== null || !this.#body.end()) this.#break(this.#cut());
      else this.#complete();
    } catch (error) {
      this.#crash(handler, error);
    }
  }

  /** The socket has closed. */
  closed(): void {
    if (this.#handler !== null) this.#break(this.#cut());
    else this.onIdleClose?.();
  }

  /** The socket can take more again. */
  drained(): void {
    const handler = this.#handler;
    try {
      handler?.onDrain();
    } catch (error) {
      this.#crash(handler, error);
    }
  }

  #read(chunk: Buffer): void {
    let at = 0;
    while (at < chunk.length) {
      const handler = this.#handler;
      // Its meaning is unknown, so nothing after it can be trusted.
      if (handler === null || isCurrent(this.#begunIn))
        throw new MessageError('malformed', 'the upstream sent an answer before it had the request');
      if (this.#head === null) {
        const section = this.#heads.read(chunk, at);
        if (section === null) {
          // Another protocol would leave both sides waiting.
          if (this.#heads.begun) refuseOtherProtocol(this.#heads.bytes);
          return;
        }
        at = section.next;
        if (this.#readHead(handler, section.text) === 'switched') {
          if (at < chunk.length) this.dialled.socket.unshift(keepBytes(chunk.subarray(at)));
          return;
        }
      } else at = this.#body.read(chunk, at, this.#onContent);
      if (this.#head !== null && this.#body.done && this.#handler !== null) {
        if (at < chunk.length || this.#socket.readableLength > 0) this.#reusable = false;
        this.#complete();
        return;
      }
    }
  }

  #readHead(handler: ResponseHandler, text: string): 'switched' | 'read' {
    const head = readResponseHead(text, this.#method, this.#options.headerFields);
    if (head.status === 101) {
      // Before the handler is called: the new owner of the socket registers its own listeners there.
      this.#socket.pause();
      handler.onSwitch(head);
      return 'switched';
    }
    if (head.status < 200) {
      handler.onInformational(head);
      return 'read';
    }
    this.#head = head;
    this.#body.begin(head.framing);
    if (head.idleTimeout !== null) this.keepFor = Math.min(this.#options.keepAlive, Math.max(0, head.idleTimeout - HINT_MARGIN));
    // Some servers count down (Apache), others send the same number each time: the earlier close counts.
    if (head.mostExchanges !== null)
      this.#most = Math.min(this.#most, this.uses === 0 ? head.mostExchanges : this.uses + 1 + head.mostExchanges);
    if (!head.keepAlive || this.keepFor === 0 || this.uses + 1 >= this.#most) this.#reusable = false;
    handler.onHead(head);
    return 'read';
  }

  #complete(): void {
    const handler = this.#handler;
    if (handler === null) return;
    // The rest of the request would be taken for the beginning of the next one.
    if (!this.#requestDone) this.#reusable = false;
    this.#handler = null;
    // The receiver has all of it now: an idle connection must be read to notice its close, and a reused one to get the
    // answer.
    this.#socket.resume();
    handler.onEnd(this.#body.trailers);
  }

  #break(fault: Fault): void {
    const handler = this.#handler;
    this.abandon();
    try {
      handler?.onBroken(fault.with({ nextHop: this.nextHop }));
    } catch (error) {
      handler?.onCrash(error);
    }
  }

  /** @param handler of the exchange in which it was thrown; for this connection it may be over by now */
  #crash(handler: ResponseHandler | null, error: unknown): void {
    this.abandon();
    if (handler === null) throw error;
    handler.onCrash(error);
  }

  /** Why it has failed. TLS reports it by `error` alone, which comes too late for a write that met a reset. */
  get #failure(): Error | null {
    return this.error ?? this.#socket.errored;
  }

  #cut(): Fault {
    const error = this.#failure;
    // In TLS 1.3 the upstream checks our certificate after its own handshake is done, so its alert arrives here.
    if (error !== null && this.dialled.tlsFault !== undefined && (error as NodeJS.ErrnoException).code?.startsWith('ERR_SSL_') === true)
      return this.dialled.tlsFault(error);
    return (
      lostFault(error) ??
      new Fault(
        'upstream-cut',
        `the upstream closed the connection ${this.#head === null ? 'before it answered' : 'in the middle of the response'}`,
        error === null ? {} : { cause: error },
      )
    );
  }
}

const BEGINNING = Buffer.from('HTTP/1.');

function refuseOtherProtocol(bytes: Buffer): void {
  const length = Math.min(bytes.length, BEGINNING.length);
  if (!bytes.subarray(0, length).equals(BEGINNING.subarray(0, length)))
    throw new MessageError('malformed', 'the answer does not begin with an HTTP/1.1 status line');
}
