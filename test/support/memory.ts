/** How much memory is really in use: what nobody refers to any more is taken away first. */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

/** Bytes, those of buffers included. */
export function bytesInUse(): number {
  // What the first finds out of use and has an end of its own, the second takes away.
  collect();
  collect();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}
