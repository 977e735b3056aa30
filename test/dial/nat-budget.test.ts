import t from 'tap';
import type { Test } from 'tap';
import type { PortBudget } from '../../src/dial/nat-budget.ts';
import type { Ending, GrantedPort, PortLease } from '../../src/dial/ports.ts';
import { budgetLab, NAT } from '../support/budget.ts';

const ECO = '203.0.113.10';
const NEVER = new AbortController().signal;

const take = (budget: PortBudget, address = ECO, port = 443): PortLease | null => budget.take(address, port, 'eco');
const used = (budget: PortBudget, destination = 'eco'): number => budget.inUse().destinations.get(destination)?.used ?? 0;

function taken(t: Test, budget: PortBudget, address = ECO): PortLease {
  const lease = take(budget, address);
  if (lease === null) throw new Error('no port was free');
  t.teardown(() => {
    lease.end('unsent');
  });
  return lease;
}

t.test('each ending keeps the port as long as the NAT does', async (t) => {
  for (const [ending, kept] of [
    ['closed', 120_000],
    ['unanswered', 30_000],
  ] as const) {
    const { budget, clock } = budgetLab();
    taken(t, budget).end(ending);
    clock.pass(kept - 1);
    t.equal(used(budget), 1, `${ending}: still kept`);
    clock.pass(1);
    t.equal(used(budget), 0, `${ending}: free after ${kept} ms`);
  }
  const { budget } = budgetLab();
  taken(t, budget).end('unsent');
  t.equal(used(budget), 0, 'unsent: free at once');
});

t.test('what was never answered is not kept longer than what was closed', async (t) => {
  const { budget, clock } = budgetLab({ timeWait: 2000 });
  taken(t, budget).end('unanswered');
  clock.pass(1999);
  t.equal(used(budget), 1);
  clock.pass(1);
  t.equal(used(budget), 0);
});

t.test('a lease ends once', async (t) => {
  const { budget } = budgetLab();
  const lease = taken(t, budget);
  taken(t, budget);
  lease.end('closed');
  lease.end('closed');
  lease.end('unsent');
  t.equal(used(budget), 2);
});

t.test('at the limit nothing more is given, and each address and port has its own', async (t) => {
  const { budget } = budgetLab();
  for (let i = 0; i < 3; i += 1) taken(t, budget);
  t.equal(take(budget), null);
  t.ok(take(budget, ECO, 80), 'another port');
  t.ok(take(budget, '203.0.113.11'), 'another address');
  t.equal(used(budget), 3, 'of a destination, the most used tells');
});

t.test('replicas on one node share its ports, rounded down', async (t) => {
  for (const [ports, replicasPerNode, limit] of [
    [8192, 1, 8192],
    [8192, 3, 2730],
    [2, 3, 0],
  ] as const) {
    t.equal(budgetLab({ ports, replicasPerNode }).budget.inUse().limit, limit);
  }
  t.equal(take(budgetLab({ ports: 2, replicasPerNode: 3 }).budget), null, 'no port for anybody');
});

t.test('without ports, all are counted and none is refused', async (t) => {
  const { budget, notices } = budgetLab({ ports: null });
  for (let i = 0; i < 100; i += 1) taken(t, budget);
  t.equal(used(budget), 100);
  t.equal(budget.inUse().limit, null);
  t.strictSame(notices, []);
  t.strictSame(budget.warnings(), []);
});

t.test('one address in several spellings is one', async (t) => {
  for (const [one, ...others] of [
    ['203.0.113.10', '::ffff:203.0.113.10', '::ffff:cb00:710a'],
    ['2001:db8::1', '2001:DB8:0:0:0:0:0:1', '2001:0db8::0001'],
  ] as const) {
    const { budget } = budgetLab({ ports: 1 });
    t.ok(take(budget, one));
    for (const other of others) t.equal(take(budget, other), null, other);
    for (const another of ['2001:db8::2', '::203.0.113.10']) t.ok(take(budget, another), `${another} is another`);
  }
});

t.test('Retry-After is when the next port comes free', async (t) => {
  const { budget, clock } = budgetLab();
  const [first, second, third] = [taken(t, budget), taken(t, budget), taken(t, budget)];
  t.equal(budget.retryAfter([ECO], 443), 120, 'all are open: whichever ends now is kept for that long');
  first.end('closed');
  clock.pass(60_500);
  t.equal(budget.retryAfter([ECO], 443), 60, '59.5 s, rounded up');
  second.end('unanswered');
  t.equal(budget.retryAfter([ECO], 443), 30, 'this one comes first');
  clock.pass(29_999);
  t.equal(budget.retryAfter([ECO], 443), 1, 'never 0');
  t.equal(budget.retryAfter([ECO, '203.0.113.11'], 443), 1, 'the soonest of several addresses');
  third.end('closed');
});

