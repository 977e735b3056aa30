/**
 * All that we use of Node without its documentation saying so. Each has a test
 * of its own (test/relay/node-internals.test.ts): a Node that changes one of
 * them fails there.
 */
import { Socket, type SocketConstructorOpts } from 'node:net';
import type { Duplex } from 'node:stream';

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

/**
 * Every write of a connected socket, plain or TLS, ends through `settle`: the
 * stream learns how it went when `done` is called, which may be later. Node
 * documents `_write` and `_writev` for who makes a stream, not for a socket
 * that it made.
 */
export function interceptWrites(socket: Duplex, settle: (error: Error | null | undefined, done: WriteDone) => void): void {
  const write = socket._write.bind(socket);
  const writev = socket._writev?.bind(socket);
  socket._write = (chunk: unknown, encoding: BufferEncoding, done: WriteDone): void => {
    write(chunk, encoding, (error) => {
      settle(error, done);
    });
  };
  if (writev === undefined) return;
  socket._writev = (chunks: Parameters<NonNullable<Duplex['_writev']>>[0], done: WriteDone): void => {
    writev(chunks, (error) => {
      settle(error, done);
    });
  };
}
