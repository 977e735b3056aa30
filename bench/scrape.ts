/**
 * What a scrape costs and how long it holds others up, with as many series as
 * there can be: 50 clients, 200 destinations, all label sets taken. Run: `bin/node bench/scrape.ts`.
 */
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setImmediate, setTimeout as delay } from 'node:timers/promises';
import { FAULTS, type FaultCode } from '../src/errors.ts';
import { AccessRecord } from '../src/telemetry/access-record.ts';
import { createMetrics } from '../src/telemetry/metrics.ts';

const CLIENTS = 50;
const DESTINATIONS = 200;
const SCRAPES = 5;
const AT_ONCE = 10;

const clients = Array.from({ length: CLIENTS }, (_, index) => `client-${index}`);
const destinations = Array.from({ length: DESTINATIONS }, (_, index) => `destination-${index}`);
const metrics = createMetrics({ policy: { hash: 'bench', file: '-', loadedAt: 0, warnings: new Map(), clients, destinations, limits: { connections: 10_000, tunnels: 4_000 }, certificates: new Map(), hops: new Map(), ruleEnds: [] }, version: 'bench' });
const codes = Object.keys(FAULTS) as FaultCode[];

for (const destination of destinations) {
  metrics.upstreamConnected(destination, 1, 1, 1, 1);
  for (const form of ['connect', 'gateway'] as const) {
    for (const client of clients) {
      for (const code of ['ok', ...codes.slice(0, 10)] as const) {
        const record = new AccessRecord('', 0, '');
        Object.assign(record, { form, destination, client, code, became: form === 'connect' ? 'tunnel' : 'exchange' });
        metrics.ended(record);
      }
    }
  }
}

async function measure(name: string, scrapes: number): Promise<void> {
  await delay(100);
  const histogram = monitorEventLoopDelay({ resolution: 1 });
  histogram.enable();
  const before = process.cpuUsage();
  const began = performance.now();
  const texts = await Promise.all(Array.from({ length: scrapes }, () => metrics.exposition.text()));
  const took = performance.now() - began;
  const { user, system } = process.cpuUsage(before);
  // Its timer has to have its turn as well.
  await setImmediate();
  histogram.disable();
  const [text = ''] = texts;
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#')).length;
  process.stdout.write(`${name.padEnd(16)} ${lines} series, ${(text.length / 1_048_576).toFixed(1)} MiB, ${took.toFixed(0)} ms, ${((user + system) / 1000 / scrapes).toFixed(0)} ms of CPU each; longest turn of the loop ${(histogram.max / 1e6).toFixed(1)} ms, p99 ${(histogram.percentile(99) / 1e6).toFixed(1)} ms\n`);
}

for (let round = 0; round < SCRAPES; round += 1) await measure('one scrape', 1);
await measure(`${AT_ONCE} at once`, AT_ONCE);
