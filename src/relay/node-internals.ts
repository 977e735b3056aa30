/**
 * All that we use of Node without its documentation saying so. Each has a test
 * of its own (test/relay/node-internals.test.ts): a Node that changes one of
 * them fails there.
 */
import { Socket, type SocketConstructorOpts } from 'node:net';
import { Duplex } from 'node:stream';

/** What a net.Socket keeps under `_handle`, as far as it is touched here. */
interface Handle {
  reading?: boolean;
  readStop(): number;
}

/** As `onread` of `net.connect`, which Node offers for sockets that it connects. */
export interface OnRead {
  /** Asked for the buffer to read into: before the first read, and after each. */
  readonly buffer: () => Buffer;
  /** Takes what was read. @returns false to read no more until `resume` */
  readonly callback: (length: number, buffer: Buffer) => boolean;
}

/**
 * Puts a new socket, which reads with `onRead`, on the connection of `socket`.
 * That one can no longer be used, and neither closes the other: the caller
 * sees to both.
 * @returns null, and nothing has changed, where that is not possible: TLS, a side that has ended, bytes on their way
 */
export function rebuildSocket(socket: Duplex & { _handle?: unknown }, onRead: OnRead): Socket | null {
  if (!isAtRest(socket)) return null;
  const handle = socket._handle;
  if (handle === null) return null;
  handle.readStop();
  handle.reading = false;
  socket.setTimeout(0);
  socket._handle = null;
  // `handle` is an option that the type does not have.
  return new Socket({ handle, allowHalfOpen: true, onread: onRead } as unknown as SocketConstructorOpts);
}

function isAtRest(socket: Duplex & { _handle?: unknown }): socket is Socket & { _handle: Handle | null } {
  const { destroyed, readableEnded, readableLength, writableEnded, writableLength, _handle: handle } = socket;
  const open = !destroyed && !readableEnded && !writableEnded;
  return open && readableLength === 0 && writableLength === 0 && socket.constructor === Socket && typeof handle === 'object';
}

/** Tells a stream how its write went. Call it once. */
export type WriteDone = (error?: Error | null) => void;
/** Told how a write of `socket` went; the stream learns it when `done` is called, which may be later. */
export type SettleWrite = (socket: Duplex, error: Error | null | undefined, done: WriteDone) => void;

const kSettle = Symbol('settles writes');
type Intercepted = Duplex & { [kSettle]?: SettleWrite };

/**
 * Every write of a connected socket, plain or TLS, ends through `settle`. Node
 * documents `_write` and `_writev` for who makes a stream, not for a socket
 * that it made.
 */
export function interceptWrites(socket: Duplex, settle: SettleWrite): void {
  (socket as Intercepted)[kSettle] = settle;
  socket._write = writeAndSettle;
  if (socket._writev !== undefined) socket._writev = writevAndSettle;
}

// One function each for all sockets: nothing is bound per socket.
function writeAndSettle(this: Intercepted, chunk: unknown, encoding: BufferEncoding, done: WriteDone): void {
  (Object.getPrototypeOf(this) as Duplex)._write.call(this, chunk, encoding, (error) => this[kSettle]?.(this, error, done));
}
function writevAndSettle(this: Intercepted, chunks: Parameters<NonNullable<Duplex['_writev']>>[0], done: WriteDone): void {
  (Object.getPrototypeOf(this) as Duplex)._writev?.call(this, chunks, (error) => this[kSettle]?.(this, error, done));
}

/** Node reads at most this much at a time. */
const READ_SIZE = 65_536;
/** For all sockets: what is read into it is copied at once, before the next one reads. */
export const readBuffer = Buffer.allocUnsafeSlow(READ_SIZE);

interface StreamMethods {
  pause: () => void;
  resume: () => void;
  read: (size?: number) => unknown;
}
type Reading = Omit<Socket, keyof StreamMethods> & StreamMethods & { _handle?: { useUserBuffer(buffer: Buffer): void } | null; [key: symbol]: unknown };
/** The keys under which a net.Socket keeps buffer and callback of its `onread`. */
let readKeys: readonly [buffer: symbol, callback: symbol] | null = null;

/**
 * Has a plain socket read into the one buffer, as `onread` would from its
 * beginning on; what it emits is the same. By itself Node 26 reads into 64 KiB
 * of which TLS sockets take their pieces: each plain read needs them whole, so
 * it allocates them anew whenever a TLS socket has read since. With plain
 * clients and a partner over TLS that is once for nearly each request, and the
 * collector runs without a pause (docs/performance.md).
 *
 * Does nothing for TLS, and for what reads into a buffer already.
 */
export function shareReads(socket: Duplex): void {
  if (socket.constructor !== Socket) return;
  const reading = socket as unknown as Reading;
  const handle = reading._handle;
  if (handle === null || handle === undefined) return;
  readKeys ??= findReadKeys(reading);
  if (readKeys === null || reading[readKeys[0]] !== null) return;
  const [buffer, callback] = readKeys;
  reading[buffer] = readBuffer;
  reading[callback] = pushRead;
  // With a buffer, net.Socket stops reading at once when it is paused, and does not notice a reset by the other side.
  reading.pause = pause;
  reading.resume = resume;
  reading.read = read;
  handle.useUserBuffer(readBuffer);
}

/** Of every stream; net.Socket has its own for the sake of `onread`. */
const { pause, resume, read } = Duplex.prototype as StreamMethods;

function findReadKeys(socket: Reading): readonly [symbol, symbol] | null {
  const keyOf = (description: string): symbol | undefined => Object.getOwnPropertySymbols(socket).find((key) => key.description === description);
  const [buffer, callback] = [keyOf('kBuffer'), keyOf('kBufferCb')];
  return buffer === undefined || callback === undefined ? null : [buffer, callback];
}

/** Reads up to this length, bytes, get their memory from a piece that they share: an allocation for each would cost more than the copy. */
const SMALL_READ = 1024;
/** However long a few bytes are kept, they keep no more than this, bytes. */
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

function pushRead(this: Socket, length: number, buffer: Buffer): boolean {
  const bytes = takeMemory(length);
  buffer.copy(bytes, 0, 0, length);
  return this.push(bytes);
}
