import t from 'tap';
import { Limits } from '../src/limits.ts';
import { FEW } from './support/policy.ts';

t.test('per client and in all, and a place given back can be taken again', async (t) => {
  const limits = new Limits(FEW);
  limits.enter('tunnels', 'a');
  limits.enter('tunnels', 'a');
  t.throws(() => {
    limits.enter('tunnels', 'a');
  }, { code: 'limit-reached', remedy: /limits\.tunnelsPerClient/, retryAfter: 1, message: /2 tunnels from a / });
  limits.enter('tunnels', 'b');
  t.throws(() => {
    limits.enter('tunnels', 'c');
  }, { code: 'limit-reached', remedy: /limits\.tunnels$/, message: /3 tunnels in all/ });
  t.equal(limits.count('tunnels'), 3, 'a refusal takes no place');
  limits.leave('tunnels', 'a');
  limits.enter('tunnels', 'c');
  t.equal(limits.count('tunnels'), 3);
});

t.test('exchanges and tunnels are counted apart', async (t) => {
  const limits = new Limits(FEW);
  limits.enter('exchanges', 'a');
  limits.enter('tunnels', 'a');
  t.equal(limits.count('exchanges'), 1);
  limits.leave('exchanges', 'a');
  t.equal(limits.count('exchanges'), 0);
  t.equal(limits.count('tunnels'), 1);
});
