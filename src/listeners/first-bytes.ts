/**
 * Reads the start of a connection until its protocol is clear: passes each
 * chunk to the caller, within a time limit, then returns the socket without
 * listeners. The socket must not have been read from.
 */
import type { Socket } from 'node:net';
import { TimeLimit } from '../time-limit.ts';

/** Called with the first bytes. A connection that sends none is closed without `onGiveUp`. */
export interface FirstBytesOptions {
  /** Time limit for the decision, ms. */
  readonly timeout: number;
  /** The next bytes. @returns null: more are needed; else how to continue: the socket is the caller's again */
  readonly onBytes: (chunk: Buffer) => (() => void) | null;
  /** Some bytes came, but not enough: the caller answers and closes the socket, unless that has been reset. */
  readonly onGiveUp: (why: 'ended' | 'late' | 'reset') => void;
}

/**
 * A socket that closes before it sent anything was a health check or a scan,
 * one that sends nothing is closed after the timeout: neither is reported.
 */
export function receiveFirstBytes(socket: Socket, { timeout, onBytes, onGiveUp }: FirstBytesOptions): void {
  let silent = true;

  const release = (): void => {
    limit.clear();
    socket.off('readable', onReadable);
    socket.off('end', onEnd);
    socket.off('close', release);
    socket.off('error', onError);
  };
  const giveUp = (why: 'ended' | 'late' | 'reset'): void => {
    if (silent) {
      socket.destroy();
      return;
    }
    release();
    onGiveUp(why);
  };
  const onReadable = (): void => {
    const chunk = socket.read() as Buffer | null;
    if (chunk === null) return;
    silent = false;
    const next = onBytes(chunk);
    if (next === null) return;
    release();
    next();
  };
  const onEnd = (): void => {
    giveUp('ended');
  };
  // What the proxy closes itself has no error.
  const onError = (): void => {
    giveUp('reset');
  };
  const limit = new TimeLimit(timeout, () => {
    giveUp('late');
  });

  socket.on('readable', onReadable);
  socket.on('end', onEnd);
  socket.on('close', release);
  socket.on('error', onError);
}
