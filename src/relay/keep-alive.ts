/** TCP keep-alive for connections that last: a peer that vanished without a word is noticed, and the NAT on the way keeps its entry. */
import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';

/** Ms; below the idle times of firewalls and NATs. */
const FIRST_PROBE = 30_000;

/** Four system calls: not worth them for a connection that is over at once. */
export function keepAlive(socket: Duplex): void {
  if (socket instanceof Socket) socket.setKeepAlive(true, FIRST_PROBE);
}
