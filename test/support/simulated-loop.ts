/** An event loop in a time of its own: requests arrive at a fixed rate, wait in the kernel, and cost what they cost. */
import { AcceptQueue, Overload, type OverloadChange, type OverloadTerms } from '../../src/overload/overload.ts';
import type { MemoryUse } from '../../src/overload/memory-use.ts';

/** Ms of the one thread. */
export interface Costs {
  /** To read a request and to send it on; then to pass its answer on; to refuse one instead; of a turn that finds nothing. */
  readonly request: number;
  readonly response: number;
  readonly refusal: number;
  readonly turn: number;
}

export interface Simulated {
  /** A second. */
  readonly served: number;
  readonly refused: number;
  /** Of the served, ms. */
  readonly p99: number;
  readonly changes: readonly OverloadChange[];
}

export interface Simulation {
  readonly terms: OverloadTerms;
  readonly costs: Costs;
  /** Requests a second, by the time in ms. */
  readonly rate: (at: number) => number;
  /** Of the whole, and of what does not count, ms. */
  readonly length: number;
  readonly warm: number;
  /** The upstream takes so long, ms. */
  readonly upstream?: number;
  /** Each request brings a connection; a turn accepts one. */
  readonly connects?: boolean;
  /** Pauses of the whole process, by their beginning, ms. */
  readonly pauses?: ReadonlyMap<number, number>;
}

const WINDOW = 100;
const NO_MEMORY: MemoryUse = { of: 'heap', used: 0, limit: 1, share: 0 };

/** Runs one simulation to its end. The same input gives the same output. */
export function simulateLoop({ terms, costs, rate, length, warm, upstream = 0.1, connects = false, pauses = new Map<number, number>() }: Simulation): Simulated {
  let now = 0;
  let busy = 0;
  let idle = 0;
  let turns = 0;
  let immediates: (() => void)[] = [];
  const changes: OverloadChange[] = [];
  const overload = new Overload({
    terms,
    now: () => now,
    loop: () => ({ busy, worked: busy, idle, turns }),
    memory: { read: () => NO_MEMORY, close: () => {} },
    atTurnEnd: (callback) => void immediates.push(callback),
    onChange: (change) => void changes.push(change),
  });
  const work = (ms: number): void => {
    now += ms;
    busy += ms;
  };
  const queue = new AcceptQueue();
  const refuses = (): boolean => (connects ? overload.connectionRefusal(queue) : overload.refusal(now)) !== null;
  const ahead = [...pauses].toSorted(([one], [other]) => one - other);
  let arrival = 0;
  let look = WINDOW;
  let answers: { readonly due: number; readonly at: number }[] = [];
  const took: number[] = [];
  let refused = 0;
  while (now < length) {
    turns += 1;
    const began = now;
    const [pause] = ahead;
    if (pause !== undefined && pause[0] <= now) {
      ahead.shift();
      work(pause[1]);
    }
    work(costs.turn);
    // What was there when the turn began is taken up in it, answers and requests in turn.
    const ready = answers.filter(({ at }) => at <= began);
    answers = answers.filter(({ at }) => at > began);
    let accepts = connects ? 1 : Infinity;
    while ((arrival <= began && accepts > 0) || ready.length > 0) {
      const answer = ready.shift();
      if (answer !== undefined) {
        work(costs.response);
        if (answer.due >= warm) took.push(now - answer.due);
      }
      if (arrival > began || accepts === 0) continue;
      accepts -= 1;
      if (refuses()) {
        work(costs.refusal);
        if (arrival >= warm) refused += 1;
      } else {
        work(costs.request);
        answers.push({ due: arrival, at: now + upstream });
      }
      arrival += 1000 / rate(arrival);
    }
    if (now >= look) {
      overload.look();
      look = now + WINDOW;
    }
    if (immediates.length > 0) {
      const callbacks = immediates;
      immediates = [];
      for (const callback of callbacks) callback();
      continue;
    }
    const next = Math.min(arrival, look, ...answers.slice(0, 1).map(({ at }) => at));
    if (next > now) {
      idle += next - now;
      now = next;
    }
  }
  const seconds = (length - warm) / 1000;
  return { served: took.length / seconds, refused: refused / seconds, p99: took.toSorted((one, other) => one - other)[Math.floor(took.length * 0.99)] ?? 0, changes };
}
