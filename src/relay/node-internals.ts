/**
 * Everything undocumented that we use of Node. Each has its own test
 * (test/relay/node-internals.test.ts): a Node that changes one of them fails
 * there.
 */
import { Socket } from 'node:net';
import { Duplex } from 'node:stream';

/** Reports the result of a write to the stream. Call it once. */
export type WriteDone = (error?: Error | null) => void;
/** Called with the result of a write of `socket`; the stream gets it when `done` is called, which may be later. */
export type SettleWrite = (socket: Duplex, error: Error | null | undefined, done: WriteDone) => void;

const [kDone, kWritten] = [Symbol('end of the write in progress'), Symbol('told of the end of each write')];
type Intercepted = Duplex & { [kDone]?: WriteDone; [kWritten]?: WriteDone };

/**
 * Every write of a connected socket, plain or TLS, ends through `settle`. Node
 * documents `_write` and `_writev` for authors of streams, not for its own
 * sockets.
 */
export function interceptWrites(socket: Duplex, settle: SettleWrite): void {
  const intercepted = socket as Intercepted;
  // A stream writes one thing at a time, so one function serves all of its writes.
  intercepted[kWritten] = (error) => {
    const done = intercepted[kDone];
    if (done !== undefined) settle(socket, error, done);
  };
  socket._write = writeAndSettle;
  if (socket._writev !== undefined) socket._writev = writevAndSettle;
}

// One function each for all sockets.
function writeAndSettle(this: Intercepted, chunk: unknown, encoding: BufferEncoding, done: WriteDone): void {
  this[kDone] = done;
  (Object.getPrototypeOf(this) as Duplex)._write.call(this, chunk, encoding, this[kWritten] ?? done);
}
function writevAndSettle(this: Intercepted, chunks: Parameters<NonNullable<Duplex['_writev']>>[0], done: WriteDone): void {
  this[kDone] = done;
  (Object.getPrototypeOf(this) as Duplex)._writev?.call(this, chunks, this[kWritten] ?? done);
}

/** Node reads at most this much at a time. */
const READ_SIZE = 65_536;
/** For all sockets: bytes read into it are copied at once, before the next read. */
export const readBuffer = Buffer.allocUnsafeSlow(READ_SIZE);

/** The receiver of a socket's reads, as `onread` of `net.connect`. */
export interface OnRead {
  /** Returns the buffer for the next read; called after each read. */
  readonly buffer: () => Buffer;
  /** Takes the bytes read. @returns false to stop reading until `resume` */
  readonly callback: (length: number, buffer: Buffer) => boolean;
}

interface StreamMethods {
  pause: () => void;
  resume: () => void;
  read: (size?: number) => unknown;
}
const kReceive = Symbol('takes what is read');
type Reading = Omit<Socket, keyof StreamMethods> &
  StreamMethods & { _handle?: { useUserBuffer(buffer: Buffer): void; reading?: boolean } | null; [key: symbol]: unknown };
/** The keys under which a net.Socket keeps its `onread`. */
interface ReadKeys {
  readonly buffer: symbol;
  readonly callback: symbol;
  /** Key of the function that returns the next buffer. */
  readonly generator: symbol;
}
let readKeys: ReadKeys | null = null;

/**
 * Makes a plain socket read into the shared buffer, as if `onread` had been set
 * from the start; it emits the same events. By default Node 26 reads into a
 * block of 64 KiB, of which TLS sockets take pieces: a plain read needs the
 * whole block, so Node allocates a new one whenever a TLS socket has read
 * since. With plain clients and a partner over TLS that is nearly once per
 * request, and the garbage collector runs all the time (docs/performance.md).
 *
 * Does nothing for TLS, and for sockets that already read into a buffer.
 */
export function shareReads(socket: Duplex): void {
  if (socket.constructor === Socket) readIntoShared(socket);
}

/** @returns the keys of the socket, or null where Node's default applies: not connected, or a Node without them */
function readIntoShared(socket: Duplex): ReadKeys | null {
  const reading = socket as unknown as Reading;
  const handle = reading._handle;
  if (typeof handle?.useUserBuffer !== 'function') return null;
  readKeys ??= findReadKeys(reading);
  if (readKeys === null) return null;
  if (reading[readKeys.buffer] === null) {
    reading[readKeys.buffer] = readBuffer;
    reading[readKeys.callback] = pushRead;
    // With a buffer, net.Socket stops reading at once when it is paused, and does not notice a reset by the peer.
    setMethods(reading, Duplex.prototype);
    handle.useUserBuffer(readBuffer);
  }
  return readKeys;
}

/** Takes a socket's bytes, valid during the call only: `keepBytes` copies those that are needed longer. */
export type Receive = (this: Socket, bytes: Buffer) => void;

