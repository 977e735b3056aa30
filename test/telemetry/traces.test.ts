/** What becomes of spans where the collector is down, silent, slow or refuses them: nothing ever waits for it, and what is lost is counted. */
import { createServer } from 'node:net';
import { setImmediate } from 'node:timers/promises';
import * as semconv from '@opentelemetry/semantic-conventions';
import * as incubating from '@opentelemetry/semantic-conventions/incubating';
import t from 'tap';
import type { Test } from 'tap';
import type { TracingConfig } from '../../src/config/config.ts';
import { AccessRecord } from '../../src/telemetry/access-record.ts';
import { Traces } from '../../src/telemetry/traces.ts';
import { findUnusedPort } from '../support/unused-port.ts';
import { listen } from '../support/listen.ts';
import { startOtlpReceiver } from '../support/otlp-receiver.ts';

const TLS = { ca: null, cert: null, key: null, serverName: null };
const QUEUE = 2_048;
const BATCH = 512;

interface Notice {
  readonly level: string;
  readonly message: string;
  readonly fields: Record<string, unknown>;
}

class Notices {
  readonly all: Notice[] = [];
  #told = Promise.withResolvers<undefined>();

  readonly note = (level: string, message: string, fields: Record<string, unknown> = {}): void => {
    this.all.push({ level, message, fields });
    this.#told.resolve(undefined);
    this.#told = Promise.withResolvers();
  };

  async until(count: number): Promise<void> {
    while (this.all.length < count) await this.#told.promise;
  }
}

async function startTraces(t: Test, endpoint: string, { times = {}, ...config }: Partial<TracingConfig> & { readonly times?: { batch?: number; send?: number; flush?: number } } = {}): Promise<{ traces: Traces; notices: Notices }> {
  const notices = new Notices();
  const traces = new Traces({ process: { version: '1.2.3', name: 'eco-egress', instance: 'eco-egress-1', hostName: 'node-1', pod: 'eco-egress-1' }, notice: notices.note, times: { batch: 1, ...times } });
  (await traces.prepare({ endpoint, headers: [], sample: 1, perClient: { perMs: 1000, burst: 1_000_000, text: '1000000/s' }, serviceName: null, tls: TLS, ...config }))();
  t.teardown(() => traces.close());
  return { traces, notices };
}

function ended(traces: Traces, change: (record: AccessRecord) => void = () => {}): AccessRecord {
  const record = new AccessRecord('request-1', performance.now(), '10.8.0.7');
  Object.assign(record, { form: 'forward', client: 'pods', method: 'GET', host: 'eco.example', port: 80, path: '/x', destination: 'eco', rule: 'rules[0]', verdict: 'allow', status: 200, scheme: 'http' });
  change(record);
  traces.admitted(record);
  Object.assign(record, { became: 'exchange', dialled: true, upstreamStatus: 200, upstreamAddress: '192.0.2.7', durationMs: 1 });
  traces.ended(record);
  return record;
}

/** Once so many spans have been given up or taken. */
async function settled(traces: Traces, spans: number): Promise<void> {
  const signal = AbortSignal.timeout(20_000);
  for (;;) {
    signal.throwIfAborted();
    const { exported, failed, dropped } = traces.facts.spans;
    if (exported + failed + dropped >= spans) return;
    await setImmediate();
  }
}

t.test('nothing is traced before a collector is configured, and nothing is loaded', async (t) => {
  const notices = new Notices();
  const traces = new Traces({ process: { version: '1', name: '-', instance: '-', hostName: '-', pod: null }, notice: notices.note });
  (await traces.prepare(null))();
  const record = ended(traces);
  t.equal(record.trace, null);
  t.equal(record.traceId, '');
  t.notOk(record.admitted);
  await traces.close();
});

