/**
 * How connections end when the peer aborts. A failed write does not end
 * reading: a partner may answer early (413, 401) and close with our bytes
 * unread, so the next write fails while its answer is still to be read. Node
 * destroys a socket on a failed write, and the answer with it; here the write
 * waits until the peer's bytes have been read.
 */
import type { Duplex } from 'node:stream';
import { TLSSocket } from 'node:tls';
import { TimeLimit } from '../time-limit.ts';
import { interceptWrites, isBeingRead, type WriteDone } from './node-internals.ts';

/** How long pending bytes are read after a failed write, ms: more than a round trip. */
const PATIENCE = 1000;

/** Emitted, with the error, for each PATIENCE in which a write has failed and the socket is not read. */
export const WRITE_FAILED = 'writeFailed';

/**
 * Call it once for a connected socket, plain or TLS. A failed write is reported
 * when the peer has ended or after a second in which the socket was read,
 * whichever comes first; until then 'drain' does not come either. While it is not
 * read, the failure is reported by WRITE_FAILED.
 */
export function readOnAfterFailedWrites(socket: Duplex): void {
  interceptWrites(socket, settle);
}

function settle(socket: Duplex, error: Error | null | undefined, done: WriteDone): void {
  if (error === null || error === undefined || socket.destroyed || socket.readableEnded) {
    done(error);
    return;
  }
  const report = (): void => {
    limit.clear();
    socket.off('end', report).off('close', report);
    done(error);
  };
  const onLate = (): void => {
    if (isBeingRead(socket)) {
      report();
      return;
    }
    // Its reader waits for something else; pending bytes are not lost meanwhile.
    limit = new TimeLimit(PATIENCE, onLate);
    socket.emit(WRITE_FAILED, error);
  };
  let limit = new TimeLimit(PATIENCE, onLate);
  // The system reports a reset once: to a write, and then to reads as an end. The socket is errored before anybody takes it for one. After an end, writes meet EPIPE.
  if ((error as NodeJS.ErrnoException).code !== 'EPIPE') socket.prependOnceListener('end', report);
  else socket.once('end', report);
  socket.once('close', report);
}

// Ends a connection so that the peer sees it as broken, not complete.

/** A stream whose connection can be reset, if it is a socket. */
export type Resettable = Duplex & { resetAndDestroy?: () => unknown };

const kUnder = Symbol('connection under TLS');
type Standing = Resettable & { [kUnder]?: Resettable };

/** TLS has no reset of its own: from now on, resetting `tls` resets the connection under it. */
export function noteUnder(tls: Duplex, connection: Resettable): void {
  (tls as Standing)[kUnder] = connection;
}

/**
 * Resets if possible, destroys otherwise; 'close' follows in either case. TLS
 * on a connection that we do not hold cannot be reset, but ending it without
 * close_notify has the same meaning. Nor can a socket whose own end is on its
 * way: libuv refuses (EINVAL), and Node then never closes the handle. That end
 * comes after all bytes, so as long as some wait it is not.
 */
export function resetSocket(socket: Resettable): void {
  if (socket.destroyed) return;
  const ending = socket.writableEnded && !socket.writableFinished && socket.writableLength === 0;
  const connection = (socket as Standing)[kUnder] ?? socket;
  if (connection.resetAndDestroy === undefined || connection instanceof TLSSocket || ending) socket.destroy();
  else connection.resetAndDestroy();
}
