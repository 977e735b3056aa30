/** Whatever listens to the data path may fail; nothing that is told ever throws, and the failure is counted and logged once. */
import { PassThrough } from 'node:stream';
import { finished } from 'node:stream/promises';
import t from 'tap';
import { createTelemetry, type RunningTelemetry } from '../../src/telemetry/create-telemetry.ts';
import { Attempts, makeTotal, type Telemetry } from '../../src/telemetry/telemetry.ts';
import { makeRecord } from '../support/access-record.ts';
import { readScrape, sumOf } from '../support/prometheus.ts';

type Line = Record<string, unknown>;

function open(format: 'json' | 'text' = 'json'): { telemetry: RunningTelemetry; lines: () => Promise<string[]> } {
  const output = new PassThrough();
  let written = '';
  output.on('data', (chunk: Buffer) => {
    written += chunk.toString();
  });
  const telemetry = createTelemetry({
    log: { level: 'info', format, profile: 'plain' },
    policy: { hash: 'abc123', file: '-', loadedAt: 0, warnings: new Map(), clients: ['dynatrace-sit'], destinations: ['eco-sit'], limits: { connections: 1, tunnels: 1 }, certificates: new Map(), hops: new Map(), ruleEnds: [] },
    version: '1.2.3',
    output,
  });
  telemetry.watch({
    natPorts: () => {
      throw new Error('no ports today');
    },
  });
  return {
    telemetry,
    lines: async () => {
      await telemetry.close();
      output.end();
      await finished(output);
      return written.split('\n').slice(0, -1);
    },
  };
}

/** A record of which one field cannot be read. */
function brokenRecord(field: 'path' | 'destination'): ReturnType<typeof makeRecord> {
  return Object.defineProperty(makeRecord(), field, {
    get() {
      throw new Error(`${field} is broken`);
    },
  });
}

t.test('a record that cannot be counted is logged all the same, and the other way round', async (t) => {
  const { telemetry, lines } = open();
  for (let round = 0; round < 3; round += 1) telemetry.ended(brokenRecord('path'));
  telemetry.ended(makeRecord({ requestId: 'good' }));
  const scrape = readScrape(await telemetry.exposition.text());
  t.equal(sumOf(scrape, 'eco_egress_requests_total'), 4, 'all are counted');
  t.equal(sumOf(scrape, 'eco_egress_telemetry_failures_total', { part: 'log' }), 3);
  t.equal(sumOf(scrape, 'eco_egress_log_lines_dropped_total', { reason: 'unwritable' }), 3);
  t.match(telemetry.warnings(), [/log: 3/]);
  const parsed = (await lines()).map((line) => JSON.parse(line) as Line);
  t.equal(parsed.filter(({ part }) => part === 'log').length, 1, 'logged once');
  t.match(parsed[0], { level: 'error', part: 'log', error: /path is broken/ });
  t.ok(parsed.some(({ requestId }) => requestId === 'good'), 'and what comes after is logged');
});

t.test('neither metrics nor log need the record to be whole', async (t) => {
  const { telemetry, lines } = open();
  telemetry.ended(brokenRecord('destination'));
  telemetry.tunnelOpened(brokenRecord('destination'));
  telemetry.ended(makeRecord({ requestId: 'good' }));
  const scrape = readScrape(await telemetry.exposition.text());
  t.ok(sumOf(scrape, 'eco_egress_telemetry_failures_total', { part: 'metrics' }) >= 2);
  t.equal(sumOf(scrape, 'eco_egress_requests_total'), 1);
  t.ok((await lines()).some((line) => line.includes('"good"')));
});

t.test('a notice with fields that cannot be written', async (t) => {
  for (const format of ['json', 'text'] as const) {
    const { telemetry, lines } = open(format);
    const circular: Line = {};
    circular['self'] = circular;
    const broken = {
      toJSON() {
        throw new Error('no JSON of this');
      },
    };
    telemetry.notice('info', 'one', { circular });
    telemetry.notice('info', 'two', { broken, big: 1n, symbol: Symbol('x') });
    telemetry.notice('info', 'three', Object.defineProperty({}, 'trap', {
      enumerable: true,
      get() {
        throw new Error('a trap');
      },
    }));
    telemetry.notice('info', 'four');
    const written = await lines();
    t.ok(written.at(-1)?.includes('four'), format);
  }
});

t.test('one metric that fails leaves the others', async (t) => {
  const { telemetry } = open();
  telemetry.ended(makeRecord());
  const { samples } = readScrape(await telemetry.exposition.text());
  t.notOk([...samples.keys()].some((name) => name.startsWith('eco_egress_nat_ports')));
  t.equal(samples.get('eco_egress_requests_total{form="gateway",destination="eco-sit",client="dynatrace-sit",outcome="allowed",code="ok"}'), 1);
  t.equal(samples.get('eco_egress_client_connections'), 0);
  const again = readScrape(await telemetry.exposition.text());
  t.ok(sumOf(again, 'eco_egress_telemetry_failures_total', { part: 'metrics' }) > 0);
  await telemetry.close();
});

t.test('an output that throws', async (t) => {
  const output = new PassThrough();
  output.write = (): boolean => {
    throw new Error('broken');
  };
  const telemetry = createTelemetry({ log: { level: 'info', format: 'json', profile: 'plain' }, policy: { hash: 'x', file: '-', loadedAt: 0, warnings: new Map(), clients: [], destinations: [], limits: { connections: 1, tunnels: 1 }, certificates: new Map(), hops: new Map(), ruleEnds: [] }, version: '1', output });
  telemetry.ended(makeRecord());
  telemetry.notice('info', 'hello');
  t.match(telemetry.warnings(), [/cannot be written \(broken\)/]);
  await telemetry.close();
});

t.test('no method of a total telemetry throws, whatever methods it has', async (t) => {
  const first: [string, unknown][] = [];
  const attempts = new Attempts((part, error) => {
    first.push([part, error]);
    throw new Error('nor can this be said');
  });
  const { telemetry } = open();
  await telemetry.close();
  const fails = new Error('broken');
  const names = Object.keys(telemetry).filter((name) => !['exposition', 'shortTunnels', 'contain', 'warnings', 'close'].includes(name));
  const broken = Object.fromEntries(names.map((name) => [name, () => {
    throw fails;
  }])) as unknown as Telemetry;
  const total = makeTotal(broken, 'partner-watch', attempts.contain) as unknown as Record<string, () => void>;
  t.strictSame(Object.keys(total), names);
  for (const name of names) t.doesNotThrow(() => total[name]?.(), name);
  t.ok(names.length > 10);
  t.equal(attempts.failures['partner-watch'], names.length);
  t.strictSame(first, [['partner-watch', fails]]);
});
