/** The probe by itself: when it asks, what it keeps, what it tells. No endpoint and no clock but the test's. */
import t from 'tap';
import type { SourceIpConfig } from '../../src/config/config.ts';
import { Fault } from '../../src/errors.ts';
import { SourceProbe } from '../../src/source-ip/source-probe.ts';
import { configOf, MINIMAL } from '../support/load-text.ts';

const WITH_PROBE = `${MINIMAL}\nsourceIp: { expected: 34.123.45.67, probe: { url: "http://echo.example/", every: 60s } }\n`;
const config = configOf(WITH_PROBE).sourceIp;
if (config === null) throw new Error('no sourceIp');

interface Told {
  readonly level: string;
  readonly message: string;
  readonly fields: Record<string, unknown> | undefined;
}

/** A probe whose endpoint answers with what `next` is given, one probe after the other. */
function createBench(started: SourceIpConfig | null, random = 0.5) {
  const told: Told[] = [];
  const counted: unknown[] = [];
  const waits: number[] = [];
  let asked = Promise.withResolvers<{ settle: (answer: string | Fault) => void; signal: AbortSignal }>();
  let waiting = Promise.withResolvers<() => void>();
  let now = 0;
  const probe = new SourceProbe({
    config: started,
    ask: (_probe, signal) => {
      if (signal.aborted) return Promise.reject(new Fault('client-closed', 'given up'));
      const answer = Promise.withResolvers<string>();
      signal.addEventListener('abort', () => {
        answer.reject(new Fault('client-closed', 'given up'));
      });
      asked.resolve({ signal, settle: (given) => { if (given instanceof Fault) answer.reject(given); else answer.resolve(given); } });
      return answer.promise.then((address) => ({ address, endpointAddress: '192.0.2.1', localAddress: null, dnsMs: 0, tcpMs: 0, hopMs: -1, tlsMs: -1, answerMs: 0 }));
    },
    telemetry: {
      notice: (level, message, fields) => void told.push({ level, message, fields }),
      sourceAsked: () => void counted.push('asked anew'),
      sourceProbed: (...what) => void counted.push(what),
    },
    now: () => now,
    random: () => random,
    onProbed: () => {},
    wait: (ms, signal) => {
      waits.push(ms);
      const wait = Promise.withResolvers<undefined>();
      signal.addEventListener('abort', () => {
        wait.reject(new Error('aborted'));
      });
      waiting.resolve(() => {
        wait.resolve(undefined);
      });
      return wait.promise;
    },
  });
  return {
    probe, told, counted, waits,
    /** Answers the question that is open, or the next one, and comes back when the probe waits again. */
    async answer(given: string | Fault): Promise<void> {
      const question = await asked.promise;
      asked = Promise.withResolvers();
      now += 1000;
      waiting = Promise.withResolvers();
      question.settle(given);
      (await waiting.promise)();
    },
    get asked() {
      return asked.promise;
    },
  };
}

t.test('asks at once, then about every interval', async (t) => {
  const seldom = 576 * 3_600_000;
  for (const [every, random, ms] of [[60_000, 0, 54_000], [60_000, 0.5, 60_000], [60_000, 1, 66_000], [seldom, 1, 2 ** 31 - 1]] as const) {
    const bench = createBench({ ...config, probe: config.probe === null ? null : { ...config.probe, every } }, random);
    bench.probe.start();
    t.equal(bench.probe.finding, null);
    await bench.answer('34.123.45.67');
    await bench.answer('34.123.45.67');
    t.strictSame(bench.waits, [ms, ms]);
    await bench.probe.close();
  }
});

t.test('the longest interval is no longer than a timer can wait', async (t) => {
  const bench = createBench(configOf(WITH_PROBE.replace('60s', '576h')).sourceIp, 1);
  bench.probe.start();
  await bench.answer('34.123.45.67');
  t.strictSame(bench.waits, [2 ** 31 - 1]);
  await bench.probe.close();
});

