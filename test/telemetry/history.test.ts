/** The history of the status page: what the last seconds, minute and hour added, in memory that does not grow. */
import t from 'tap';
import { DENIAL_CODES } from '../../src/telemetry/access-record.ts';
import { Cells, type PolicyFacts } from '../../src/telemetry/cells.ts';
import { History, HISTORY_STEP, HISTORY_STEPS } from '../../src/telemetry/history.ts';
import { CounterRing, ValueRing } from '../../src/telemetry/rings.ts';
import { makeRecord } from '../support/access-record.ts';

const FACTS: PolicyFacts = { hash: 'x', file: '-', loadedAt: 0, warnings: new Map(), clients: ['pods'], destinations: ['eco'], limits: {}, certificates: new Map(), hops: new Map(), ruleEnds: [] };

class Scene {
  readonly cells = new Cells();
  readonly history: History;
  now = 1_000;

  constructor(before: (cells: Cells) => void = () => {}) {
    this.cells.adopt(FACTS);
    before(this.cells);
    this.history = new History(this.cells, this.now);
  }

  /** So many exchanges of this many ms each. */
  exchange(count: number, durationMs = 7, upstreamStatus = 200): void {
    for (let i = 0; i < count; i += 1) this.cells.countEnd(makeRecord({ form: 'gateway', destination: 'eco', client: 'pods', verdict: 'allow', became: 'exchange', upstreamStatus, durationMs }));
  }

  fail(count: number): void {
    const { errors } = this.cells.destination('eco');
    errors.set('connect-timeout', (errors.get('connect-timeout') ?? 0) + count);
  }

  step(steps = 1): void {
    for (let i = 0; i < steps; i += 1) {
      this.now += HISTORY_STEP;
      this.history.step(this.now);
    }
  }

  get eco(): NonNullable<ReturnType<History['destination']>> {
    const found = this.history.destination('eco', this.now);
    if (found === null) throw new Error('no such destination');
    return found;
  }
}

/** Until no label set is left. */
function fillSets(cells: Cells): void {
  const clients = Array.from({ length: 500 }, (_, i) => `c${i}`);
  cells.adopt({ ...FACTS, clients });
  for (const form of ['connect', 'forward', 'gateway'] as const) for (const code of DENIAL_CODES) for (const client of clients) cells.countEnd(makeRecord({ form, client, code, destination: 'eco', verdict: 'deny' }));
}

t.test('what was counted before the start is left out', async (t) => {
  const scene = new Scene((cells) => {
    cells.destination('eco').admitted = 5_000;
    cells.destination('eco').errors.set('connect-timeout', 7);
  });
  t.match(scene.eco, { requestsPerSecond: 0, requests: 0, failures: { minute: {}, hour: {} }, p50: null, p99: null });
  t.equal(scene.history.destination('other', scene.now), null);
});

t.test('a request counts at once, for ten seconds in the rate, for a minute and an hour in the sums', async (t) => {
  const scene = new Scene();
  scene.exchange(20);
  scene.exchange(2, 7, 503);
  scene.fail(3);
  scene.now += 1_000;
  t.match(scene.eco, { requestsPerSecond: 22, requests: 22, failures: { minute: { 'connect-timeout': 3 }, hour: { 'connect-timeout': 3 } }, errors: { minute: 2, hour: 2 } });
  scene.now -= 1_000;
  scene.step(2);
  t.equal(scene.eco.requestsPerSecond, 2.2, 'over ten seconds');
  scene.step();
  t.equal(scene.eco.requestsPerSecond, 0);
  scene.step(9);
  t.equal(scene.eco.requests, 22, 'after 60 seconds');
  scene.step();
  t.strictSame([scene.eco.requests, scene.eco.failures.minute, scene.eco.errors.minute], [0, {}, 0]);
  t.strictSame([scene.eco.failures.hour, scene.eco.errors.hour], [{ 'connect-timeout': 3 }, 2]);
  scene.step(12 * 59);
  t.match(scene.eco, { failures: { hour: { 'connect-timeout': 3 } } }, 'after almost an hour');
  scene.step(12);
  t.strictSame(scene.eco.failures.hour, {});
});

t.test('percentiles are those of the last minute', async (t) => {
  const scene = new Scene();
  scene.exchange(98, 7);
  scene.exchange(2, 700);
  const { p50, p99 } = scene.eco;
  t.ok(p50 !== null && p50 > 5 && p50 <= 10, String(p50));
  t.ok(p99 !== null && p99 > 500 && p99 <= 1_000, String(p99));
  scene.step(13);
  t.equal(scene.eco.p99, null);
  scene.exchange(1, 3_600_000);
  t.equal(scene.eco.p99, 60_000, 'above the last bound');
});

t.test('a tunnel counts when it is opened, and not again when it ends', async (t) => {
  const scene = new Scene();
  const record = makeRecord({ form: 'connect', destination: 'eco', client: 'pods', verdict: 'allow', became: 'tunnel' });
  scene.cells.countTunnel(record);
  t.equal(scene.eco.requests, 1);
  scene.cells.countEnd(record);
  t.equal(scene.eco.requests, 1);
});