t.test('attributes are those of the conventions, or begin with eco_egress', async (t) => {
  const receiver = await startOtlpReceiver(t);
  const { traces } = await startTraces(t, receiver.url);
  ended(traces, (record) => { Object.assign(record, { method: 'BREW', dnsMs: 1, tcpMs: 1.5, tlsMs: 2, hopMs: 3, attempts: 2, wouldDeny: 'no-rule', code: 'upstream-cut', firstByteMs: 4 }); });
  const spans = await receiver.received(2);
  const known = new Set<unknown>(Object.values(semconv));
  const names = spans.flatMap(({ attributes }) => Object.keys(attributes));
  t.ok(names.length > 20);
  t.strictSame(names.filter((name) => !name.startsWith('eco_egress.') && !known.has(name)), []);
  const resource = spans[0]?.resource ?? {};
  t.strictSame(resource, { 'service.name': 'eco-egress', 'service.version': '1.2.3', 'service.instance.id': 'eco-egress-1', 'host.name': 'node-1', 'k8s.pod.name': 'eco-egress-1' });
  t.strictSame(Object.keys(resource).filter((name) => !new Set<unknown>(Object.values(incubating)).has(name)), []);
  const client = spans.find(({ kind }) => kind === 'client');
  t.match(client?.attributes, { 'eco_egress.dns_ms': 1, 'eco_egress.tcp_ms': 1.5, 'eco_egress.hop_ms': 3, 'http.request.resend_count': 1 });
});

t.test('by way of a parent, the address is not that of the other end', async (t) => {
  const receiver = await startOtlpReceiver(t);
  const { traces } = await startTraces(t, receiver.url);
  ended(traces, (record) => { record.via = 'parent.example:3128'; });
  const client = (await receiver.received(2)).find(({ kind }) => kind === 'client');
  t.equal(client?.attributes['eco_egress.via'], 'parent.example:3128');
  t.notOk(client !== undefined && 'network.peer.address' in client.attributes);
});

t.test('no collector listens: logged once, counted, and logged again when one does', async (t) => {
  const { traces, notices } = await startTraces(t, `http://127.0.0.1:${await findUnusedPort()}/v1/traces`, { times: { send: 50 } });
  for (let round = 1; round <= 3; round += 1) {
    ended(traces);
    await settled(traces, round * 2);
  }
  t.strictSame(traces.facts.spans, { exported: 0, failed: 6, dropped: 0 });
  t.equal(notices.all.length, 1);
  t.match(notices.all[0], { level: 'warn', message: 'the collector of traces does not take every span', fields: { reason: /ECONNREFUSED/ } });
  t.match(traces.warnings(), [/^The collector of traces has not taken every span since .*ECONNREFUSED.* Spans lost: 6\.$/]);
});

t.test('it takes some spans of a batch and refuses the others: those are lost', async (t) => {
  const receiver = await startOtlpReceiver(t);
  const take = receiver.answer;
  // partial_success { rejected_spans: 1, error_message: "no" }
  receiver.answer = (res) => { res.writeHead(200, { 'content-type': 'application/x-protobuf' }).end(Buffer.from('0a0608011202' + '6e6f', 'hex')); };
  const { traces, notices } = await startTraces(t, receiver.url);
  ended(traces);
  await settled(traces, 2);
  t.strictSame(traces.facts.spans, { exported: 1, failed: 1, dropped: 0 });
  t.match(traces.warnings(), [/it refused 1 of 2 spans of a batch\. Spans lost: 1\.$/]);
  receiver.answer = take;
  ended(traces);
  await settled(traces, 4);
  t.strictSame(traces.facts.spans, { exported: 3, failed: 1, dropped: 0 });
  t.match(notices.all, [{ message: 'the collector of traces does not take every span' }, { message: 'the collector of traces takes spans again', fields: { spansLost: 1 } }]);
});

t.test('it refuses, and then takes them', async (t) => {
  const receiver = await startOtlpReceiver(t);
  const take = receiver.answer;
  const { traces, notices } = await startTraces(t, receiver.url, { times: { send: 50 } });
  for (const [round, status] of [401, 500, 503].entries()) {
    receiver.answer = (res) => { res.writeHead(status, 'No Way').end('body of the collector'); };
    ended(traces);
    await settled(traces, (round + 1) * 2);
  }
  t.equal(notices.all.length, 1, 'one change, one line');
  t.match(notices.all[0], { fields: { reason: 'it answered 401 No Way', spansLost: 2 } });
  receiver.answer = take;
  ended(traces);
  await receiver.received(2);
  await notices.until(2);
  t.match(notices.all[1], { level: 'info', message: 'the collector of traces takes spans again', fields: { spansLost: 6 } });
  t.strictSame(traces.warnings(), []);
  t.strictSame(traces.facts.spans, { exported: 2, failed: 6, dropped: 0 });
});

