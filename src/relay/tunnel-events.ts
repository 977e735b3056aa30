/** The socket events of tunnels. The listeners are the same for all tunnels: a chunk costs no closure and no look-up. */
import type { Fault } from '../errors.ts';
import { type Resettable, WRITE_FAILED } from './failed-writes.ts';

/** One end of a tunnel. */
export type Side = 'client' | 'upstream';

/** A tunnel, as seen from its sockets. */
interface TunnelEnds {
  readonly client: Resettable;
  readonly upstream: Resettable;
  received(side: Side, chunk: Buffer): void;
  /** Bytes from a side that has been sent the end already. */
  late(length: number): void;
  /** This side can take more again. */
  drained(side: Side): void;
  ended(side: Side): void;
  broke(side: Side, error: Error): void;
  closed(): void;
  /** Nothing can be sent to this side any more, and it is not read because the other one does not keep up. */
  writeFailed(side: Side, error: Error): void;
  /** Our code threw in one of these. */
  crashed(error: unknown): void;
}

const kTunnel = Symbol('tunnel');
type Tunnelled = Resettable & { [kTunnel]?: TunnelEnds | undefined };

/** A listener for either side of any tunnel. An error thrown by a tunnel's code ends that tunnel only. */
function listener<T = undefined>(step: (tunnel: TunnelEnds, side: Side, told: T) => void): (this: Tunnelled, told: T) => void {
  return function (told) {
    const tunnel = this[kTunnel];
    if (tunnel === undefined) return;
    try {
      step(tunnel, this === tunnel.client ? 'client' : 'upstream', told);
    } catch (error) {
      tunnel.crashed(error);
    }
  };
}

const onTunnelData = listener<Buffer>((tunnel, side, chunk) => {
  tunnel.received(side, chunk);
});
const onLateData = listener<Buffer>((tunnel, _side, chunk) => {
  tunnel.late(chunk.length);
});
const onTunnelDrain = listener((tunnel, side) => {
  tunnel.drained(side);
});
const onTunnelEnd = listener((tunnel, side) => {
  tunnel.ended(side);
});
const onTunnelError = listener<Error>((tunnel, side, error) => {
  tunnel.broke(side, error);
});
const onWriteFailed = listener<Error>((tunnel, side, error) => {
  tunnel.writeFailed(side, error);
});
const onTunnelClose = listener((tunnel) => {
  tunnel.closed();
});

/** From here on the tunnel gets the events of this socket, except for its bytes. */
export function hear(tunnel: TunnelEnds, socket: Tunnelled): void {
  socket[kTunnel] = tunnel;
  socket
    .on('end', onTunnelEnd)
    .on('error', onTunnelError)
    .on('close', onTunnelClose)
    .on('drain', onTunnelDrain)
    .on(WRITE_FAILED, onWriteFailed);
}

/** From here on it gets the bytes too: the socket flows from the next turn on. */
export function hearBytes(socket: Tunnelled): void {
  // The previous owner of the socket may have paused it.
  socket.on('data', onTunnelData).resume();
}

/** The tunnel reads no more bytes of this socket. */
export function unhearBytes(socket: Tunnelled): void {
  socket.off('data', onTunnelData);
}

/** Further bytes of this socket are discarded. */
export function hearLate(socket: Tunnelled): void {
  socket.on('data', onLateData).resume();
}

/** Events of this socket are ignored from here on. Its errors still have a listener. */
export function unhear(socket: Tunnelled): void {
  socket[kTunnel] = undefined;
}

// What a tunnel expects of an inspector of its first bytes.

/** The tunnel is closed for `fault`; `lastWords`, if any, are the last bytes sent to the client. */
export interface TunnelRefusal {
  readonly fault: Fault;
  readonly lastWords: Buffer | string | null;
}

/**
 * Inspects the first bytes of a tunnel, in both directions. It changes no byte, delays the
 * client's bytes only while it holds them, and never delays the upstream's.
 */
export interface Opening {
  /** How long bytes may be held, ms from the first one held. */
  readonly patience: number;
  /**
   * The client's next bytes.
   * - `pass`: forward the held bytes, then these.
   * - `hold`: keep them back.
   */
  read(chunk: Buffer): 'pass' | 'hold' | TunnelRefusal;
  /** The upstream's next bytes, which are forwarded in any case. */
  hear(chunk: Buffer): void;
  /** After `pass`: the held bytes that came before the chunk, in order; otherwise empty. */
  readonly held: Buffer;
  /** The inspection is complete: neither direction is passed to it any more. Nothing is held then. */
  readonly done: boolean;
  /** Bytes are held, and no more come: the client has ended, or `patience` is over. */
  giveUp(why: 'ended' | 'late'): TunnelRefusal;
}
