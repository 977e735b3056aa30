/** How long a dial may take, by the steps that it has. */
import t from 'tap';
import { longestDial } from '../../src/relay/pools.ts';
import { configOf, MINIMAL } from '../support/load-text.ts';
import { makeHop, parentAt } from '../support/way.ts';

t.test('a dial has the clock of each step on its way', async (t) => {
  const { timeouts } = configOf(MINIMAL);
  const terms = { timeouts: { ...timeouts, resolve: 1, connect: 10, tls: 100 } };
  const parents = [parentAt(1), parentAt(2, 'https')];
  t.equal(longestDial({ via: [] }, terms), 111);
  t.equal(longestDial({ via: [makeHop('near', parents.slice(0, 1), { connect: 1_000 })] }, terms), 2_101);
  t.equal(longestDial({ via: [makeHop('near', parents, { connect: 1_000 }), makeHop('far', [parentAt(3, 'socks5')], { connect: 10_000 })] }, terms), 25_101);
});
