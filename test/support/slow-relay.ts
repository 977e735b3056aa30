/**
 * A wire with a length: relays TCP with a delay in each direction, ends and
 * resets too, in the order in which they came, and no more than a window of
 * bytes in a round trip. Loopback has none of that: what a reset makes a system
 * throw away can only be seen where it has not sent everything yet.
 */
import { readFileSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import type { Test } from 'tap';
import { readOnAfterFailedWrites } from '../../src/relay/failed-writes.ts';
import { listen } from './listen.ts';

/** @returns the port to ask instead of `port` */
export function startSlowRelay(t: Test, port: number, delay: number): Promise<number> {
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (near) => {
    const far = connect({ host: '127.0.0.1', port, allowHalfOpen: true, noDelay: true });
    t.teardown(() => far.destroy());
    carry(near, far, delay);
    carry(far, near, delay);
  });
  return listen(t, server);
}

function carry(from: Socket, to: Socket, delay: number): void {
  // A wire loses nothing of what was sent before a reset.
  readOnAfterFailedWrites(from);
  let broken = false;
  from.on('error', () => {
    broken = true;
  });
  from.on('data', (chunk: Buffer) => {
    if (delay > 0) {
      from.pause();
      setTimeout(() => from.resume(), 2 * delay);
    }
    setTimeout(() => {
      if (!to.destroyed) to.write(chunk);
    }, delay);
  });
  from.on('end', () => {
    setTimeout(() => {
      if (!to.destroyed) to.end();
    }, delay);
  });
  from.on('close', () => {
    setTimeout(() => {
      if (broken) to.resetAndDestroy();
      else to.destroySoon();
    }, delay);
  });
}

interface Waiting {
  readonly socket: Socket;
  readonly then: () => void;
}
const waiting = new Set<Waiting>();
let looking = false;

/** Calls back when the system at the other end has all that was written: what proc(5) says in `tx_queue` of /proc/net/tcp is 0. */
export function whenTaken(socket: Socket, then: () => void): void {
  waiting.add({ socket, then });
  if (!looking) look();
}

/** One reading for all: it is as long as the machine has connections. */
function look(): void {
  const unsent = new Set<string>();
  for (const line of readFileSync('/proc/net/tcp', 'latin1').split('\n')) {
    const [, local = '', remote = '', queue] = /^ *\d+: [0-9A-F]+:([0-9A-F]+) [0-9A-F]+:([0-9A-F]+) 0[18] ([0-9A-F]{8}):/.exec(line) ?? [];
    if (queue !== undefined && queue !== '00000000') unsent.add(`${Number.parseInt(local, 16)} ${Number.parseInt(remote, 16)}`);
  }
  for (const one of waiting) {
    const { socket, then } = one;
    if (!socket.destroyed && (socket.writableLength > 0 || unsent.has(`${socket.localPort ?? 0} ${socket.remotePort ?? 0}`))) continue;
    waiting.delete(one);
    if (!socket.destroyed) then();
  }
  looking = waiting.size > 0;
  if (looking) setTimeout(look, 20);
}
