/**
 * A connection that has to begin with a PROXY header: waits for it, bounded in
 * bytes and time, and gives the socket on with every byte after the header
 * still to be read. What follows may be HTTP or TLS.
 */
import type { Socket } from 'node:net';
import { Fault } from '../errors.ts';
import { receiveFirstBytes } from './first-bytes.ts';
import { type ProxyHeader, readProxyHeader } from './proxy-protocol.ts';

export interface ProxiedSocketOptions {
  /** The header must be complete within this, ms. */
  readonly timeout: number;
  /** The header is read and the socket is the caller's again, nobody listening to it. */
  readonly onHeader: (header: ProxyHeader) => void;
  /** There will be no header: the socket is the caller's to answer and close. */
  readonly onFault: (fault: Fault) => void;
  /** The wait is over, one way or another; always called once, before the others. */
  readonly onEnd: () => void;
}

/** Of a socket that never said anything nobody is told: see first-bytes.ts. */
export function receiveProxyHeader(socket: Socket, { timeout, onHeader, onFault, onEnd }: ProxiedSocketOptions): void {
  let held: Buffer | null = null;
  receiveFirstBytes(socket, {
    timeout,
    onBytes(chunk) {
      const bytes = held === null ? chunk : Buffer.concat([held, chunk]);
      held = bytes;
      const header = readProxyHeader(bytes);
      if (header === null) return null;
      return () => {
        if (header instanceof Fault) {
          onFault(header);
          return;
        }
        if (bytes.length > header.length) socket.unshift(bytes.subarray(header.length));
        onHeader(header);
      };
    },
    onGiveUp(why) {
      onFault(why === 'late' ? new Fault('request-timeout', 'the PROXY header did not arrive in time') : new Fault('proxy-protocol-malformed', 'the connection ended in the middle of the PROXY header'));
    },
    onOver: onEnd,
  });
}
