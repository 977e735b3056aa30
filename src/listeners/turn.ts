/**
 * Whose turn it is on a client connection. Node keeps responses in the order of
 * their requests (RFC 9112 §9.3.2), but whatever is written past its queue (the
 * answer to a CONNECT or to bytes that are no request) could land in the
 * middle of an earlier response, or follow the one that was to be the last.
 */
import type { ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

const kLast = Symbol('last response');
type Turned = Socket & { [kLast]?: ServerResponse };

/** The response to the latest request on this connection. */
export function noteResponse(socket: Socket, res: ServerResponse): void {
  (socket as Turned)[kLast] = res;
}

/** A request is still to be answered, or its answer is on its way: nothing else may be written. */
export function isAnswering(socket: Socket): boolean {
  const last = (socket as Turned)[kLast];
  return last !== undefined && !last.closed;
}

/** The last answer has been given, and the connection ends with it: whatever else comes in has none (RFC 9112 §9.6). */
export function isLastAnswered(socket: Socket): boolean {
  const last = (socket as Turned)[kLast];
  return socket.writableEnded || (last !== undefined && last.writableEnded && !last.shouldKeepAlive);
}
