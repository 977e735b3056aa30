/** Whether `npm run test:full` runs the tests: more of each and larger, for which `npm test` has no time. */
export const FULL = process.env['ECO_TEST_FULL'] === '1';
