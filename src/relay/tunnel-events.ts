/** What the sockets of tunnels tell them. The listeners are the same for all tunnels: a chunk costs no closure and no look-up. */
import type { Fault } from '../errors.ts';
import { type Resettable, WRITE_FAILED } from './failed-writes.ts';

/** A tunnel, as its sockets know it. */
interface TunnelEnds {
  readonly client: Resettable;
  readonly upstream: Resettable;
  fromClient(chunk: Buffer): void;
  fromUpstream(chunk: Buffer): void;
  ended(by: 'client' | 'upstream'): void;
  broke(side: 'client' | 'upstream', error: Error): void;
  closed(): void;
  /** Nothing can be sent to this side any more, and it is not read because the other one does not keep up. */
  writeFailed(side: 'client' | 'upstream', error: Error): void;
  /** Code of ours threw in one of these. */
  crashed(error: unknown): void;
}

const kTunnel = Symbol('tunnel');
type Tunnelled = Resettable & { [kTunnel]?: TunnelEnds | undefined };

function onClientData(this: Tunnelled, chunk: Buffer): void {
  const tunnel = this[kTunnel];
  try {
    tunnel?.fromClient(chunk);
  } catch (error) {
    tunnel?.crashed(error);
  }
}
function onUpstreamData(this: Tunnelled, chunk: Buffer): void {
  const tunnel = this[kTunnel];
  try {
    tunnel?.fromUpstream(chunk);
  } catch (error) {
    tunnel?.crashed(error);
  }
}
function onClientDrain(this: Tunnelled): void {
  this[kTunnel]?.upstream.resume();
}
function onUpstreamDrain(this: Tunnelled): void {
  this[kTunnel]?.client.resume();
}
function onClientEnd(this: Tunnelled): void {
  guard(this[kTunnel], (tunnel) => {
    tunnel.ended('client');
  });
}
function onUpstreamEnd(this: Tunnelled): void {
  guard(this[kTunnel], (tunnel) => {
    tunnel.ended('upstream');
  });
}
function onClientError(this: Tunnelled, error: Error): void {
  guard(this[kTunnel], (tunnel) => {
    tunnel.broke('client', error);
  });
}
function onUpstreamError(this: Tunnelled, error: Error): void {
  guard(this[kTunnel], (tunnel) => {
    tunnel.broke('upstream', error);
  });
}
function onClientWriteFailed(this: Tunnelled, error: Error): void {
  guard(this[kTunnel], (tunnel) => {
    tunnel.writeFailed('client', error);
  });
}
function onUpstreamWriteFailed(this: Tunnelled, error: Error): void {
  guard(this[kTunnel], (tunnel) => {
    tunnel.writeFailed('upstream', error);
  });
}
function onTunnelClose(this: Tunnelled): void {
  guard(this[kTunnel], (tunnel) => {
    tunnel.closed();
  });
}

/** What one tunnel's code throws is that tunnel's end, and nobody else's. */
export function guard<T extends Pick<TunnelEnds, 'crashed'>>(tunnel: T | undefined, step: (tunnel: T) => void): void {
  if (tunnel === undefined) return;
  try {
    step(tunnel);
  } catch (error) {
    tunnel.crashed(error);
  }
}

const SOCKET_LISTENERS = {
  client: { data: onClientData, drain: onClientDrain, end: onClientEnd, error: onClientError, writeFailed: onClientWriteFailed },
  upstream: { data: onUpstreamData, drain: onUpstreamDrain, end: onUpstreamEnd, error: onUpstreamError, writeFailed: onUpstreamWriteFailed },
} as const;

/** The tunnel hears from this side from now on, of all but the bytes. */
export function hear(tunnel: TunnelEnds, side: 'client' | 'upstream'): void {
  const socket: Tunnelled = tunnel[side];
  const { drain, end, error, writeFailed } = SOCKET_LISTENERS[side];
  socket[kTunnel] = tunnel;
  socket.on('end', end).on('error', error).on('close', onTunnelClose).on('drain', drain).on(WRITE_FAILED, writeFailed);
}

/** Of the bytes too: it flows from the next turn on. */
export function hearBytes(tunnel: TunnelEnds, side: 'client' | 'upstream'): void {
  // Whoever had the socket before may have paused it.
  tunnel[side].on('data', SOCKET_LISTENERS[side].data).resume();
}

/** The tunnel wants no more bytes of this side. */
export function unhearBytes(tunnel: TunnelEnds, side: 'client' | 'upstream'): void {
  tunnel[side].off('data', SOCKET_LISTENERS[side].data);
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
