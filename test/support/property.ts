/** Runs a property as one assertion that says how many cases it held in. */
import fc from 'fast-check';
import type { Test } from 'tap';

/** Throws with the counterexample and the seed that finds it again. */
export function holds<T>(t: Test, what: string, numRuns: number, property: fc.IProperty<T>): void {
  fc.assert(property, { numRuns });
  t.pass(`${what}: ${numRuns} cases`);
}

/** As `holds`, for a property that has to wait. */
export async function holdsAsync<T>(t: Test, what: string, numRuns: number, property: fc.IAsyncProperty<T>): Promise<void> {
  await fc.assert(property, { numRuns });
  t.pass(`${what}: ${numRuns} cases`);
}
