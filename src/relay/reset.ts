/** Ends a connection so that the other side sees it broken, not complete. */
import type { Duplex } from 'node:stream';
import { TLSSocket } from 'node:tls';

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
