/**
 * The first moments of a connection that has to begin with a PROXY header:
 * waits for it, bounded in bytes and time, and gives the socket on with every
 * byte after the header still to be read. Takes any socket, before anybody
 * else has read from it: what follows may be HTTP or TLS.
 */
import type { Socket } from 'node:net';
import { Fault } from '../errors.ts';
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

/**
 * A socket that closes before it said anything was a health check or a scan,
 * one that says nothing is closed after the timeout: of these nobody is told.
 */
export function receiveProxyHeader(socket: Socket, options: ProxiedSocketOptions): void {
  let held: Buffer | null = null;

  const release = (): void => {
    clearTimeout(timer);
    socket.off('readable', onReadable);
    socket.off('end', onEnd);
    socket.off('close', release);
    socket.off('error', onError);
    options.onEnd();
  };
  const fail = (fault: Fault): void => {
    release();
    options.onFault(fault);
  };
  const giveUp = (fault: Fault): void => {
    if (held === null) socket.destroy();
    else fail(fault);
  };
  const onReadable = (): void => {
    const chunk = socket.read() as Buffer | null;
    if (chunk === null) return;
    held = held === null ? chunk : Buffer.concat([held, chunk]);
    const header = readProxyHeader(held);
    if (header === null) return;
    if (header instanceof Fault) {
      fail(header);
      return;
    }
    release();
    if (held.length > header.length) socket.unshift(held.subarray(header.length));
    options.onHeader(header);
  };
  const onEnd = (): void => {
    giveUp(new Fault('proxy-protocol-malformed', 'the connection ended in the middle of the PROXY header'));
  };
  // 'close' follows.
  const onError = (): void => {};
  const timer = setTimeout(() => {
    giveUp(new Fault('request-timeout', 'the PROXY header did not arrive in time'));
  }, options.timeout);

  socket.on('readable', onReadable);
  socket.on('end', onEnd);
  socket.on('close', release);
  socket.on('error', onError);
}
