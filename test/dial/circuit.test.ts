/** When the circuit of an address opens, whom it lets try, and when it is forgotten: the state machine alone, by a clock that is told. */
import fc from 'fast-check';
import t from 'tap';
import { Circuit, type CircuitFailure, type CircuitTrial } from '../../src/dial/circuit.ts';

const TERMS = { failures: 3, over: 2000, pause: 1000, longestPause: 4000, statuses: [] };
const MIDDLE = (): number => 0.5;
const REFUSED: CircuitFailure = { reason: 'ECONNREFUSED', client: null, unanswered: false };
const silentTo = (client: string): CircuitFailure => ({ reason: 'upstream-silent', client, unanswered: true });

/** Fails at these times, as no trial. */
function failingAt(times: readonly number[], failure = REFUSED, terms = TERMS): Circuit {
  const circuit = new Circuit(terms, MIDDLE);
  for (const at of times) circuit.failed(failure, null, at);
  return circuit;
}

t.test('opens by the number of failures, and by the time since the first of them', async (t) => {
  const table: [times: number[], state: string][] = [
    [[0], 'closed'],
    [[0, 2000], 'closed'],
    [[0, 1, 2], 'closed'],
    [[0, 1, 1999], 'closed'],
    [[0, 1, 2000], 'open'],
    [[0, 1, 2, 3, 4, 5, 1999], 'closed'],
    [[0, 1, 2, 3, 4, 5, 2000], 'open'],
    [[0, 600_000, 1_200_000], 'open'],
  ];
  for (const [times, state] of table) t.equal(failingAt(times).state(times.at(-1) ?? 0), state, times.join(', '));
  t.equal(failingAt([0, 1, 600_002]).failures, 1, 'what was long ago is no part of the row');
  t.equal(failingAt([0, 0, 0], REFUSED, { ...TERMS, over: 0 }).state(0), 'open');
});

t.test('says once that it opened', async (t) => {
  const circuit = failingAt([0, 1]);
  t.equal(circuit.failed(REFUSED, null, 2000), true);
  t.equal(circuit.failed(REFUSED, null, 2001), false);
  const trial = circuit.claim(3000);
  t.equal(circuit.failed(REFUSED, trial, 3001), false);
});

t.test('one trial after each pause, and the pause doubles up to the longest', async (t) => {
  const circuit = failingAt([0, 1, 2000]);
  let now = 2000;
  for (const pause of [1000, 2000, 4000, 4000]) {
    t.equal(circuit.claim(now + pause - 1), null);
    t.equal(circuit.state(now + pause - 1), 'open');
    t.equal(circuit.nextTrialAt(now), now + pause);
    now += pause;
    t.equal(circuit.state(now), 'due');
    const trial = circuit.claim(now);
    t.not(trial, null);
    t.equal(circuit.state(now), 'half-open');
    t.equal(circuit.claim(now), null, 'exactly one');
    circuit.failed(REFUSED, null, now);
    t.equal(circuit.state(now), 'half-open', 'a failure of what began before is no result of the trial');
    circuit.failed(REFUSED, trial, now);
    t.equal(circuit.state(now), 'open');
  }
});

t.test('a trial that is given back may be had at once; one that lapsed counts for nothing', async (t) => {
  const circuit = failingAt([0, 1, 2000]);
  const first = circuit.claim(3000);
  if (first === null) throw new Error('no trial');
  circuit.giveBack(first);
  t.equal(circuit.state(3000), 'due');
  const second = circuit.claim(3000);
  circuit.giveBack(first);
  t.equal(circuit.state(3000), 'half-open', 'only the one under way can be given back');
  t.equal(circuit.claim(6999), null);
  const third = circuit.claim(7000);
  t.not(third, null, 'after the longest pause without a result');
  circuit.failed(REFUSED, second, 7000);
  t.equal(circuit.state(7000), 'half-open');
  circuit.failed(REFUSED, third, 7000);
  t.equal(circuit.state(7000), 'open');
});

t.test('the pause varies by a tenth', async (t) => {
  for (const [random, due] of [[0, 2900], [0.5, 3000], [0.999_999, 3099]] as const) {
    const circuit = new Circuit(TERMS, () => random);
    for (const at of [0, 1, 2000]) circuit.failed(REFUSED, null, at);
    t.equal(circuit.state(due - 1), 'open');
    t.equal(circuit.state(due + 1), 'due');
  }
});

