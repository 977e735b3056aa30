/** What is proposed for a name that is not there, also where there are thousands. */
import t from 'tap';
import { nearest, suggest } from '../../src/config/finding.ts';

const names = (count: number): string[] => Array.from({ length: count }, (_, index) => `client-${index}`);

t.test('the nearest name, or those that there are', async (t) => {
  t.equal(suggest('clint-7', names(10)), 'Did you mean client-7?');
  t.equal(suggest('somebody', ['a', 'b']), 'Valid here: a, b.');
  t.equal(suggest('somebody', []), '');
});

t.test('a long list is not written out, nor compared, for each of as many faults', async (t) => {
  t.match(suggest('somebody-else-altogether', names(10_000)), /^Valid here: client-0, .*client-59, and 9940 more\.$/);
  let compared = 0;
  const known = names(10_000).map((name) => new Proxy(Object(name) as string, { get: (target, key) => ((compared += 1), Reflect.get(Object(target), key) as unknown) }));
  t.equal(nearest('clint-7', known), null);
  t.equal(compared, 0);
});
