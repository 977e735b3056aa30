/** Settings of V8, of the process that serves: for others they would be the caller's business. */
import { readdirSync, readFileSync } from 'node:fs';
import { constants, setPriority } from 'node:os';
import { setFlagsFromString } from 'node:v8';

/** Name of V8's helper threads in Node 26, as Linux shows it. */
const HELPER = 'node-V8Worker\n';

/**
 * Call once, when everything has been loaded and compiled: code compiled earlier keeps its way of allocating, and later
 * compiling has low priority.
 */
export function tuneV8(): void {
  // V8 allocates objects of a code location directly in its old generation when most earlier ones became old. Sockets
  // match this, and each then keeps its dead tunnel until the whole heap is collected
  // (docs/decisions/0120-buffers-and-sets.md).
  setFlagsFromString('--no-allocation-site-pretenuring');
  lowerHelpers();
}

/**
 * Gives V8's helper threads the lowest priority: where the process has one core, four of them that mark the heap would
 * leave a fifth of it to the thread that serves. They run when that waits, and a collection that needs them waits for
 * them. On Linux; elsewhere threads have no names to find them by.
 * @returns how many there are
 */
export function lowerHelpers(): number {
  if (process.platform !== 'linux') return 0;
  const helpers = readdirSync('/proc/self/task').filter((thread) => readFileSync(`/proc/self/task/${thread}/comm`, 'utf8') === HELPER);
  for (const thread of helpers) setPriority(Number(thread), constants.priority.PRIORITY_LOW);
  return helpers.length;
}
