/** Bytes in every way they can be cut, and work that must not grow faster than its input. */
import type { Test } from 'tap';

/** Whole, byte by byte, and in two pieces at every position. */
export function* cuts(bytes: Buffer): Generator<readonly Buffer[]> {
  yield [bytes];
  yield Array.from(bytes, (_, at) => bytes.subarray(at, at + 1));
  for (let at = 1; at < bytes.length; at += 1) yield [bytes.subarray(0, at), bytes.subarray(at)];
}

export const latin1 = (text: string): Buffer => Buffer.from(text, 'latin1');

/** CPU time of `work`, µs: the least of several runs, because whatever else runs can only add to it. */
function cost(work: () => void): number {
  let least = Infinity;
  for (let run = 0; run < 5; run += 1) {
    const before = process.cpuUsage();
    work();
    const { user, system } = process.cpuUsage(before);
    least = Math.min(least, user + system);
  }
  return least;
}

/**
 * Eight times the input may cost eight times the work, and a little more; a
 * quadratic reader would need 64 times as much.
 * @param work of an input of this size; the small one should take a millisecond or more
 */
export function isLinear(t: Test, what: string, size: number, prepare: (size: number) => () => void): void {
  const small = prepare(size);
  const large = prepare(size * 8);
  // Compiled first.
  for (let run = 0; run < 3; run += 1) small();
  let ratio = Infinity;
  // A collection of garbage in all of the large runs, and none of the small ones, is bad luck once.
  for (let attempt = 0; attempt < 3 && ratio >= 24; attempt += 1) ratio = cost(large) / Math.max(cost(small), 300);
  t.ok(ratio < 24, `${what}: ${ratio.toFixed(1)} times the work for 8 times the input`);
}
