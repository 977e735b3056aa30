/** When new requests are refused because the event loop or the memory has reached its limit. Time is turned by hand. */
import t from 'tap';
import { AcceptQueue, Overload, type OverloadChange, type OverloadTerms } from '../../src/overload/overload.ts';
import { type Costs, simulateLoop } from '../support/simulated-loop.ts';

/** A refusal costs a tenth of a request that is served (docs/decisions/0153-overload.md). */
const COSTS: Costs = { request: 0.045, response: 0.03, refusal: 0.0075, turn: 0.02 };
const CAPACITY = 1000 / (COSTS.request + COSTS.response);
/** Each request brings a connection, and a turn accepts one. */
const CONNECT_CAPACITY = 1000 / (COSTS.turn + COSTS.request + COSTS.response);
const ON: OverloadTerms = { loopDelay: 2, memoryPercent: 100 };
const OFF: OverloadTerms = { loopDelay: 0, memoryPercent: 100 };

t.test('more arrives than can be served: what is admitted stays quick, and little is lost', (t) => {
  const run = (terms: OverloadTerms, load: number) => simulateLoop({ terms, costs: COSTS, rate: () => CAPACITY * load, length: 4000, warm: 2000 });
  const unprotected = run(OFF, 2);
  t.ok(unprotected.p99 > 1000, `without it, p99 is ${unprotected.p99} ms`);
  for (const load of [1.2, 2, 3]) {
    const { served, refused, p99, changes } = run(ON, load);
    t.ok(p99 < 5 * ON.loopDelay, `${load}×: p99 is ${p99} ms`);
    // More than what refusing leaves of the time cannot be served.
    const most = (1 - load / 10) / (1 - 1 / 10);
    t.ok(served > 0.95 * Math.min(1, most) * CAPACITY, `${load}×: ${served} a second are served`);
    t.ok(Math.abs(served + refused - load * CAPACITY) < 0.02 * load * CAPACITY, `${load}×: everyone has an answer`);
    t.equal(changes.length, 1, 'begun once');
  }
  t.end();
});

t.test('the same where each request brings a connection, so that the queue is in the kernel and turns stay short', (t) => {
  const run = (terms: OverloadTerms, load: number) => simulateLoop({ connects: true, terms, costs: COSTS, rate: () => CONNECT_CAPACITY * load, length: 4000, warm: 2000 });
  t.equal(run(OFF, 2).served, 0, 'without it, nothing that arrived after two seconds is served within four');
  for (const load of [1.2, 2]) {
    const { served, refused, p99, changes } = run(ON, load);
    t.ok(p99 < 2 * ON.loopDelay, `${load}×: p99 is ${p99} ms`);
    // The turn that accepts what is refused is not free either.
    const cost = (COSTS.turn + COSTS.refusal) * (CONNECT_CAPACITY / 1000);
    t.ok(served > 0.9 * ((1 - load * cost) / (1 - cost)) * CONNECT_CAPACITY, `${load}×: ${served} a second are served`);
    t.ok(Math.abs(served + refused - load * CONNECT_CAPACITY) < 0.02 * load * CONNECT_CAPACITY, `${load}×: everyone has an answer`);
    t.equal(changes.length, 1, 'begun once');
  }
  t.ok(run(ON, 4).served > 0.05 * CONNECT_CAPACITY, 'and where refusing alone is more than can be done, some are served all the same');
  for (const load of [0.5, 0.9, 0.98]) t.equal(run(ON, load).refused, 0, `nothing is refused at ${load}×`);
  t.match(simulateLoop({ connects: true, terms: ON, costs: COSTS, rate: () => CONNECT_CAPACITY * 0.5, length: 4000, warm: 0, pauses: new Map(Array.from({ length: 20 }, (_, i) => [i * 190, 60] as const)) }), { refused: 0, changes: { length: 0 } }, 'nor where pauses of 60 ms, five a second, let queues stand');
  t.end();
});

