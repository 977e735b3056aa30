import t from 'tap';
import { ConnectionCount, Limits } from '../src/limits.ts';
import type { Telemetry } from '../src/telemetry/telemetry.ts';
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

t.test('one is said as one', async (t) => {
  const limits = new Limits({ ...FEW, tunnels: 1, exchanges: 2, exchangesPerClient: 1 });
  limits.enter('tunnels', 'a');
  limits.enter('exchanges', 'a');
  t.throws(() => { limits.enter('tunnels', 'a'); }, { message: '1 tunnel in all is already under way' });
  t.throws(() => { limits.enter('exchanges', 'a'); }, { message: '1 exchange from a is already under way' });
  const { count } = open(2, 1);
  count.enter('a');
  t.match(count.enter('a'), { message: '1 connection from a is open' });
  const { count: single } = open(1, 1);
  single.enter('a');
  t.match(single.enter('b'), { message: '1 client connection is open' });
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

// Connections of clients. A whole proxy with these limits is in test/integration/limits.test.ts.

function open(connections: number, connectionsPerClient: number): { count: ConnectionCount; told: () => number } {
  let counted = 0;
  const telemetry: Pick<Telemetry, 'clientConnections'> = {
    clientConnections: (change) => {
      counted += change;
    },
  };
  return { count: new ConnectionCount({ connections, connectionsPerClient }, telemetry as Telemetry, { take: () => true, exhausted: () => false }), told: () => counted };
}

t.test('in all: the next one has a place when another has left', async (t) => {
  const { count, told } = open(2, 2);
  t.equal(count.enter('a'), null);
  t.equal(count.enter('b'), null);
  t.match(count.enter('c'), { code: 'limit-reached', message: /^2 client connections are open/, remedy: /limits\.connections$/ });
  t.match(count.enter(null), { code: 'limit-reached' }, 'many behind one address count as well');
  t.equal(told(), 2, 'a refusal takes no place');
  count.leave('a');
  t.equal(told(), 1);
  t.equal(count.enter('c'), null);
});

t.test('of one address: others have their places, and so has it when one has left', async (t) => {
  const { count } = open(9, 2);
  t.strictSame([count.enter('a'), count.enter('a')], [null, null]);
  t.match(count.enter('a'), { code: 'limit-reached', message: /^2 connections from a are open/, remedy: /limits\.connectionsPerClient/ });
  t.strictSame([count.enter('b'), count.enter(null), count.enter(null), count.enter(null)], [null, null, null, null]);
  count.leave('a');
  t.equal(count.enter('a'), null);
  t.match(count.enter('a'), { code: 'limit-reached' });
});

t.test('those that were turned away and linger are few', async (t) => {
  const { count } = open(1, 1);
  let lingering = 0;
  while (lingering < 1000 && count.enterRefused()) lingering += 1;
  t.equal(lingering, 64);
  count.leaveRefused();
  t.equal(count.enterRefused(), true);
  t.equal(count.enterRefused(), false);
});

t.test('changed limits hold for new connections, and close no open one', async (t) => {
  const { count, told } = open(3, 3);
  for (const address of ['a', 'a', 'b']) t.equal(count.enter(address), null);
  count.adopt({ connections: 1, connectionsPerClient: 1 });
  t.equal(told(), 3);
  t.match(count.enter('c'), { code: 'limit-reached' });
});
