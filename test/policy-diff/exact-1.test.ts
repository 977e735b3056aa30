/**
 * The comparison is exact: over random pairs of policies every witness is
 * decided differently, in the way that its class says, and every random request
 * that is decided differently is in exactly one class, every other in none.
 * Half of the pairs: the others are in exact-2.test.ts, and npm run diff:prove tries a million.
 */
import t from 'tap';
import { proveExact } from '../support/exact-diff.ts';

const SEED = Number(process.env['ECO_DIFF_SEED'] ?? 0);
const PAIRS = Number(process.env['ECO_DIFF_PAIRS'] ?? 1500);

t.test(`${PAIRS} pairs of policies`, async (t) => {
  proveExact(t, SEED, PAIRS);
});
