/** Counts sockets, to show that a failure leaves none behind. */
import type { Server } from 'node:net';
import { setImmediate } from 'node:timers/promises';

/** TCP sockets this process holds, both ends of loopback connections included. */
export function countSockets(): number {
  return process.getActiveResourcesInfo().filter((name) => name === 'TCPSocketWrap' || name === 'TLSWrap').length;
}

/** Settles when no more than `expected` are left (others may have closed meanwhile); a test that leaks runs into its own time limit. */
export async function untilSockets(expected: number): Promise<void> {
  while (countSockets() > expected) await setImmediate();
}

/** Settles when every connection the server took has closed. */
export async function untilDeserted(server: Server): Promise<void> {
  const open = (): Promise<number> =>
    new Promise((resolve, reject) => {
      server.getConnections((error, count) => {
        if (error === null) resolve(count);
        else reject(error);
      });
    });
  while ((await open()) > 0) await setImmediate();
}