t.test('tells each change once', async (t) => {
  const bench = createBench(config);
  bench.probe.start();
  const silent = new Fault('connect-timeout', 'echo.example:80: no answer', { remedy: 'Check it.' });
  for (const answer of ['34.123.45.67', '34.123.45.67', '35.1.2.3', '35.1.2.3', '35.1.2.4', '35.1.2.3', silent, silent, new Fault('tls-failed', 'no'), '34.123.45.67', '10.0.0.1']) await bench.answer(answer);
  await bench.probe.close();
  t.match(bench.told, [
    { level: 'info', message: /is right/, fields: { seen: '34.123.45.67' } },
    { level: 'error', message: /WRONG/, fields: { seen: '35.1.2.3', expected: ['34.123.45.67'] } },
    { level: 'error', fields: { seen: '35.1.2.4' } },
    { level: 'warn', message: /not known/, fields: { code: 'connect-timeout', reason: 'echo.example:80: no answer; Check it.' } },
    { level: 'warn', fields: { code: 'tls-failed' } },
    { level: 'info', message: /is right/ },
    { level: 'error', fields: { seen: '10.0.0.1', remark: /not a public address/ } },
  ]);
  t.equal(bench.told.length, 7);
  t.strictSame(bench.counted.slice(0, 3), [['match', '34.123.45.67', 1000], ['match', '34.123.45.67', 2000], ['mismatch', '35.1.2.3', 3000]]);
  t.strictSame(bench.counted[6], ['unknown', null, 7000]);
});

t.test('addresses without end do not fill the log', async (t) => {
  const bench = createBench(config);
  bench.probe.start();
  for (let i = 0; i < 50; i += 1) await bench.answer(`35.1.2.${i}`);
  await bench.probe.close();
  t.equal(bench.told.length, 8);
  t.equal(bench.counted.length, 50);
});

t.test('a failed probe is unknown, and keeps what was known before', async (t) => {
  const bench = createBench(config);
  bench.probe.start();
  await bench.answer('34.123.45.67');
  await bench.answer('34.123.45.67');
  await bench.answer(new Fault('upstream-silent', 'no answer'));
  t.match(bench.probe.finding, { result: 'unknown', seen: null, fault: { code: 'upstream-silent' }, at: 3000, since: 3000 });
  t.match(bench.probe.lastJudged, { result: 'match', seen: '34.123.45.67', at: 2000, since: 1000 });
  await bench.probe.close();
});

t.test('nothing expected is no match', async (t) => {
  const bench = createBench({ ...config, expected: [] });
  bench.probe.start();
  await bench.answer('34.123.45.67');
  t.match(bench.probe.finding, { result: 'unjudged', seen: '34.123.45.67' });
  t.match(bench.told, [{ level: 'info', message: /none is expected/ }]);
  await bench.probe.close();
});

t.test('a reload that changes the proof begins anew, another changes nothing', async (t) => {
  const bench = createBench(config);
  bench.probe.start();
  await bench.answer('34.123.45.67');
  const first = await bench.asked;
  bench.probe.adopt(structuredClone(config));
  t.notOk(first.signal.aborted, 'the same in other objects');
  t.match(bench.probe.finding, { result: 'match' });
  bench.probe.adopt({ ...config, gateReadiness: true, probe: config.probe === null ? null : { ...config.probe, every: 1000 } });
  t.ok(first.signal.aborted);
  t.match([bench.probe.finding, bench.probe.lastJudged], [{ result: 'match' }, { result: 'match' }], 'the same question: what is known stays known');
  bench.probe.adopt({ ...config, expected: ['35.1.2.3'] });
  t.equal(bench.probe.finding, null);
  t.equal(bench.counted.at(-1), 'asked anew');
  bench.probe.adopt(null);
  t.notOk(bench.probe.asks);
  await bench.probe.close();
  t.equal(bench.told.length, 1, 'what was given up tells nothing');
});

t.test('without an endpoint nothing is asked', async (t) => {
  for (const none of [null, { ...config, probe: null }]) {
    const bench = createBench(none);
    bench.probe.start();
    await bench.probe.close();
    t.strictSame([bench.waits, bench.told, bench.counted], [[], [], []]);
  }
});
