/** TCP keep-alive for connections that last: a peer that vanished without a word is noticed, and the NAT on the way keeps its entry. */
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';

/** Ms; below the idle times of firewalls and NATs. */
const FIRST_PROBE = 30_000;

/** Four system calls: not worth them for a connection that is over at once. Streams that are no socket have none. */
export function keepAlive(stream: Duplex & { setKeepAlive?: Socket['setKeepAlive'] }): void {
  stream.setKeepAlive?.(true, FIRST_PROBE);
}
