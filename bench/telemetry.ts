/** What one `Telemetry.ended` costs in processor time, metrics and log apart. Run: `bin/node bench/telemetry.ts`. */
import { createWriteStream } from 'node:fs';
import { Writable } from 'node:stream';
import { setImmediate } from 'node:timers/promises';
import type { LogConfig } from '../src/config/config.ts';
import { AccessRecord, createRequestIds } from '../src/telemetry/access-record.ts';
import { createTelemetry } from '../src/telemetry/create-telemetry.ts';
import type { RunningTelemetry } from '../src/telemetry/create-telemetry.ts';
import { createMetrics } from '../src/telemetry/metrics.ts';

const ROUNDS = 300_000;
const SLICE = 100;
const policy = { hash: 'bench', file: '-', loadedAt: 0, warnings: new Map(), clients: ['dynatrace-sit'], destinations: ['eco-sit'], limits: { connections: 10_000, tunnels: 4_000 }, certificates: new Map(), hops: new Map(), ruleEnds: [] };
const nextId = createRequestIds();

function sample(): AccessRecord {
  const record = new AccessRecord(nextId(), 0, '10.8.3.17');
  record.form = 'gateway';
  record.client = 'dynatrace-sit';
  record.method = 'POST';
  record.host = 'eco-sit.telus.internal';
  record.port = 443;
  record.path = '/api/v1/problems/4711/comments';
  record.destination = 'eco-sit';
  record.rule = 'rules[0]';
  record.verdict = 'allow';
  record.status = 200;
  record.upstreamAddress = '10.40.1.9';
  record.reusedConnection = true;
  record.firstByteMs = 11.8231;
  record.durationMs = 12.1829;
  record.bytesSent = 812;
  record.bytesReceived = 4096;
  record.closedBy = 'upstream';
  record.traceId = '0af7651916cd43dd8448eb211c80319c';
  record.spanId = 'b7ad6b7169203331';
  return record;
}

/** In slices, with the event loop between them: batches must really be written, not only gathered. */
async function repeat(rounds: number, run: () => void): Promise<void> {
  for (let done = 0; done < rounds; done += SLICE) {
    for (let round = 0; round < SLICE; round += 1) run();
    await setImmediate();
  }
}

async function measure(name: string, run: () => void): Promise<void> {
  await repeat(ROUNDS / 10, run);
  const before = process.cpuUsage();
  await repeat(ROUNDS, run);
  const { user, system } = process.cpuUsage(before);
  process.stdout.write(`${name.padEnd(34)} ${((user + system) / ROUNDS).toFixed(3)} µs\n`);
}

const record = sample();
const metrics = createMetrics({ policy, version: 'bench' });
const nowhere = new Writable({ write: (_chunk, _encoding, done) => { done(); }, decodeStrings: false });
const listen = (level: 'info' | 'warn', output: Writable, profile: LogConfig['profile'] = 'plain'): RunningTelemetry =>
  createTelemetry({
    log: { level, format: 'json', profile },
    policy,
    version: 'bench',
    output,
  });
const toNowhere = listen('info', nowhere);
const quiet = listen('warn', nowhere);
const google = listen('info', nowhere, 'google');
const dynatrace = listen('info', nowhere, 'dynatrace');
const toFile = listen('info', createWriteStream('/dev/null'));

await measure('request id', nextId);
await measure('metrics.ended', () => { metrics.ended(record); });
await measure('telemetry.ended, line not wanted', () => { quiet.ended(record); });
await measure('telemetry.ended, line to nowhere', () => { toNowhere.ended(record); });
await measure('telemetry.ended, profile google', () => { google.ended(record); });
await measure('telemetry.ended, profile dynatrace', () => { dynatrace.ended(record); });
await measure('telemetry.ended, line to /dev/null', () => { toFile.ended(record); });
await Promise.all([toNowhere.close(), google.close(), dynatrace.close(), quiet.close(), toFile.close()]);
