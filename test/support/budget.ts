/** A port budget on a clock that a test moves. */
import type { NatConfig } from '../../src/config/config.ts';
import { type BudgetClock, PortBudget } from '../../src/dial/nat-budget.ts';

export const NAT: NatConfig = { ports: 3, replicasPerNode: 1, timeWait: 120_000, whenExhausted: 'refuse', queueFor: 5000 };

export class ManualClock implements BudgetClock {
  time = 1000;
  readonly #alarms = new Map<object, { readonly at: number; readonly call: () => void }>();

  /** Alarms that are set. */
  get alarms(): number {
    return this.#alarms.size;
  }

  now(): number {
    return this.time;
  }

  after(ms: number, call: () => void): () => void {
    const key = {};
    this.#alarms.set(key, { at: this.time + ms, call });
    return () => {
      this.#alarms.delete(key);
    };
  }

  /** Moves on, and calls what is due, in its order. */
  pass(ms: number): void {
    const end = this.time + ms;
    for (;;) {
      const [due] = [...this.#alarms].filter(([, { at }]) => at <= end).toSorted((one, other) => one[1].at - other[1].at);
      if (due === undefined) break;
      this.#alarms.delete(due[0]);
      this.time = Math.max(this.time, due[1].at);
      due[1].call();
    }
    this.time = end;
  }
}

export interface BudgetLab {
  readonly budget: PortBudget;
  readonly clock: ManualClock;
  readonly notices: { readonly level: string; readonly message: string; readonly fields: Record<string, unknown> }[];
}

export function budgetLab(nat: Partial<NatConfig> = {}): BudgetLab {
  const clock = new ManualClock();
  const notices: BudgetLab['notices'] = [];
  const notice = (level: string, message: string, fields: Record<string, unknown>): void => {
    notices.push({ level, message, fields });
  };
  return { budget: new PortBudget({ nat: { ...NAT, ...nat }, notice, clock }), clock, notices };
}
