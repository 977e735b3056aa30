/** What is proposed for a name that is not there, also where there are thousands. */
import t from 'tap';
import { nearest, suggest } from '../../src/config/finding.ts';

const names = (count: number): string[] => Array.from({ length: count }, (_, index) => `client-${index}`);

t.test('the nearest name, or those that there are', async (t) => {
  t.equal(suggest('clint-7', names(10)), 'Did you mean client-7?');
  t.equal(suggest('prots', ['hosts', 'ports', 'forms']), 'Did you mean ports?', 'two letters that have changed places');
  t.equal(suggest('ports', ['address', 'forms']), 'Valid here: address, forms.', 'two others are another word');
  t.equal(suggest('somebody', ['a', 'b']), 'Valid here: a, b.');
  t.equal(suggest('somebody', []), '');
});

t.test('a long list is not written out, nor compared, for each of as many faults', async (t) => {
  t.match(suggest('somebody-else-altogether', names(10_000)), /^Valid here: client-0, .*client-59, and 9940 more\.$/);
  t.equal(nearest('clint-7', names(1_000)), 'client-7');
  t.equal(nearest('clint-7', names(1_001)), null, 'beyond that, what is near is not looked for');
});
