/** One TCP connection to one address, to see what comes of it: with both ends and the time written down, whatever the outcome, and closed at once. Carries nothing. */
import { connect as netConnect } from 'node:net';
import { formatAuthority } from '../targets/host.ts';
import { TimeLimit } from '../time-limit.ts';
import { UNSENT } from './connect.ts';
import { errorCode } from './lookup.ts';

/** What became of it. */
export interface TriedConnection {
  /** `unsent`: our own system refused before a packet left. */
  readonly outcome: 'open' | 'refused' | 'silent' | 'unreachable' | 'unsent';
  /** Our end, before any NAT; null: no packet left. */
  readonly from: string | null;
  readonly ms: number;
  /** The name of the error; '' where it is open or silent. */
  readonly detail: string;
}

/** Never rejects. @param timeout ms @param signal gives it up, as if the time were over */
export function tryConnect(address: string, port: number, timeout: number, signal: AbortSignal): Promise<TriedConnection> {
  return new Promise((resolve) => {
    const began = performance.now();
    const socket = netConnect({ host: address, port, autoSelectFamily: false });
    let from: string | null = null;
    const end = (outcome: TriedConnection['outcome'], detail: string): void => {
      limit.clear();
      signal.removeEventListener('abort', giveUp);
      socket.destroy();
      resolve({ outcome, from: outcome === 'unsent' ? null : from, ms: Math.round(performance.now() - began), detail });
    };
    const giveUp = (): void => {
      end('silent', '');
    };
    const limit = new TimeLimit(timeout, giveUp);
    signal.addEventListener('abort', giveUp);
    // Behind Node's own tick, in which the system chooses the port: later errors come without it.
    process.nextTick(() => {
      if (socket.localPort !== undefined) from = formatAuthority(socket.localAddress ?? '', socket.localPort);
    });
    socket.once('connect', () => {
      end('open', '');
    });
    // The listener stays: an error after `destroy` is of no interest, and must not be uncaught.
    socket.on('error', (error) => {
      const name = errorCode(error);
      if (name === 'ECONNREFUSED' || name === 'ECONNRESET') end('refused', name);
      else if (name === 'ETIMEDOUT') end('silent', name);
      else end(UNSENT.has(name) ? 'unsent' : 'unreachable', name || error.message);
    });
    if (signal.aborted) giveUp();
  });
}