t.test('it asks for another attempt, and takes that', async (t) => {
  const receiver = await startOtlpReceiver(t);
  const take = receiver.answer;
  const { traces, notices } = await startTraces(t, receiver.url);
  receiver.answer = (res) => {
    res.writeHead(503, { 'retry-after': new Date(0).toUTCString() }).end();
    receiver.answer = take;
  };
  ended(traces);
  await receiver.received(2);
  await settled(traces, 2);
  t.equal(receiver.batches, 2);
  t.strictSame(traces.facts.spans, { exported: 2, failed: 0, dropped: 0 });
  t.strictSame(notices.all, []);
});

t.test('it never answers: the batch is given up, and the next one has a connection', async (t) => {
  const receiver = await startOtlpReceiver(t);
  const take = receiver.answer;
  const { traces, notices } = await startTraces(t, receiver.url, { times: { send: 100 } });
  receiver.answer = () => {};
  ended(traces);
  await settled(traces, 2);
  t.equal(traces.facts.spans.failed, 2);
  t.equal(notices.all.length, 1);
  receiver.answer = take;
  ended(traces);
  await receiver.received(2);
});

t.test('it answers a byte at a time, and never ends: likewise', async (t) => {
  let dripping = 0;
  const collector = createServer((socket) => {
    let drip: NodeJS.Timeout | null = null;
    socket.on('error', () => {});
    socket.on('data', () => {
      if (drip !== null) return;
      dripping += 1;
      socket.write('HTTP/1.1 500 Oh\r\nContent-Length: 1000000\r\n\r\n');
      drip = setInterval(() => socket.write('x'), 10);
    });
    socket.on('close', () => {
      dripping -= 1;
      clearInterval(drip ?? undefined);
    });
  });
  const { traces } = await startTraces(t, `http://127.0.0.1:${await listen(t, collector)}/v1/traces`, { times: { send: 1_000 } });
  for (let round = 1; round <= 2; round += 1) {
    ended(traces);
    await settled(traces, round * 2);
    t.ok(dripping <= 1, 'its connection is closed');
  }
  t.equal(traces.facts.spans.exported, 0);
});

t.test('more than it takes: the queue is bounded, what is too much is counted and nothing waits', async (t) => {
  const receiver = await startOtlpReceiver(t);
  const { traces, notices } = await startTraces(t, receiver.url, { times: { flush: 50 } });
  receiver.answer = () => {};
  const requests = 2_000;
  for (let i = 0; i < requests; i += 1) ended(traces);
  // One batch is on its way, and the queue is full.
  t.equal(traces.facts.spans.dropped, requests * 2 - QUEUE - BATCH);
  await receiver.asked(1);
  await traces.close();
  t.strictSame(traces.facts.spans, { exported: 0, failed: 0, dropped: requests * 2 });
  t.match(notices.all, [{ message: 'spans were lost: the collector did not take the last ones in time', fields: { spans: QUEUE + BATCH } }]);
  t.equal(notices.all.length, 1);
});

t.test('all that waits is sent at the end, in several batches', async (t) => {
  const receiver = await startOtlpReceiver(t);
  const { traces } = await startTraces(t, receiver.url, { times: { batch: 60_000 } });
  for (let i = 0; i < 1_000; i += 1) ended(traces);
  await traces.close();
  t.strictSame(traces.facts.spans, { exported: 2_000, failed: 0, dropped: 0 });
  t.equal(receiver.spans.length, 2_000);
  t.ok(receiver.batches >= 4);
});

t.test('each client has a bound of its own', async (t) => {
  const receiver = await startOtlpReceiver(t);
  const { traces } = await startTraces(t, receiver.url, { perClient: { perMs: 1e-9, burst: 3, text: '3/day' } });
  const traced = (client: string): number => Array.from({ length: 10 }, () => ended(traces, (record) => { record.client = client; })).filter(({ trace }) => trace !== null).length;
  t.equal(traced('pods'), 3);
  t.equal(traced('others'), 3);
  t.equal(traces.facts.limited, 14);
});

t.test('flags of the caller: only the one for sampling counts, and the others that are known are kept', async (t) => {
  const receiver = await startOtlpReceiver(t);
  const { traces } = await startTraces(t, receiver.url);
  const asked = (traceFlags: number): AccessRecord => ended(traces, (record) => { Object.assign(record, { traceId: 'a'.repeat(32), spanId: 'b'.repeat(16), traceFlags }); });
  t.equal(asked(0).trace, null);
  t.equal(asked(2).trace, null);
  t.match(asked(1).trace?.traceparent, /^00-a{32}-[0-9a-f]{16}-01$/);
  t.match(asked(3).trace?.traceparent, /-03$/);
  t.match(asked(255).trace?.traceparent, /-03$/);
});
