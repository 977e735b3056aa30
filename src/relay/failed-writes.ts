/**
 * How connections end when the other side breaks off. A failed write does not
 * end reading: a partner may answer early (413, 401) and close with our bytes
 * unread, so that the next write fails while its answer is still to be read.
 * Node destroys a socket on a failed write, and the answer with it; here the
 * write waits until the other side's bytes have been read.
 */
import type { Duplex } from 'node:stream';
import { TLSSocket } from 'node:tls';
import { interceptWrites, type WriteDone } from './node-internals.ts';

/** What is on its way after a failed write is read for this long, ms: more than a round trip. */
const PATIENCE = 1000;

/** Emitted, with the error, for each PATIENCE in which a write has failed and nobody reads from the socket. */
export const WRITE_FAILED = 'writeFailed';

/**
 * Call it once for a connected socket, plain or TLS. A write that fails is
 * reported when the other side has ended or after a second in which it could
 * be read, whichever comes first; until then 'drain' does not come either.
 * While it is paused, whoever paused it learns of the failure by WRITE_FAILED.
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
    clearTimeout(timer);
    socket.off('end', report).off('close', report);
    done(error);
  };
  const onLate = (): void => {
    if (!socket.isPaused()) {
      report();
      return;
    }
    // Whoever reads from it waits for somebody else; what is here is not lost meanwhile.
    timer = setTimeout(onLate, PATIENCE);
    socket.emit(WRITE_FAILED, error);
  };
  let timer = setTimeout(onLate, PATIENCE);
  socket.once('end', report).once('close', report);
}

// Ends a connection so that the other side sees it broken, not complete.

/** A stream that can end its connection by a reset, if it is a socket. */
export type Resettable = Duplex & { resetAndDestroy?: () => unknown };

const kUnder = Symbol('connection under TLS');
type Standing = Resettable & { [kUnder]?: Resettable };

/** TLS has no reset of its own: to reset `tls` is from now on to reset the connection that it stands on. */
export function noteUnder(tls: Duplex, connection: Resettable): void {
  (tls as Standing)[kUnder] = connection;
}

/**
 * Resets where that can be done, destroys otherwise; 'close' follows in either
 * case. TLS on a connection that we do not hold cannot be reset, but ending it
 * without close_notify says the same. Nor can a socket whose own end is on its
 * way: libuv refuses to (EINVAL), and Node then never closes the handle.
 */
export function resetSocket(socket: Resettable): void {
  if (socket.destroyed) return;
  const ending = socket.writableEnded && !socket.writableFinished;
  const connection = (socket as Standing)[kUnder] ?? socket;
  if (connection.resetAndDestroy === undefined || connection instanceof TLSSocket || ending) socket.destroy();
  else connection.resetAndDestroy();
}
