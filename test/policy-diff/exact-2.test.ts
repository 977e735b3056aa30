/**
 * The comparison is exact: over random pairs of policies every witness is
 * decided differently, in the way that its class says, and every random request
 * that is decided differently is in exactly one class, every other in none.
 * Half of the pairs: exact-1.test.ts says how to try others.
 */
import t from 'tap';
import { proveExact } from '../support/exact-diff.ts';

t.test('1500 pairs of policies', async (t) => {
  proveExact(t, 1_000_000_000, 1500);
});
