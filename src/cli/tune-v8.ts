/** Settings of V8, of the process that serves: for others they would be the caller's business. */
import { readdirSync, readFileSync } from 'node:fs';
import { constants, setPriority } from 'node:os';
import { setFlagsFromString } from 'node:v8';

/** Name of V8's helper threads in Node 26, as Linux shows it. */
const HELPER = 'node-V8Worker\n';

/**
 * Call once, when everything has been loaded and compiled: code compiled earlier keeps its way of allocating, and later
 * compiling may have low priority.
 */
export function tuneV8(): void {
  // V8 allocates objects of a code location directly in its old generation when most earlier ones became old. Sockets
  // match this, and each then keeps its dead tunnel until the whole heap is collected
  // (docs/decisions/0120-buffers-and-sets.md).
  setFlagsFromString('--no-allocation-site-pretenuring');
  if (hasOneCore()) lowerHelpers();
}

/** Whether the process is bound to a single core. A CPU limit does not bind it to one. */
function hasOneCore(): boolean {
  return process.platform === 'linux' && /^Cpus_allowed_list:\s*\d+$/m.test(readFileSync('/proc/self/status', 'utf8'));
}

/**
 * Gives V8's helper threads a low priority: four of them that mark the heap would leave a fifth of the core to the
 * thread that serves. Where there are more cores, it does harm: a collection waits for a helper, and that for other
 * processes (docs/decisions/0120-buffers-and-sets.md).
 */
function lowerHelpers(): void {
  for (const thread of readdirSync('/proc/self/task')) {
    if (readFileSync(`/proc/self/task/${thread}/comm`, 'utf8') === HELPER)
      setPriority(Number(thread), constants.priority.PRIORITY_BELOW_NORMAL);
  }
}
