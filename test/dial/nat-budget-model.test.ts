/** The port budget against a model that keeps every port in a list and looks at all of them. */
import fc from 'fast-check';
import t from 'tap';
import type { Ending, PortLease } from '../../src/dial/ports.ts';
import { budgetLab, type BudgetLab, NAT } from '../support/budget.ts';
import { holdsAsync } from '../support/property.ts';

const ADDRESSES = ['192.0.2.1', '2001:db8::1'];
const QUEUE_FOR = 5;

interface ModelPort {
  readonly address: string;
  lease: PortLease | null;
  /** Null while it is open. */
  ended: { readonly at: number; readonly ending: Ending } | null;
}

interface ModelWaiter {
  readonly address: string;
  readonly since: number;
  readonly controller: AbortController;
  /** What the model says it should come to. */
  expected: 'waits' | 'granted' | 'refused' | 'left';
  /** What came. */
  actual: 'waits' | 'granted' | 'null';
}

class Model {
  now = 0;
  limit = 2;
  timeWait = 8;
  queues = true;
  ports: ModelPort[] = [];
  readonly waiters: ModelWaiter[] = [];

  /** What the NAT has let go stays so, whatever a reload says later. */
  used(address: string): number {
    this.ports = this.ports.filter(({ ended }) => ended === null || (ended.ending !== 'unsent' && this.now < ended.at + this.timeWait));
    return this.ports.filter((port) => port.address === address).length;
  }

  waiting(address: string): ModelWaiter[] {
    return this.waiters.filter((waiter) => waiter.address === address && waiter.expected === 'waits');
  }

  open(address: string): ModelPort {
    const port: ModelPort = { address, lease: null, ended: null };
    this.ports.push(port);
    return port;
  }

  /** Serves who waits, in order. */
  serve(): void {
    for (const address of ADDRESSES) {
      this.used(address);
      for (const waiter of this.waiting(address)) {
        if (this.used(address) < this.limit) {
          waiter.expected = 'granted';
          this.open(address);
        } else if (this.now >= waiter.since + QUEUE_FOR) waiter.expected = 'refused';
        else break;
      }
    }
  }
}

type Step = 'take' | 'wait' | 'leave' | 'end' | 'pass' | 'reload';

class Run {
  readonly model = new Model();
  readonly lab: BudgetLab = budgetLab({ ports: 2, timeWait: 8, whenExhausted: 'queue', queueFor: QUEUE_FOR });

  async do([what, which, amount]: readonly [Step, number, number]): Promise<void> {
    const { model, lab } = this;
    const address = ADDRESSES[which % 2] ?? '';
    switch (what) {
      case 'take': {
        const free = model.waiting(address).length === 0 && model.used(address) < model.limit;
        const lease = lab.budget.take(address, 443, 'eco');
        if ((lease !== null) !== free) throw new Error(`take gave ${lease === null ? 'nothing' : 'a port'}, unlike the model`);
        if (lease !== null) model.open(address).lease = lease;
        break;
      }
      case 'wait':
        this.#wait(address);
        break;
      case 'leave': {
        const [waiter] = model.waiting(address).slice(which % 3);
        if (waiter !== undefined) {
          waiter.expected = 'left';
          waiter.controller.abort();
        }
        break;
      }
      case 'end': {
        const open = model.ports.filter((port) => port.ended === null && port.lease !== null);
        const port = open[which % Math.max(1, open.length)];
        const ending = (['closed', 'unanswered', 'unsent'] as const)[amount % 3] ?? 'closed';
        if (port !== undefined) {
          port.ended = { at: model.now, ending };
          model.serve();
          port.lease?.end(ending);
        }
        break;
      }
      case 'pass':
        for (let i = 0; i < amount; i += 1) {
          model.now += 1;
          model.serve();
        }
        lab.clock.pass(amount);
        break;
      case 'reload':
        model.limit = which % 5;
        model.timeWait = amount;
        model.queues = which % 2 === 0;
        model.serve();
        lab.budget.adopt({ ...NAT, ports: 2 * model.limit + 1, replicasPerNode: 2, timeWait: amount, queueFor: QUEUE_FOR, whenExhausted: model.queues ? 'queue' : 'refuse' });
        break;
    }
    // Promises tell in the next turn what was settled in this one.
    await new Promise(setImmediate);
    this.#compare();
  }

  #wait(address: string): void {
    const { model, lab } = this;
    const controller = new AbortController();
    const waiter: ModelWaiter = { address, since: model.now, controller, expected: model.queues ? 'waits' : 'refused', actual: 'waits' };
    model.waiters.push(waiter);
    model.serve();
    void lab.budget.wait([address], 443, 'eco', controller.signal).then((granted) => {
      waiter.actual = granted === null ? 'null' : 'granted';
      const port = model.ports.find((open) => open.address === address && open.lease === null);
      if (granted !== null && port !== undefined) port.lease = granted.lease;
    });
  }

  #compare(): void {
    const { model, lab } = this;
    for (const { expected, actual } of model.waiters) {
      const fits = expected === actual || (actual === 'null' && (expected === 'refused' || expected === 'left'));
      if (!fits) throw new Error(`a wait came to ${actual}, the model says ${expected}`);
    }
    const most = Math.max(...ADDRESSES.map((address) => model.used(address)));
    const used = lab.budget.inUse().destinations.get('eco')?.used ?? 0;
    if (used !== most) throw new Error(`${used} in use, the model says ${most}`);
    const waiting = ADDRESSES.filter((address) => model.waiting(address).length > 0).length;
    if (lab.clock.alarms !== waiting) throw new Error(`${lab.clock.alarms} alarms for ${waiting} queues`);
  }
}


t.test('random steps come to what the model says', async (t) => {
  const step = fc.tuple(fc.constantFrom<Step>('take', 'take', 'end', 'end', 'wait', 'pass', 'leave', 'reload'), fc.nat({ max: 30 }), fc.nat({ max: 12 }));
  await holdsAsync(
    t,
    'up to a thousand steps',
    20,
    fc.asyncProperty(fc.array(step, { maxLength: 1000, size: 'max' }), async (steps) => {
      const run = new Run();
      for (const each of steps) await run.do(each);
    }),
  );
});
