/** Writes into a connection that nobody reads at the other end, until nothing moves any more. */
import type { Writable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';

const CHUNK = Buffer.alloc(256 * 1024, 'x');
/** That nothing moves can only be seen by waiting: this many looks, so far apart. */
const LOOKS = 3;
const APART_MS = 40;

/** @returns bytes written: less than `most` (and a chunk) when the other side's slowness reached the stream */
export async function fill(stream: Writable, most = 256 * 1024 * 1024): Promise<number> {
  let written = 0;
  for (let still = 0; still < LOOKS && written < most && !stream.destroyed; ) {
    if (stream.writableNeedDrain) {
      const waiting = stream.writableLength;
      await delay(APART_MS);
      still = stream.writableLength === waiting ? still + 1 : 0;
    } else {
      stream.write(CHUNK);
      written += CHUNK.length;
      still = 0;
    }
  }
  return written;
}