t.test('a reload keeps the counts and changes the limits', async (t) => {
  const { budget, clock } = budgetLab();
  const leases = [taken(t, budget), taken(t, budget), taken(t, budget)];
  t.equal(take(budget), null);

  budget.adopt({ ...NAT, ports: 4 });
  const fourth = taken(t, budget);
  t.equal(take(budget), null, 'one more, and no more');

  budget.adopt({ ...NAT, ports: 4, replicasPerNode: 2 });
  t.equal(used(budget), 4, 'what is open stays');
  fourth.end('closed');
  leases[0]?.end('closed');
  t.equal(budget.retryAfter([ECO], 443), 120, 'three have to come free, and two of them are open');
  leases[1]?.end('closed');
  clock.pass(60_000);
  t.equal(budget.retryAfter([ECO], 443), 60, 'the third oldest');
  t.equal(take(budget), null);

  budget.adopt({ ...NAT, ports: 2, timeWait: 60_000 });
  t.equal(used(budget), 1, 'a shorter time counts for what has ended already');
  t.ok(take(budget));

  budget.adopt({ ...NAT, ports: null });
  t.ok(take(budget), 'no limit any more');
});

t.test('high water, refusals, and the labels of shared addresses', async (t) => {
  const { budget, clock } = budgetLab();
  const leases = [taken(t, budget), budget.take(ECO, 443, 'other'), taken(t, budget)];
  for (const lease of leases) lease?.end('closed');
  t.equal(await budget.wait([ECO], 443, 'other', NEVER), null);
  clock.pass(120_000);
  const { destinations } = budget.inUse();
  t.strictSame(destinations.get('eco'), { used: 0, highWater: 3, refused: 0 });
  t.strictSame(destinations.get('other'), { used: 0, highWater: 3, refused: 1 }, 'they went to the same place');
});

t.test('scarce and exhausted are reported once, and again only after they were ample', async (t) => {
  const { budget, clock, notices } = budgetLab({ ports: 10 });
  const told = (): string[] => notices.splice(0).map(({ level, message }) => `${level} ${message.split(':')[0] ?? ''}`);
  const open = (count: number): PortLease[] => Array.from({ length: count }, () => taken(t, budget));
  const endAll = (leases: PortLease[], ending: Ending): void => {
    for (const lease of leases) lease.end(ending);
  };

  const six = open(6);
  t.strictSame(told(), [], 'not at 60 %');
  t.strictSame(budget.warnings(), []);
  const one = open(1);
  t.match(notices[0]?.fields, { upstream: `${ECO}:443`, destinations: ['eco'], used: 7, limit: 10 });
  t.strictSame(told(), ['warn NAT ports are running out'], 'at 70 %');
  t.strictSame(budget.warnings(), [`NAT ports towards ${ECO}:443 (eco): 7 of 10 in use.`]);
  endAll(one, 'unsent');
  endAll(open(1), 'unsent');
  t.strictSame(told(), [], 'between 60 and 70 % nothing changes');
  const four = open(4);
  t.equal(take(budget), null);
  t.equal(take(budget), null);
  t.strictSame(told(), ['error NAT ports are exhausted']);
  t.match(budget.warnings(), [/10 of 10 in use, and new connections were refused or had to wait\.$/]);
  endAll([...six, ...four], 'closed');
  clock.pass(119_999);
  t.strictSame(told(), []);
  t.equal(budget.warnings().length, 1, 'the NAT still keeps them');
  clock.pass(1);
  t.strictSame(budget.warnings(), []);
  t.strictSame(told(), ['info enough NAT ports are free again']);
  open(7);
  t.strictSame(told(), ['warn NAT ports are running out'], 'and once more');
});

t.test('memory follows use: addresses where nothing is kept are forgotten', async (t) => {
  const { budget, clock } = budgetLab();
  const before = process.memoryUsage().heapUsed;
  for (let i = 0; i < 50_000; i += 1) {
    budget.take(`10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`, 443, 'eco')?.end('closed');
    if (i % 100 === 0) clock.pass(120_000);
  }
  t.ok(process.memoryUsage().heapUsed - before < 50e6);
  t.equal(clock.alarms, 0, 'nobody waits, so no timer runs');
});

