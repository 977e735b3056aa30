/**
 * The handshake with a parent proxy before a connection through it is a tunnel;
 * no byte of the tunnel is lost. The protocols are pure (connect-request.ts,
 * socks5.ts); this file runs them over a socket.
 */
import type { CancelSignal } from '../cancel.ts';
import type { Socket } from 'node:net';
import type { Fault } from '../errors.ts';
import { TimeLimit } from '../time-limit.ts';
import { abortFault } from './dial.ts';
import type { HandshakeFailure } from './hop-fault.ts';
import { errorCode } from './lookup.ts';

/** One handshake over one connection; it keeps the bytes received so far. */
export interface HopHandshake {
  /** The first bytes to send. */
  readonly opening: Buffer;
  /** What the parent was asked last, for messages: `CONNECT 10.40.1.2:443`. */
  readonly asked: string;
  /** Who is at fault if it does not answer that: until the target is named, only the parent can be. */
  readonly about: 'parent' | 'either';
  /** Takes the next bytes, however they are split. Not called again after `done` or `failed`. */
  receive(chunk: Buffer): HandshakeStep;
}

/** The state after the bytes so far: `more` are needed, after `send` has been sent; or the handshake is over. */
export type HandshakeStep =
  | { readonly step: 'more'; readonly send: Buffer | null }
  /** The tunnel is established, and these are its first bytes. */
  | { readonly step: 'done'; readonly rest: Buffer }
  | ({ readonly step: 'failed' } & HandshakeFailure);

const SPEAKS = 'Check the log of the parent, and that it speaks this protocol on this port.';

/** A handshake to run over a socket. */
export interface ConverseOptions {
  /** Connected, and not read from. Destroyed when it fails. */
  readonly socket: Socket;
  readonly handshake: HopHandshake;
  /** Time limit for the whole handshake, ms. */
  readonly timeout: number;
  readonly signal: CancelSignal;
  /** What an error of the socket means that is one of TLS; absent: the parent itself is not reached by TLS. */
  readonly tlsFault?: ((error: Error) => Fault) | undefined;
}

/**
 * Null when the tunnel is established: bytes that came with the last answer are
 * read first from the socket, which has no listeners any more. Otherwise the
 * failure. Rejects with the reason of `signal`, or with a fault of TLS.
 */
export function converse({ socket, handshake, timeout, signal, tlsFault }: ConverseOptions): Promise<HandshakeFailure | null> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) {
      socket.destroy();
      reject(abortFault(signal));
      return;
    }
    /** Nothing has come since the last question. */
    let silent = true;

    const release = (): void => {
      limit.clear();
      signal.removeEventListener('abort', onAbort);
      socket.off('readable', onReadable);
      socket.off('end', onClose);
      socket.off('close', onClose);
    };
    const fail = (failure: HandshakeFailure): void => {
      release();
      // The error listener stays for errors of destroying.
      socket.destroy();
      resolve(failure);
    };
    const onReadable = (): void => {
      const chunk = socket.read() as Buffer | null;
      if (chunk === null) return;
      const next = handshake.receive(chunk);
      silent = next.step === 'more' && next.send !== null;
      if (next.step === 'failed') {
        fail(next);
      } else if (next.step === 'more') {
        if (next.send !== null) socket.write(next.send);
      } else {
        release();
        socket.off('error', onError);
        if (next.rest.length > 0) socket.unshift(next.rest);
        resolve(null);
      }
    };
    const cut = (how: string): void => {
      fail({
        code: 'hop-failed',
        about: handshake.about,
        detail: `${how} ${silent ? 'without an answer' : 'in the middle of its answer'} to ${handshake.asked}`,
        remedy: SPEAKS,
      });
    };
    const onClose = (): void => {
      cut('closed the connection');
    };
    const giveUp = (fault: Fault): void => {
      release();
      socket.destroy();
      reject(fault);
    };
    const onError = (error: Error): void => {
      const code = errorCode(error);
      // In TLS 1.3 the parent checks our certificate after its own handshake is done, so its alert arrives here.
      if (tlsFault !== undefined && code.startsWith('ERR_SSL_')) giveUp(tlsFault(error));
      else cut(`broke the connection (${code || error.message})`);
    };
    const onAbort = (): void => {
      giveUp(abortFault(signal));
    };
    const limit = new TimeLimit(timeout, () => {
      fail({
        code: 'hop-timeout',
        about: handshake.about,
        detail: `no ${silent ? '' : 'complete '}answer to ${handshake.asked} in ${timeout} ms`,
        remedy:
          handshake.about === 'parent'
            ? SPEAKS
            : 'Check that the parent works and reaches its destination; raise hops.<name>.connect if that takes longer.',
      });
    });

    signal.addEventListener('abort', onAbort);
    socket.on('readable', onReadable);
    socket.on('end', onClose);
    socket.on('close', onClose);
    socket.on('error', onError);
    socket.write(handshake.opening);
    // Past events are not emitted again.
    if (socket.destroyed || socket.readableEnded) onClose();
  });
}