/**
 * Calls `receive` with the bytes that a socket reads, plain or TLS, without an
 * allocation per read: from the shared buffer. Bytes read while it was paused
 * are emitted as 'data', to which the caller listens as well, with the same
 * function; so is everything where Node has no such buffer.
 */
export function receiveDirectly(socket: Socket, receive: Receive): void {
  socket.on('data', receive);
  const keys = readIntoShared(socket);
  if (keys === null) return;
  const reading = socket as unknown as Reading;
  reading[kReceive] = receive;
  reading[keys.callback] = receiveRead;
}

/** From here on the socket emits everything that it reads as 'data'; the previous `receive` is not called any more. */
export function receiveNoMore(socket: Socket, receive: Receive): void {
  socket.off('data', receive);
  const reading = socket as unknown as Reading;
  if (reading[kReceive] === undefined || readKeys === null) return;
  reading[kReceive] = undefined;
  reading[readKeys.callback] = pushRead;
}

/** The same bytes, in memory that is not reused for reading. */
export function keepBytes(bytes: Buffer): Buffer {
  return bytes.buffer === readBuffer.buffer ? Buffer.from(bytes) : bytes;
}

/**
 * Makes a plain socket pass what it reads to `onRead` from here on, as if
 * `onread` had been set from the start: it emits only its end, no bytes. The
 * first read may still be in `readBuffer`. While it waits for `resume` it does
 * not notice a reset by the peer.
 * @returns false, and nothing has changed, where that is not possible: TLS, a side that has ended, bytes read and not
 * yet emitted
 */
export function takeReads(socket: Duplex, { buffer, callback }: OnRead): boolean {
  if (socket.destroyed || socket.readableEnded || socket.readableLength > 0 || socket.constructor !== Socket) return false;
  readIntoShared(socket);
  const reading = socket as unknown as Reading;
  if (readKeys === null || reading[readKeys.buffer] !== readBuffer) return false;
  reading[readKeys.callback] = callback;
  reading[readKeys.generator] = buffer;
  setMethods(reading, Socket.prototype);
  return true;
}

/** Whether it is: not while it is paused, nor while the receiver of its reads has yet to call `resume`. */
export function isBeingRead(socket: Duplex): boolean {
  return !socket.isPaused() && (socket as unknown as Reading)._handle?.reading !== false;
}

/** net.Socket has its own method because of `onread`. Assigned, because deleting the key would make the socket slow. */
function setMethods(reading: Reading, { pause, resume, read }: StreamMethods): void {
  reading.pause = pause;
  reading.resume = resume;
  reading.read = read;
}

function findReadKeys(socket: Reading): ReadKeys | null {
  const keyOf = (description: string): symbol | undefined =>
    Object.getOwnPropertySymbols(socket).find((key) => key.description === description);
  const [buffer, callback, generator] = [keyOf('kBuffer'), keyOf('kBufferCb'), keyOf('kBufferGen')];
  return buffer === undefined || callback === undefined || generator === undefined ? null : { buffer, callback, generator };
}

/** Reads up to this length, bytes, are copied into a shared block: an allocation for each would cost more than the copy. */
const SMALL_READ = 1024;
/** However long a few bytes are kept, they keep at most this many bytes in memory. */
const PIECE = 8192;
let piece = Buffer.allocUnsafeSlow(PIECE);
let taken = 0;

function takeMemory(length: number): Buffer {
  if (length > SMALL_READ) return Buffer.allocUnsafeSlow(length);
  if (taken + length > PIECE) {
    piece = Buffer.allocUnsafeSlow(PIECE);
    taken = 0;
  }
  taken += length;
  return piece.subarray(taken - length, taken);
}

/** What the system reported as readable at once: bytes that are read as part of it had come before all that is done with the first. */
export type Batch = { readonly turn: NodeJS.Immediate; readonly events: number } | null;

/** Set while a turn of the event loop reads. */
let turn: NodeJS.Immediate | null = null;
const endTurn = (): void => {
  turn = null;
};

/** Null: nothing is being read. A turn with more than 1,024 events has several: they are counted behind each. */
export function currentBatch(): Batch {
  return turn === null ? null : { turn, events: performance.nodeTiming.uvMetricsInfo.events };
}

/** Whether it is still being read. */
export function isCurrent(batch: Batch): boolean {
  return batch !== null && batch.turn === turn && batch.events === currentBatch()?.events;
}

function receiveRead(this: Socket & { [kReceive]?: Receive }, length: number, buffer: Buffer): boolean {
  turn ??= setImmediate(endTurn);
  const receive = this[kReceive];
  // Behind bytes that wait, it waits too.
  if (receive === undefined || this.readableFlowing !== true || this.readableLength > 0) return pushRead.call(this, length, buffer);
  receive.call(this, buffer.subarray(0, length));
  return true;
}

function pushRead(this: Socket, length: number, buffer: Buffer): boolean {
  const bytes = takeMemory(length);
  buffer.copy(bytes, 0, 0, length);
  return this.push(bytes);
}