t.test('a tunnel whose permission is withdrawn stays the one request that it was', async (t) => {
  const scene = new Scene();
  const record = makeRecord({ form: 'connect', destination: 'eco', client: 'pods', verdict: 'allow', became: 'tunnel' });
  scene.cells.countTunnel(record);
  scene.step(20);
  scene.cells.countEnd(Object.assign(record, { code: 'revoked' }));
  t.match(scene.eco, { requestsPerSecond: 0, requests: 0 });
  scene.step();
  t.match(scene.eco, { requestsPerSecond: 0, requests: 0 });
  t.match(scene.history.clients(), [{ client: 'pods', requestsPerSecond: 0, requests: 0, denials: 1, tunnels: 0 }]);
  t.equal(scene.history.curves(['eco'])[1]?.requests.at(-1), 0);
});

t.test('a tunnel whose end is counted under no client, for lack of label sets, stays one request of its client', async (t) => {
  const scene = new Scene();
  const record = makeRecord({ form: 'connect', destination: 'eco', client: 'pods', verdict: 'allow', became: 'tunnel' });
  scene.cells.countTunnel(record);
  scene.step(20);
  fillSets(scene.cells);
  scene.step(20);
  scene.cells.countEnd(record);
  scene.step();
  t.ok(scene.cells.folded > 0);
  t.strictSame(scene.history.clients().filter(({ client }) => !client.startsWith('c')), []);
});

t.test('clients: the busiest first, those that did nothing left out', async (t) => {
  const scene = new Scene();
  t.strictSame(scene.history.clients(), []);
  scene.exchange(10);
  scene.cells.countEnd(makeRecord({ form: 'connect', destination: 'eco', client: '-', verdict: 'deny', code: 'no-rule' }));
  t.equal(scene.history.denials(), 1);
  scene.step();
  t.match(scene.history.clients(), [{ client: 'pods', requestsPerSecond: 2, requests: 10, denials: 0, tunnels: 0 }, { client: '-', requests: 0, denials: 1 }]);
  scene.step(13);
  t.strictSame(scene.history.clients(), []);
  t.equal(scene.history.denials(), 0);
});

t.test('curves: a value for each step, at most fifteen minutes of them', async (t) => {
  const scene = new Scene();
  scene.exchange(5);
  scene.fail(1);
  scene.step();
  scene.step();
  t.equal(scene.history.steps, 2);
  t.strictSame(scene.history.curves(['eco', 'other']), [
    { name: '', requests: [1, 0], failures: [12, 0], denials: [0, 0], p99: [] },
    { name: 'eco', requests: [1, 0], failures: [12, 0], denials: [], p99: [10, 10].map(() => scene.history.curves(['eco'])[1]?.p99[0] ?? 0) },
  ]);
  t.strictSame(scene.history.curves([], 1).map(({ requests }) => requests), [[0]]);
  scene.step(HISTORY_STEPS + 10);
  const [total] = scene.history.curves([]);
  t.equal(total?.requests.length, HISTORY_STEPS);
  t.ok(total?.requests.every((value) => value === 0));
});

t.test('what report mode lets pass to hosts of no destination is in the total', async (t) => {
  const scene = new Scene();
  scene.cells.countEnd(makeRecord({ form: 'forward', destination: '-', client: 'pods', verdict: 'report', wouldDeny: 'host-not-allowed', became: 'exchange', upstreamStatus: 200 }));
  t.match(scene.history.destination('-', scene.now), { requests: 1 });
  scene.step();
  t.match(scene.history.curves(['eco']), [{ name: '', requests: [0.2] }, { name: 'eco', requests: [0] }]);
});

t.test('names of another configuration join; what they counted before is left out', async (t) => {
  const scene = new Scene();
  scene.cells.adopt({ ...FACTS, clients: ['pods', 'others'], destinations: ['eco', 'new'] });
  t.equal(scene.history.destination('new', scene.now), null);
  scene.step();
  t.match(scene.history.destination('new', scene.now), { requests: 0 });
});

t.test('the rings: the oldest makes room', async (t) => {
  const counters = new CounterRing(3, 1);
  for (const value of [1, 2, 3, 4]) counters.push(Uint32Array.of(value));
  t.strictSame([0, 1, 2, 9].map((steps) => counters.ago(steps)[0]), [4, 3, 2, 2]);
  const values = new ValueRing(3);
  t.strictSame(values.list(9), []);
  for (const value of [1, null, 1 / 3, 4]) values.push(value);
  t.strictSame(values.list(9), [null, 0.333, 4]);
  t.strictSame(values.list(1), [4]);
});

t.test('what a reload takes away is forgotten at the next step, and begins anew if it comes back', async (t) => {
  const scene = new Scene();
  scene.exchange(3);
  scene.step();
  t.match(scene.history.curves(['eco']), { length: 2, 1: { requests: [0.6] } });
  scene.cells.adopt({ ...FACTS, destinations: ['other'] });
  scene.step();
  t.equal(scene.history.destination('eco', scene.now), null);
  t.strictSame(scene.history.curves(['eco', 'other']).map(({ name }) => name), ['', 'other']);
  scene.cells.adopt(FACTS);
  scene.step();
  t.equal(scene.eco.requests, 0);
});
