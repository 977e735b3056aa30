/** Ends a connection so that the other side sees it broken, not complete. */
import type { Duplex } from 'node:stream';
import { TLSSocket } from 'node:tls';

export type Resettable = Duplex & { resetAndDestroy?: () => unknown };

/**
 * Resets where that can be done, destroys otherwise; 'close' follows in either
 * case. TLS cannot be reset, but ending it without close_notify says the same.
 * Nor can a socket whose own end is on its way: libuv refuses to (EINVAL), and
 * Node then never closes the handle.
 */
export function resetSocket(socket: Resettable): void {
  if (socket.destroyed) return;
  const ending = socket.writableEnded && !socket.writableFinished;
  if (socket.resetAndDestroy === undefined || socket instanceof TLSSocket || ending) socket.destroy();
  else socket.resetAndDestroy();
}