t.test('what may be due to the requests of one client concerns that client', async (t) => {
  const own = failingAt([0, 1, 2000], silentTo('10.0.0.1'));
  t.strictSame([own.blocks('10.0.0.1'), own.blocks('10.0.0.2'), own.blocks(null)], [true, false, false]);
  own.failed(silentTo('10.0.0.2'), null, 2001);
  t.strictSame([own.blocks('10.0.0.1'), own.blocks('10.0.0.3'), own.blocks(null)], [true, true, true], 'another has found the same');
  const connects = failingAt([0, 1, 2000]);
  t.strictSame([connects.blocks('10.0.0.1'), connects.blocks(null)], [true, true]);
  const ten = { ...TERMS, failures: 10 };
  const most = failingAt([0, 1, 2, 3, 4, 5, 6, 7, 8], silentTo('10.0.0.1'), ten);
  t.equal(most.failed(silentTo('10.0.0.2'), null, 2000), true);
  t.strictSame(['10.0.0.1', '10.0.0.2', null].map((client) => most.blocks(client)), [true, false, false], 'nine of one client, and one of another');
  for (const [other, blocked] of [['10.0.0.2', false], ['10.0.0.3', false], [null, false], ['10.0.0.2', true]] as const) {
    most.failed({ reason: 'x', client: other, unanswered: true }, null, 2001);
    t.equal(most.blocks('10.0.0.4'), blocked, 'half as many of others');
  }
  const evenly = new Circuit(ten, MIDDLE);
  for (let at = 0; at < 10; at++) evenly.failed(silentTo(`10.0.0.${at % 2}`), null, at * 1000);
  t.equal(evenly.blocks(null), true, 'no later because there are two');
  const mixed = failingAt([0, 1], silentTo('10.0.0.1'));
  mixed.failed(REFUSED, null, 2000);
  t.equal(mixed.blocks(null), true);
  t.equal(failingAt([0, 1], silentTo('10.0.0.1')).blocks('10.0.0.1'), false, 'closed');
});

t.test('a connection proves something where connections failed', async (t) => {
  t.equal(failingAt([0, 1]).provedByConnection, true);
  t.equal(failingAt([0, 1], silentTo('10.0.0.1')).provedByConnection, false);
});

t.test('forgotten after ten minutes without a failure or a trial', async (t) => {
  t.equal(failingAt([0]).isForgotten(600_000), false);
  t.equal(failingAt([0]).isForgotten(600_001), true);
  const open = failingAt([0, 1, 2000]);
  t.equal(open.isForgotten(603_000), false, 'from the end of its pause');
  t.equal(open.isForgotten(603_001), true);
});

/** The same rules, as plainly as they can be said: everything that happened is kept, and looked through. */
class Model {
  readonly row: { readonly at: number; readonly client: string | null }[] = [];
  opened = false;
  until = 0;
  pause = 0;
  trial: { readonly id: number; readonly at: number } | null = null;

  state(now: number): string {
    if (!this.opened) return 'closed';
    if (this.trial !== null && now - this.trial.at < TERMS.longestPause) return 'half-open';
    return now >= this.until ? 'due' : 'open';
  }

  failed(client: string | null, id: number, now: number): void {
    this.row.push({ at: now, client });
    if (!this.opened) {
      this.opened = this.row.length >= TERMS.failures && now - (this.row[0]?.at ?? 0) >= TERMS.over;
      if (this.opened) this.rest(TERMS.pause, now);
    } else if (this.trial !== null && this.trial.id === id) {
      this.trial = null;
      this.rest(Math.min(TERMS.longestPause, 2 * this.pause), now);
    }
  }

  rest(pause: number, now: number): void {
    this.pause = pause;
    this.until = now + pause;
  }

  blocks(client: string | null): boolean {
    if (!this.opened) return false;
    let suspect: string | null = null;
    // After each failure of the row: once for everybody, it stays so.
    for (let end = 1; end <= this.row.length; end++) {
      const of = (one: string): number => this.row.slice(0, end).filter((failure) => failure.client === one).length;
      const most = Math.max(of('a'), of('b'));
      if (end - most >= TERMS.failures / 2 - 0.5) return true;
      suspect = of('a') === most ? 'a' : 'b';
    }
    return client === suspect;
  }
}

t.test('any history: as the model has it, with one trial at a time, and open for no longer than the longest pause', async () => {
  const event = fc.oneof(
    fc.record({ kind: fc.constant('fail' as const), client: fc.constantFrom(null, 'a', 'b'), trial: fc.nat(9) }),
    fc.record({ kind: fc.constantFrom('claim' as const, 'back' as const), trial: fc.nat(9) }),
    fc.record({ kind: fc.constant('wait' as const), ms: fc.constantFrom(0, 1, 500, 999, 1000, 2000, 4000) }),
  );
  fc.assert(
    fc.property(fc.array(event, { maxLength: 60 }), (events) => {
      const circuit = new Circuit(TERMS, MIDDLE);
      const model = new Model();
      /** Every trial that there was: an earlier one may end at any time. */
      const trials: CircuitTrial[] = [];
      let now = 0;
      for (const step of events) {
        if (step.kind === 'wait') now += step.ms;
        else if (step.kind === 'fail') {
          // Late failures of earlier trials and of no trial are the same to the model: their id is not that under way.
          const id = step.trial < trials.length ? step.trial : -1;
          circuit.failed({ reason: 'x', client: step.client, unanswered: false }, trials[id] ?? null, now);
          model.failed(step.client, id, now);
        } else if (step.kind === 'claim') {
          const trial = circuit.claim(now);
          if ((trial !== null) !== (model.state(now) === 'due')) return false;
          if (trial === null) continue;
          model.trial = { id: trials.length, at: now };
          trials.push(trial);
        } else {
          const trial = trials[step.trial];
          if (trial === undefined) continue;
          circuit.giveBack(trial);
          if (model.trial?.id === step.trial) model.trial = null;
        }
        if (circuit.state(now) !== model.state(now)) return false;
        for (const client of [null, 'a', 'b']) if (circuit.blocks(client) !== model.blocks(client)) return false;
        if (circuit.openSince !== null && circuit.nextTrialAt(now) > now + TERMS.longestPause) return false;
      }
      return true;
    }),
    { numRuns: 2000 },
  );
});