t.test('queue', async (t) => {
  const settled = (wait: Promise<GrantedPort | null>): Promise<GrantedPort | null | 'waits'> => Promise.race([wait, new Promise<'waits'>((resolve) => setImmediate(resolve, 'waits'))]);
  const full = (more = {}): ReturnType<typeof budgetLab> & { leases: PortLease[] } => {
    const lab = budgetLab({ whenExhausted: 'queue', ports: 1, timeWait: 2000, ...more });
    return { ...lab, leases: [taken(t, lab.budget)] };
  };

  t.test('what waits longest gets the next port, and nothing overtakes it', async (t) => {
    const { budget, clock, leases } = full();
    const first = budget.wait([ECO], 443, 'eco', NEVER);
    const second = budget.wait([ECO], 443, 'eco', NEVER);
    t.equal(await settled(first), 'waits');
    leases[0]?.end('closed');
    clock.pass(1999);
    t.equal(await settled(first), 'waits', 'the NAT still keeps it');
    clock.pass(1);
    const granted = await first;
    t.equal(granted?.address, ECO);
    t.equal(await settled(second), 'waits');
    t.equal(take(budget), null, 'others are before');
    granted?.lease.end('unsent');
    t.ok(await second, 'at once: no packet had left');
    t.equal(clock.alarms, 0);
  });

  t.test('it waits no longer than queueFor, which a reload changes', async (t) => {
    const { budget, clock } = full();
    const early = budget.wait([ECO], 443, 'eco', NEVER);
    clock.pass(4999);
    const late = budget.wait([ECO], 443, 'eco', NEVER);
    t.equal(await settled(early), 'waits');
    clock.pass(1);
    t.equal(await early, null);
    t.equal(await settled(late), 'waits');
    budget.adopt({ ...NAT, whenExhausted: 'queue', ports: 1, timeWait: 2000, queueFor: 1 });
    t.equal(await late, null);
    t.equal(budget.inUse().destinations.get('eco')?.refused, 2);
    t.equal(clock.alarms, 0);
  });

  t.test('a reload with more ports serves who waits', async (t) => {
    const { budget } = full();
    const wait = budget.wait([ECO], 443, 'eco', NEVER);
    budget.adopt({ ...NAT, whenExhausted: 'queue', ports: 2 });
    t.ok(await wait);
  });

  t.test('who leaves waits no more, and is no refusal', async (t) => {
    const { budget, clock, leases } = full();
    const controller = new AbortController();
    const wait = budget.wait([ECO], 443, 'eco', controller.signal);
    controller.abort();
    t.equal(await wait, null);
    t.equal(clock.alarms, 0);
    leases[0]?.end('unsent');
    t.ok(take(budget), 'the port is not lost');
    t.equal(await budget.wait([ECO], 443, 'eco', AbortSignal.abort()), null);
  });

  t.test('of several addresses, the first that has a port', async (t) => {
    const { budget, clock } = full();
    const other = '2001:db8::1';
    const lease = taken(t, budget, other);
    const wait = budget.wait([ECO, other], 443, 'eco', NEVER);
    lease.end('unsent');
    t.match(await wait, { address: other });
    t.equal(clock.alarms, 0);
    t.equal(take(budget), null, 'the other is as full as before');
  });

  t.test('a thousand may wait, and no more', async (t) => {
    const { budget, clock } = full();
    const waits = Array.from({ length: 1001 }, () => budget.wait([ECO], 443, 'eco', NEVER));
    t.equal(await settled(waits[1000] ?? Promise.resolve(null)), null);
    t.equal(await settled(waits[999] ?? Promise.resolve(null)), 'waits');
    clock.pass(5000);
    t.ok((await Promise.all(waits)).every((granted) => granted === null));
  });

  t.test('of several addresses, no line is joined that is full', async (t) => {
    const { budget, clock, leases } = full();
    const other = '203.0.113.11';
    taken(t, budget, other);
    const controller = new AbortController();
    for (let waiting = 0; waiting < 1000; waiting += 1) void budget.wait([ECO], 443, 'eco', controller.signal);
    const beside = budget.wait([ECO, other], 443, 'eco', NEVER);
    controller.abort();
    leases[0]?.end('unsent');
    t.ok(take(budget), 'the port is for the next dial');
    t.equal(await settled(beside), 'waits');
    clock.pass(5000);
    t.equal(await beside, null);
  });
});
