/**
 * Whose turn it is on a client connection. Node keeps responses in the order of
 * their requests (RFC 9112 §9.3.2), but whatever is written past its queue (the
 * answer to a CONNECT or to bytes that are no request) could land in the
 * middle of an earlier response, or follow the one that was to be the last.
 */
import type { ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

const kLast = Symbol('last response');
const kDeclined = Symbol('upgrade declined');
type Turned = Socket & { [kLast]?: ServerResponse | undefined; [kDeclined]?: true };

/** The response to the latest request on this connection. */
export function noteResponse(socket: Turned, res: ServerResponse): void {
  socket[kLast] = res;
  res.on('close', forget);
  if (socket[kDeclined] === true) res.shouldKeepAlive = false;
}

/** Nothing depends on it any more: an idle connection does not keep the whole of its last exchange. */
function forget(this: ServerResponse): void {
  const socket: Turned = this.req.socket;
  if (socket[kLast] === this && this.shouldKeepAlive && this.req.complete) socket[kLast] = undefined;
}

/**
 * The request that is now arriving asks for an upgrade and is served without.
 * Node's parser has stopped behind it all the same and drops what it was given
 * further, so that the next request would be read from anywhere: there is none.
 */
export function noteDeclinedUpgrade(socket: Turned): void {
  socket[kDeclined] = true;
}

/** A request is still to be answered, or its answer is on its way: nothing else may be written. */
export function isAnswering(socket: Turned): boolean {
  const last = socket[kLast];
  return last !== undefined && !last.closed;
}

/**
 * The latest request is the last one served here: whatever else comes in is not
 * looked at (RFC 9112 §9.6). So it is, too, when it was answered before its body
 * had come, as long as that lasts.
 */
export function isOver(socket: Turned): boolean {
  const last = socket[kLast];
  return socket.writableEnded || (last !== undefined && (!last.shouldKeepAlive || (last.writableEnded && !last.req.complete)));
}
