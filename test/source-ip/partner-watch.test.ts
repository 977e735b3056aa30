/** When a partner counts as silent, what that is taken for, and what ends it. The clock is the test's. */
import t from 'tap';
import type { FaultCode } from '../../src/errors.ts';
import { PartnerWatch } from '../../src/source-ip/partner-watch.ts';
import type { SilenceFacts } from '../../src/source-ip/judge.ts';

const WELL: SilenceFacts = { source: 'match', stale: false, ports: { used: 5, limit: 100 } };

function createBench(surroundings: SilenceFacts = WELL) {
  const bench = {
    now: 1_000_000,
    surroundings,
    since: [] as number[],
    told: [] as { level: string; message: string; fields: Record<string, unknown> | undefined }[],
    suspected: new Map<string, boolean>(),
    /** Time passes, then something happens. */
    after(ms: number, what: FaultCode | 'connected', destination = 'eco'): void {
      bench.now += ms;
      if (what === 'connected') watch.connected(destination);
      else watch.failed(destination, what);
    },
  };
  const watch = new PartnerWatch({
    destinations: ['eco', 'other'],
    surroundings: (_destination, since) => {
      bench.since.push(since);
      return bench.surroundings;
    },
    telemetry: {
      notice: (level, message, fields) => void bench.told.push({ level, message, fields }),
      whitelistSuspected: (destination, suspected) => {
        if (suspected === null) bench.suspected.delete(destination);
        else bench.suspected.set(destination, suspected);
      },
    },
    now: () => bench.now,
  });
  return { bench, watch };
}

t.test('a clock that was set back makes no silence negative', async (t) => {
  const { bench } = createBench();
  for (const ms of [0, 10_000, 10_000]) bench.after(ms, 'connect-timeout');
  bench.after(-3_600_000, 'connected');
  t.match(bench.told.at(-1), { message: 'the partner answers again', fields: { silentMs: 20_000 } });
});

t.test('three in a row, over twenty seconds', async (t) => {
  type Step = readonly [ms: number, what: FaultCode | 'connected'];
  const T = 'connect-timeout';
  const cases: readonly (readonly [what: string, steps: readonly Step[], silent: boolean])[] = [
    ['three over 20 s', [[0, T], [10_000, T], [10_000, T]], true],
    ['just under 20 s', [[0, T], [10_000, T], [9_999, T]], false],
    ['and a fourth after that', [[0, T], [10_000, T], [9_999, T], [1, T]], true],
    ['the clock was set back by an hour between', [[0, T], [10_000, T], [-3_600_000, T], [10_000, T]], true],
    ['the clock was set back at once', [[0, T], [-3_600_000, T], [19_999, T]], false],
    ['two, however long', [[0, T], [3_600_000, T]], false],
    ['a burst of one moment', Array.from({ length: 50 }, () => [0, T] as const), false],
    ['one succeeded between', [[0, T], [10_000, T], [0, 'connected'], [10_000, T], [10_000, T]], false],
    ['one was refused between: the host answers', [[0, T], [10_000, T], [0, 'connection-refused'], [10_000, T], [10_000, T]], false],
    ['TLS failed between: the host answers', [[0, T], [10_000, T], [0, 'tls-certificate'], [10_000, T]], false],
    ['the resolver failed between', [[0, T], [10_000, T], [0, 'resolver-timeout'], [10_000, T], [10_000, T]], false],
    ['no route between', [[0, T], [10_000, T], [0, 'unreachable'], [10_000, T], [10_000, T]], false],
    ['one was not dialled between', [[0, T], [10_000, T], [0, 'limit-reached'], [10_000, T]], true],
    ['an old connection broke between', [[0, T], [10_000, T], [0, 'upstream-silent'], [10_000, T]], true],
    ['refused alone', Array.from({ length: 5 }, () => [10_000, 'connection-refused'] as const), false],
    ['unreachable alone', Array.from({ length: 5 }, () => [10_000, 'unreachable'] as const), false],
  ];
  for (const [what, steps, silent] of cases) {
    const { bench, watch } = createBench();
    for (const [ms, event] of steps) bench.after(ms, event);
    t.equal(watch.silent.length, silent ? 1 : 0, what);
    t.equal(bench.told.length, silent ? 1 : 0, what);
    t.equal(bench.suspected.get('eco'), silent, what);
    t.equal(bench.suspected.get('other'), false, what);
  }
});

