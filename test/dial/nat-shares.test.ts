import t from 'tap';
import type { PortBudget } from '../../src/dial/nat-budget.ts';
import type { PortLease } from '../../src/dial/ports.ts';
import { budgetLab } from '../support/budget.ts';
import { bytesInUse } from '../support/memory.ts';

const ECO = '203.0.113.10';
const NEVER = new AbortController().signal;

t.test('shares: a client has at most four times what is free, and what serves all clients has what there is', async (t) => {
  const fill = (budget: PortBudget, client: string | null): PortLease[] => {
    const leases: PortLease[] = [];
    for (let lease = budget.take(ECO, 443, 'eco', client); lease !== null; lease = budget.take(ECO, 443, 'eco', client)) leases.push(lease);
    return leases;
  };
  const { budget, clock } = budgetLab({ ports: 100, timeWait: 2000 });
  const greedy = fill(budget, 'a');
  t.equal(greedy.length, 80, 'one alone');
  t.equal(fill(budget, 'b').length, 16, 'another one all the same');
  t.equal(fill(budget, 'c').length, 4);
  for (const lease of greedy) lease.end('closed');
  t.equal(budget.take(ECO, 443, 'eco', 'a'), null, 'what the NAT still keeps counts');
  clock.pass(2000);
  t.equal(fill(budget, 'a').length, 64);
  t.equal(fill(budget, null).length, 16, 'pooled connections');
  t.equal(budget.take(ECO, 443, 'eco', 'd'), null);
});

t.test('shares, while others wait', async (t) => {
  const { budget, clock } = budgetLab({ whenExhausted: 'queue', ports: 5, timeWait: 2000 });
  for (let i = 0; i < 4; i += 1) t.ok(budget.take(ECO, 443, 'eco', 'a'));
  t.equal(budget.take(ECO, 443, 'eco', 'a'), null);
  const own = budget.wait([ECO], 443, 'eco', NEVER, 'a');
  const last = budget.take(ECO, 443, 'eco', 'b');
  t.ok(last, 'it waits for its own share, and holds up nobody');
  const other = budget.wait([ECO], 443, 'eco', NEVER, 'c');
  last?.end('unsent');
  t.equal((await other)?.address, ECO, 'the last one free is for who holds none');
  clock.pass(5000);
  t.equal(await own, null);
});

t.test('shares: a pooled connection counts for the client that was the last to use it, and for none before', async (t) => {
  const { budget, clock } = budgetLab({ ports: 100, timeWait: 2000 });
  const open = (client: string): PortLease | null => budget.take(ECO, 443, 'eco', client, true);
  const pooled = Array.from({ length: 90 }, () => open('a'));
  t.ok(pooled.every((lease) => lease !== null), 'as many as there are, as long as they are everybody’s');
  for (const lease of pooled.slice(0, 60)) {
    lease?.end('closed');
    lease?.hold('a');
    lease?.hold('b');
  }
  t.equal(open('a'), null, 'beyond its share: 60 that the NAT keeps, and 10 are free');
  const others = open('b');
  t.ok(others, 'which are for others');
  t.notOk(others?.admits('a'), 'nor those connections, which it could end as well');
  t.ok(others?.admits('b'));
  t.ok(others?.admits('c'), 'who has ended none');
  clock.pass(2000);
  const again = Array.from({ length: 60 }, () => open('a'));
  for (const lease of again) lease?.hold('a');
  t.equal(open('a'), null, 'one that it keeps counts while it is open, too');
  for (const lease of again) lease?.end('closed');
  t.equal(open('a'), null);
  clock.pass(2000);
  t.ok(open('a'));
});

t.test('shares: a pooled connection that waits for a port of its client, and then is everybody’s', async (t) => {
  const { budget } = budgetLab({ whenExhausted: 'queue', ports: 5, timeWait: 2000 });
  const held = Array.from({ length: 4 }, () => budget.take(ECO, 443, 'eco', 'a'));
  const waits = budget.wait([ECO], 443, 'eco', NEVER, 'a', true);
  for (const lease of held) lease?.end('unsent');
  t.equal((await waits)?.address, ECO);
  t.equal(Array.from({ length: 5 }, () => budget.take(ECO, 443, 'eco', 'a')).filter((lease) => lease !== null).length, 4, 'four fifths of the other four: that one is not its own');
});

t.test('shares: clients that hold no port any more are forgotten', async (t) => {
  const { budget, clock } = budgetLab({ ports: 100, timeWait: 2000 });
  // Of all clients, so the place itself is never unused.
  t.ok(budget.take(ECO, 443, 'eco', null));
  const before = bytesInUse();
  for (let i = 0; i < 50_000; i += 1) {
    budget.take(ECO, 443, 'eco', `2001:db8::${i.toString(16)}`)?.end('closed');
    clock.pass(100);
  }
  const grown = bytesInUse() - before;
  t.ok(grown < 2_000_000, `${grown} bytes`);
  t.equal(budget.inUse().destinations.get('eco')?.used, 20, 'the last ones are still kept');
});
