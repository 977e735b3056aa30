/** Runs a property as one assertion that says how many cases it held in. */
import fc from 'fast-check';
import type { Test } from 'tap';
import { casesOf } from './full.ts';

/**
 * Throws with the counterexample and the seed that finds it again.
 * @param all how many cases `npm run test:full` tries
 */
export function holds<T>(t: Test, what: string, all: number, property: fc.IProperty<T>): void {
  const numRuns = casesOf(all);
  fc.assert(property, { numRuns });
  t.pass(`${what}: ${numRuns} cases`);
}

/** As `holds`, for a property that has to wait. */
export async function holdsAsync<T>(t: Test, what: string, all: number, property: fc.IAsyncProperty<T>): Promise<void> {
  const numRuns = casesOf(all);
  await fc.assert(property, { numRuns });
  t.pass(`${what}: ${numRuns} cases`);
}
