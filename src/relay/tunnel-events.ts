/** What the sockets of tunnels tell them. The listeners are the same for all tunnels: a chunk costs no closure and no look-up. */
import { WRITE_FAILED } from './failed-writes.ts';
import type { Resettable } from './reset.ts';

/** A tunnel, as its sockets know it. */
export interface TunnelEnds {
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
function onClose(this: Tunnelled): void {
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

const LISTENERS = {
  client: { data: onClientData, drain: onClientDrain, end: onClientEnd, error: onClientError, writeFailed: onClientWriteFailed },
  upstream: { data: onUpstreamData, drain: onUpstreamDrain, end: onUpstreamEnd, error: onUpstreamError, writeFailed: onUpstreamWriteFailed },
} as const;

/** The tunnel hears from this side from now on, of all but the bytes. */
export function hear(tunnel: TunnelEnds, side: 'client' | 'upstream'): void {
  const socket: Tunnelled = tunnel[side];
  const { drain, end, error, writeFailed } = LISTENERS[side];
  socket[kTunnel] = tunnel;
  socket.on('end', end).on('error', error).on('close', onClose).on('drain', drain).on(WRITE_FAILED, writeFailed);
}

/** Of the bytes too: it flows from the next turn on. */
export function hearBytes(tunnel: TunnelEnds, side: 'client' | 'upstream'): void {
  // Whoever had the socket before may have paused it.
  tunnel[side].on('data', LISTENERS[side].data).resume();
}

/** The tunnel wants no more bytes of this side. */
export function unhearBytes(tunnel: TunnelEnds, side: 'client' | 'upstream'): void {
  tunnel[side].off('data', LISTENERS[side].data);
}

/** Nobody hears from this socket any more. Its errors still have a listener. */
export function unhear(socket: Tunnelled): void {
  socket[kTunnel] = undefined;
}
