/**
 * What tracing costs a request in processor time and in bytes that V8
 * allocates: off, on for a request that is not traced, and for one that is,
 * with all that sends its two spans. The collector is another process.
 * Run: `bin/node bench/tracing.ts`.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setImmediate, setTimeout as delay } from 'node:timers/promises';
import { getHeapStatistics } from 'node:v8';
import type { TracingConfig } from '../src/config/config.ts';
import { AccessRecord } from '../src/telemetry/access-record.ts';
import { Traces } from '../src/telemetry/traces.ts';

const ROUNDS = 200_000;
/** Requests between two looks at the event loop: less than half of the queue. */
const SLICE = 500;
const COLLECTOR = `
  const server = require('node:http').createServer((req, res) => { req.resume(); req.on('end', () => res.end()); });
  server.listen(0, '127.0.0.1', () => process.send(server.address().port));
`;

function sample(): AccessRecord {
  const record = new AccessRecord('5f1c0a9b3d2e-000000001', 0, '10.8.3.17');
  return Object.assign(record, {
    form: 'gateway', client: 'dynatrace-sit', method: 'POST', scheme: 'https', host: 'eco-sit.telus.internal', port: 443, path: '/api/v1/problems/4711/comments', destination: 'eco-sit', rule: 'rules[0]', verdict: 'allow',
    status: 200, upstreamStatus: 200, upstreamAddress: '10.40.1.9', reusedConnection: true, dialled: true, became: 'exchange', firstByteMs: 11.8231, durationMs: 12.1829, bytesSent: 812, bytesReceived: 4096, closedBy: 'upstream', attempts: 1,
  });
}

const collector = spawn(process.execPath, ['-e', COLLECTOR], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
const [port] = (await once(collector, 'message')) as [number];
const config: TracingConfig = { endpoint: `http://127.0.0.1:${port}/v1/traces`, headers: [], sample: 1, perClient: { perMs: 1e6, burst: 1e6, text: '1000000/s' }, serviceName: 'eco-egress', tls: { ca: null, cert: null, key: null, serverName: null } };
const identity = { name: 'eco-egress', version: 'bench', instance: 'bench', hostName: 'bench', pod: null };

async function open(change: Partial<TracingConfig> | null): Promise<Traces> {
  const traces = new Traces({ process: identity, notice: (_, message, fields) => { process.stderr.write(`${message} ${JSON.stringify(fields)}\n`); }, times: { batch: 1 } });
  (await traces.prepare(change === null ? null : { ...config, ...change }))();
  return traces;
}

const record = sample();

async function repeat(rounds: number, traces: Traces, traceId: string, traceFlags: number): Promise<void> {
  const { spans } = traces.facts;
  for (let done = 0; done < rounds; done += SLICE) {
    const before = spans.exported;
    for (let round = 0; round < SLICE; round += 1) {
      record.trace = null;
      record.admitted = false;
      record.traceId = traceId;
      record.spanId = '';
      record.traceFlags = traceFlags;
      traces.admitted(record);
      traces.ended(record);
    }
    // Not in every turn of the event loop: turns cost processor time, too.
    if (record.trace !== null) while (spans.exported < before + SLICE * 2) await delay(1);
    else await setImmediate();
  }
}

async function measure(name: string, change: Partial<TracingConfig> | null, traceId = '', traceFlags = 0): Promise<void> {
  const traces = await open(change);
  const rounds = change?.sample === 1 ? ROUNDS / 5 : ROUNDS;
  await repeat(rounds / 10, traces, traceId, traceFlags);
  const bytes = getHeapStatistics().total_allocated_bytes;
  const before = process.cpuUsage();
  await repeat(rounds, traces, traceId, traceFlags);
  const { user, system } = process.cpuUsage(before);
  const allocated = getHeapStatistics().total_allocated_bytes - bytes;
  const { failed, dropped } = traces.facts.spans;
  process.stdout.write(`${name.padEnd(34)} ${((user + system) / rounds).toFixed(3)} µs  ${(allocated / rounds).toFixed(0)} bytes${failed + dropped === 0 ? '' : `  LOST ${failed + dropped}`}\n`);
  await traces.close();
}

await measure('off', null);
await measure('on, not chosen', { sample: 0 });
await measure('on, its caller did not sample it', { sample: 0 }, '0af7651916cd43dd8448eb211c80319c');
await measure('on, its client has had enough', { sample: 0, perClient: { perMs: 1e-9, burst: 1, text: '1/day' } }, '0af7651916cd43dd8448eb211c80319c', 1);
await measure('traced, and sent', { sample: 1 });
collector.kill();
