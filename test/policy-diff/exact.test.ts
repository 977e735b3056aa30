/**
 * The comparison is exact: over random pairs of policies every witness is
 * decided differently, in the way that its class says, and every random request
 * that is decided differently is in exactly one class, every other in none.
 * npm run diff:prove tries a million pairs.
 */
import t from 'tap';
import { proveExact } from '../support/exact-diff.ts';
import { casesOf } from '../support/full.ts';

const SEED = Number(process.env['ECO_DIFF_SEED'] ?? 0);
const PAIRS = Number(process.env['ECO_DIFF_PAIRS'] ?? casesOf(6000));
// A pair takes some 25 ms.
t.setTimeout(PAIRS * 100);

t.test(`${PAIRS} pairs of policies`, async (t) => {
  proveExact(t, SEED, PAIRS);
});