t.test('below the capacity nothing is refused: bursts, and pauses of the collector', (t) => {
  const calm = (rate: (at: number) => number, pauses: readonly (readonly [number, number])[] = []) => simulateLoop({ terms: ON, costs: COSTS, rate, length: 4000, warm: 0, pauses: new Map(pauses) });
  t.match(calm(() => CAPACITY * 0.95), { refused: 0, changes: { length: 0 } }, 'near the capacity');
  t.match(calm((at) => (at % 1000 < 60 ? CAPACITY * 3 : CAPACITY * 0.4)), { refused: 0, changes: { length: 0 } }, 'bursts of three times as much');
  t.match(calm(() => CAPACITY * 0.5, Array.from({ length: 20 }, (_, i) => [i * 190, 60] as const)), { refused: 0, changes: { length: 0 } }, 'pauses of 60 ms, five a second');
  t.match(calm(() => 50, Array.from({ length: 20 }, (_, i) => [i * 190, 120] as const)), { refused: 0, changes: { length: 0 } }, 'pauses longer than a window, and hardly any requests');
  t.end();
});

t.test('it ends when less comes', (t) => {
  const { changes } = simulateLoop({ terms: ON, costs: COSTS, rate: (at) => CAPACITY * (at < 1500 ? 2 : 0.5), length: 4000, warm: 1500 });
  t.match(changes, [{ cause: 'loop', refused: 0 }, { cause: null }]);
  const refused = changes[1]?.refused ?? 0;
  t.ok(refused > CAPACITY && refused < 2 * CAPACITY, `the log says how many were refused: ${refused}`);
  t.end();
});

/** Turned by hand. */
function setUp(terms: OverloadTerms) {
  let now = 0;
  let share = 0;
  let use = { busy: 0, worked: 0, idle: 0, turns: 0 };
  let onTurnEnd = (): void => {};
  const told: OverloadChange[] = [];
  const overload = new Overload({
    terms,
    now: () => now,
    loop: () => use,
    memory: { read: () => ({ of: 'cgroup', used: share * 1000, limit: 1000, share }), close: () => {} },
    atTurnEnd: (callback) => {
      onTurnEnd = callback;
    },
    onChange: (change) => void told.push(change),
  });
  return {
    overload,
    told,
    /**
     * So many windows, each with this many turns.
     * @param worked of each window, ms; the rest is waiting for a core, or idle
     * @param accept called this many times in each
     */
    pass: (windows: number, turns: number, worked = 100, busy = worked, accept: [count: number, queue: AcceptQueue] = [0, new AcceptQueue()]): void => {
      for (let window = 0; window < windows; window += 1) {
        for (let count = 0; count < accept[0]; count += 1) overload.connectionRefusal(accept[1]);
        now += 100;
        use = { busy: use.busy + busy, worked: use.worked + worked, idle: use.idle + 100 - busy, turns: use.turns + turns };
        overload.look();
      }
    },
    later: (ms: number): number => (now += ms),
    endTurn: (): void => {
      onTurnEnd();
    },
    use: (part: number): void => {
      share = part;
    },
  };
}

t.test('two slow windows are not enough, nor are slow turns with rests, nor those of a thread that has no core', (t) => {
  const { overload, pass } = setUp(ON);
  pass(2, 10);
  t.equal(overload.cause, null, 'two windows');
  pass(1, 1000);
  pass(2, 10);
  t.equal(overload.cause, null, 'and two more, not on end');
  pass(10, 10, 85);
  t.equal(overload.cause, null, 'the loop rests');
  pass(10, 10, 15, 100);
  t.equal(overload.cause, null, 'others have the core');
  pass(3, 10);
  t.equal(overload.cause, 'loop');
  t.end();
});

t.test('turns that each accept a connection begin it, of one queue, and without a rest', (t) => {
  const { overload, pass } = setUp(ON);
  const queue = new AcceptQueue();
  pass(10, 1000, 100, 100, [500, queue]);
  pass(10, 1000, 85, 85, [1000, queue]);
  pass(2, 1000, 100, 100, [1000, queue]);
  t.equal(overload.cause, null, 'half of the turns, all with rests, two windows');
  pass(1, 1000, 100, 100, [1000, queue]);
  t.equal(overload.cause, 'loop');
  t.end();
});

