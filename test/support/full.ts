/** Whether `npm run test:full` runs the tests: more of each and larger, for which `npm test` has no time. */
export const FULL = process.env['ECO_TEST_FULL'] === '1';

/** How many of so many cases are tried: all by `npm run test:full`, a quarter by `npm test`. */
export const casesOf = (all: number): number => (FULL ? all : Math.ceil(all / 4));