/** Silent for long enough. */
function fallSilent(bench: ReturnType<typeof createBench>['bench']): void {
  for (const ms of [0, 10_000, 10_000]) bench.after(ms, 'connect-timeout');
}

t.test('one line when it begins, one when it ends', async (t) => {
  const { bench, watch } = createBench();
  fallSilent(bench);
  for (let i = 0; i < 20; i += 1) bench.after(10_000, 'connect-timeout');
  t.match(watch.silent, [{ destination: 'eco', cause: 'whitelist', since: 1_000_000, timeouts: 23 }]);
  bench.after(5_000, 'connected');
  bench.after(0, 'connected');
  t.match(bench.told, [
    { level: 'error', message: /does not answer: its whitelist/, fields: { destination: 'eco', cause: 'whitelist', timeouts: 3, since: '1970-01-01T00:16:40.000Z', sourceIp: 'match', portsUsed: 5, portsLimit: 100, check: /ask the partner/ } },
    { level: 'info', message: 'the partner answers again', fields: { destination: 'eco', was: 'whitelist', timeouts: 23, silentMs: 225_000 } },
  ]);
  t.equal(bench.told.length, 2);
  t.equal(bench.suspected.get('eco'), false);
  t.strictSame(watch.silent, []);
});

t.test('a refusal ends it too, and says so', async (t) => {
  const { bench } = createBench();
  fallSilent(bench);
  bench.after(0, 'connection-refused');
  t.match(bench.told.at(-1), { level: 'info', message: /answers again, with connection-refused/ });
  t.equal(bench.suspected.get('eco'), false);
});

t.test('a failing resolver does not end the silence: the partner has not answered', async (t) => {
  const { bench, watch } = createBench();
  fallSilent(bench);
  bench.after(0, 'resolver-failed');
  t.equal(watch.silent.length, 1);
  t.equal(bench.suspected.get('eco'), true);
});

t.test('the metric is 1 for the whitelist alone', async (t) => {
  for (const [source, cause, level, suspected] of [
    ['match', 'whitelist', 'error', true],
    ['mismatch', 'source-address', 'error', false],
    ['unknown', 'way-out', 'error', false],
    ['off', 'unproven', 'warn', false],
  ] as const) {
    const { bench } = createBench({ ...WELL, source });
    fallSilent(bench);
    t.match(bench.told, [{ level, fields: { cause } }], source);
    t.equal(bench.suspected.get('eco'), suspected, source);
  }
  const { bench } = createBench({ ...WELL, ports: { used: 100, limit: 100 } });
  fallSilent(bench);
  t.match(bench.told, [{ fields: { cause: 'nat-ports', portsUsed: 100 } }]);
  t.equal(bench.suspected.get('eco'), false);
});

t.test('a probe that ends later tells the cause, and may change it', async (t) => {
  const { bench, watch } = createBench({ ...WELL, source: 'pending' });
  fallSilent(bench);
  t.strictSame([bench.told, watch.silent], [[], []], 'nothing is known yet');
  t.ok(bench.since.every((since) => since === 1_000_000), 'the probe has to be younger than the silence');
  bench.surroundings = WELL;
  watch.reconsider();
  watch.reconsider();
  t.equal(bench.suspected.get('eco'), true);
  bench.surroundings = { ...WELL, source: 'mismatch' };
  watch.reconsider();
  t.equal(bench.suspected.get('eco'), false);
  bench.surroundings = { ...WELL, source: 'unknown' };
  watch.reconsider();
  t.match(bench.told, [{ fields: { cause: 'whitelist' } }, { fields: { cause: 'source-address' } }], 'a failed probe changes nothing');
  t.equal(bench.told.length, 2);
});

t.test('destinations come and go', async (t) => {
  const { bench, watch } = createBench();
  fallSilent(bench);
  watch.adopt(['eco', 'new']);
  t.strictSame([...bench.suspected], [['eco', true], ['new', false]]);
  t.equal(watch.silent.length, 1);
  watch.adopt(['new']);
  t.strictSame([...bench.suspected], [['new', false]]);
  t.strictSame(watch.silent, []);
  fallSilent(bench);
  bench.after(0, 'connected', 'nobody');
  t.strictSame(watch.silent, [], 'who is not watched is not counted');
});
