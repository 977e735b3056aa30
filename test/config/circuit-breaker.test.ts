/** The keys of the circuit breaker: what a destination takes over from the section for all, and what is wrong. */
import t from 'tap';
import { configOf, faultsOf, MINIMAL } from '../support/load-text.ts';

const DEFAULT = { failures: 10, over: 2000, pause: 1000, longestPause: 30_000, statuses: [] };
const withKeys = (own: string, common: string): string => `${MINIMAL.replace('hosts:', `circuitBreaker: ${own}\n    hosts:`)}circuitBreaker: ${common}\n`;
const read = (own: string, common: string): unknown => configOf(withKeys(own, common)).destinations[0]?.circuitBreaker;

t.test('a destination has the keys of all, but for its own', async (t) => {
  const table: [own: string, common: string, result: unknown][] = [
    ['{}', '{}', DEFAULT],
    ['{}', '{ enabled: false }', null],
    ['{ enabled: true }', '{ enabled: false, failures: 3 }', { ...DEFAULT, failures: 3 }],
    ['{ enabled: false }', '{}', null],
    ['{ pause: 2s, statuses: [503, 502, 503] }', '{ failures: 1, over: 0s, longestPause: 1m }', { failures: 1, over: 0, pause: 2000, longestPause: 60_000, statuses: [503, 502] }],
    ['{ failures: 1000, over: 1m, longestPause: 1s }', '{}', { ...DEFAULT, failures: 1000, over: 60_000, longestPause: 1000 }],
    ['{ statuses: 429 }', '{}', { ...DEFAULT, statuses: [429] }],
  ];
  for (const [own, common, result] of table) t.strictSame(read(own, common), result, `${own} ${common}`);
});

t.test('faults', async (t) => {
  const table: [own: string, common: string, path: string, problem: RegExp][] = [
    ['{}', '{ pause: 1m }', 'circuitBreaker.pause', /The first pause is longer than the longest one/],
    ['{ pause: 31s }', '{}', 'destinations.eco.circuitBreaker.pause', /The first pause is longer/],
    ['{ longestPause: 500ms }', '{}', 'destinations.eco.circuitBreaker.longestPause', /The first pause is longer/],
    ['{}', '{ failures: 0 }', 'circuitBreaker.failures', /not possible here/],
    ['{}', '{ failures: 1001 }', 'circuitBreaker.failures', /not possible here/],
    ['{}', '{ pause: 0s }', 'circuitBreaker.pause', /at once/],
    ['{ statuses: [399] }', '{}', 'destinations.eco.circuitBreaker.statuses[0]', /not possible here/],
    ['{ statuses: [600] }', '{}', 'destinations.eco.circuitBreaker.statuses[0]', /not possible here/],
    ['off', '{}', 'destinations.eco.circuitBreaker', /Expected a mapping/],
    ['{}', '{ statuses: [503] }', 'circuitBreaker.statuses', /no key "statuses"/],
    ['{ enabled: "yes" }', '{}', 'destinations.eco.circuitBreaker.enabled', /neither true nor false/],
  ];
  for (const [own, common, path, problem] of table) {
    const faults = faultsOf(withKeys(own, common));
    t.equal(faults.length, 1, `${own} ${common}`);
    t.ok(faults[0]?.includes(` ${path}: `), path);
    t.match(faults[0], problem);
  }
});
