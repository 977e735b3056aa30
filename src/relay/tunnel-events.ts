/** What the sockets of tunnels tell them. The listeners are the same for all tunnels: a chunk costs no closure and no look-up. */
import type { Fault } from '../errors.ts';
import { type Resettable, WRITE_FAILED } from './failed-writes.ts';

/** Which end of a tunnel. */
export type Side = 'client' | 'upstream';

/** A tunnel, as its sockets know it. */
interface TunnelEnds {
  readonly client: Resettable;
  readonly upstream: Resettable;
  received(side: Side, chunk: Buffer): void;
  /** Bytes of a side that was sent the end already. */
  late(length: number): void;
  /** This side takes more again. */
  drained(side: Side): void;
  ended(side: Side): void;
  broke(side: Side, error: Error): void;
  closed(): void;
  /** Nothing can be sent to this side any more, and it is not read because the other one does not keep up. */
  writeFailed(side: Side, error: Error): void;
  /** Code of ours threw in one of these. */
  crashed(error: unknown): void;
}

const kTunnel = Symbol('tunnel');
type Tunnelled = Resettable & { [kTunnel]?: TunnelEnds | undefined };

/** A listener for either side of any tunnel. An error that a tunnel's code throws ends that tunnel alone. */
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

/** The tunnel hears from one of its sockets from now on, of all but the bytes. */
export function hear(tunnel: TunnelEnds, socket: Tunnelled): void {
  socket[kTunnel] = tunnel;
  socket.on('end', onTunnelEnd).on('error', onTunnelError).on('close', onTunnelClose).on('drain', onTunnelDrain).on(WRITE_FAILED, onWriteFailed);
}

/** Of the bytes too: it flows from the next turn on. */
export function hearBytes(socket: Tunnelled): void {
  // Whoever had the socket before may have paused it.
  socket.on('data', onTunnelData).resume();
}

/** The tunnel wants no more bytes of this socket. */
export function unhearBytes(socket: Tunnelled): void {
  socket.off('data', onTunnelData);
}

/** What this socket still sends reaches nobody. */
export function hearLate(socket: Tunnelled): void {
  socket.on('data', onLateData).resume();
}

/** Nobody hears from this socket any more. Its errors still have a listener. */
export function unhear(socket: Tunnelled): void {
  socket[kTunnel] = undefined;
}

// What a tunnel asks of whoever looks at how it begins.

/** The tunnel is closed for `fault`; `lastWords`, if any, are the last that the client hears. */
export interface TunnelRefusal {
  readonly fault: Fault;
  readonly lastWords: Buffer | string | null;
}

/**
 * Reads the beginning of a tunnel as it comes, in both directions. It changes
 * no byte, and delays none of the client's unless it holds, none of the upstream's at all.
 */
export interface Opening {
  /** Longest that bytes are held, ms from the first one held. */
  readonly patience: number;
  /**
   * The next bytes of the client.
   * - `pass`: send on what is held, then these.
   * - `hold`: keep them back.
   */
  read(chunk: Buffer): 'pass' | 'hold' | TunnelRefusal;
  /** The next bytes of the upstream, which are sent on whatever they are. */
  hear(chunk: Buffer): void;
  /** After an answer of `pass`: what came before the chunk and was held, in order; otherwise empty. */
  readonly held: Buffer;
  /** There is no more to see: neither direction is to be shown any more. Nothing is held then. */
  readonly done: boolean;
  /** Bytes are held, and no more come: the client has ended, or the patience has. */
  giveUp(why: 'ended' | 'late'): TunnelRefusal;
}
