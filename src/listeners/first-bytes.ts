/**
 * The first moments of a connection, before it is clear what it is: gives on
 * what comes, within a time, and then the socket itself, with nobody listening
 * to it. Takes any socket that nobody has read from yet.
 */
import type { Socket } from 'node:net';

/** What is to happen with the first bytes. A connection that sends none is closed without `onGiveUp`. */
export interface FirstBytesOptions {
  /** It must be clear within this, ms. */
  readonly timeout: number;
  /** The next bytes. @returns null: more are needed; else how it goes on: the socket is the caller's again */
  readonly onBytes: (chunk: Buffer) => (() => void) | null;
  /** Some bytes came, and no more will in time: the socket is the caller's to answer and close. */
  readonly onGiveUp: (why: 'ended' | 'late') => void;
  /** The wait is over, one way or another; always called once, before the others. */
  readonly onOver: () => void;
}

/**
 * A socket that closes before it said anything was a health check or a scan,
 * one that says nothing is closed after the timeout: of these nobody is told.
 */
export function receiveFirstBytes(socket: Socket, { timeout, onBytes, onGiveUp, onOver }: FirstBytesOptions): void {
  let silent = true;

  const release = (): void => {
    clearTimeout(timer);
    socket.off('readable', onReadable);
    socket.off('end', onEnd);
    socket.off('close', release);
    socket.off('error', onError);
    onOver();
  };
  const giveUp = (why: 'ended' | 'late'): void => {
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
  // 'close' follows.
  const onError = (): void => {};
  const timer = setTimeout(() => {
    giveUp('late');
  }, timeout);

  socket.on('readable', onReadable);
  socket.on('end', onEnd);
  socket.on('close', release);
  socket.on('error', onError);
}