t.test('a queue has its budget from the turn on that found it empty', (t) => {
  const { overload, pass, later, endTurn } = setUp(ON);
  const [standing, other] = [new AcceptQueue(), new AcceptQueue()];
  pass(3, 10);
  const turn = (...queues: AcceptQueue[]): boolean[] => {
    later(0.5);
    endTurn();
    return queues.map((queue) => overload.connectionRefusal(queue) !== null);
  };
  t.strictSame(Array.from({ length: 6 }, () => turn(standing)[0]), [false, false, false, false, false, true], 'for as long as the budget');
  t.strictSame(turn(standing, other), [true, false], 'each queue its own');
  t.strictSame(turn(), []);
  t.strictSame(turn(standing, other), [false, false], 'a turn has accepted none: it was empty');
  const patient = Array.from({ length: 60 }, () => turn(standing)[0]);
  t.equal(patient.indexOf(true), 4);
  t.equal(patient.indexOf(false, 4), 32, 'and never empty, it is served again after eight budgets');
  t.end();
});

t.test('each turn has its budget', (t) => {
  const { overload, pass, later, endTurn } = setUp(ON);
  pass(3, 10);
  t.equal(overload.refusal(later(2)), null);
  t.match(overload.refusal(later(1)), { code: 'overloaded', kind: { status: 503 } });
  endTurn();
  t.equal(overload.refusal(later(0)), null, 'the next turn');
  t.equal(overload.connectionRefusal(new AcceptQueue()), null);
  later(1);
  t.match(overload.connectionRefusal(new AcceptQueue()), { code: 'overloaded' }, 'a connection is more work than a request');
  t.equal(overload.refusal(later(0)), null);
  later(5);
  const before = overload.logsRefusal;
  const waits = Array.from({ length: 12 }, () => overload.refusal(later(0))?.retryAfter);
  t.strictSame([before, overload.logsRefusal], [true, false], 'a line for each would cost too much');
  t.strictSame(new Set(waits), new Set([1, 2, 3]), 'not all come back in the same second');
  t.end();
});

t.test('without memory all is refused, until there is some again', (t) => {
  const { overload, told, pass, use } = setUp({ loopDelay: 0, memoryPercent: 90 });
  use(0.91);
  pass(6, 1000, 1);
  t.match([overload.refusal(0), overload.connectionRefusal(new AcceptQueue())], [{ code: 'overloaded', message: /memory/ }, { code: 'overloaded' }]);
  use(0.88);
  pass(6, 1000, 1);
  t.equal(overload.cause, 'memory', 'not yet');
  use(0.84);
  pass(6, 1000, 1);
  t.equal(overload.refusal(0), null);
  t.match(told, [{ cause: 'memory', memory: { of: 'cgroup', used: 910 } }, { cause: null, refused: 2 }]);
  t.end();
});

t.test('another configuration: off, on, another limit', (t) => {
  const { overload, told, pass, later, use } = setUp(OFF);
  use(0.99);
  pass(20, 1);
  t.equal(overload.cause, null);
  overload.adopt(ON);
  pass(3, 1);
  t.ok(overload.refusal(later(100)));
  overload.adopt(OFF);
  t.equal(overload.refusal(later(100)), null);
  overload.adopt({ loopDelay: 0, memoryPercent: 90 });
  pass(6, 1000, 1);
  t.equal(overload.cause, 'memory');
  overload.adopt({ loopDelay: 0, memoryPercent: 100 });
  t.equal(overload.refusal(0), null);
  t.match(told, [{ cause: 'loop' }, { cause: null }, { cause: 'memory' }, { cause: null }]);
  t.end();
});

t.test('after its end nothing is refused', (t) => {
  const { overload, pass, later } = setUp(ON);
  pass(3, 1);
  overload.close();
  t.equal(overload.refusal(later(100)), null);
  t.equal(overload.connectionRefusal(new AcceptQueue()), null);
  t.end();
});
