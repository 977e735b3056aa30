import t from 'tap';
import { createMetrics } from '../../src/telemetry/metrics.ts';
import { isShortTunnel } from '../../src/telemetry/access-record.ts';
import type { NatPorts } from '../../src/telemetry/collectors.ts';
import { makeRecord } from '../support/access-record.ts';
import { readScrape } from '../support/prometheus.ts';

const POLICY = { hash: 'abc123', file: '-', loadedAt: 0, warnings: new Map(), clients: ['dynatrace-sit'], destinations: ['eco-sit', 'other'], certificates: new Map(), hops: new Map(), ruleEnds: [], limits: { connections: 10_000, tunnels: 4_000 } };
const TUNNEL = { form: 'connect', became: 'tunnel', status: 200, durationMs: 29_999, bytesSent: 1, bytesReceived: 1 } as const;

t.test('a short tunnel, and its neighbours', async (t) => {
  for (const [what, changes, short] of [
    ['just under 30 seconds', {}, true],
    ['30 seconds', { durationMs: 30_000 }, false],
    ['TLS passed on', { form: 'sni', status: 0 }, true],
    ['TLS passed on, by a parent that resolves the name', { form: 'sni', status: 0, upstreamAddress: '-' }, true],
    ['nothing sent', { bytesSent: 0 }, false],
    ['nothing received', { bytesReceived: 0 }, false],
    ['cut off', { code: 'upstream-cut' }, false],
    ['refused', { became: null, dialled: false, status: 403, code: 'host-not-allowed' }, false],
    ['an exchange', { form: 'gateway', became: 'exchange' }, false],
    ['a WebSocket', { form: 'gateway', status: 101 }, false],
  ] as const) {
    t.equal(isShortTunnel(makeRecord({ ...TUNNEL, ...changes })), short, what);
  }
});

t.test('ports, by the names of the configuration', async (t) => {
  let ports: NatPorts = { limit: null, destinations: new Map([['eco-sit', { used: 5, highWater: 7, refused: 2 }], ['made-up', { used: 1, highWater: 1, refused: 1 }]]) };
  const metrics = createMetrics({ policy: POLICY, version: '1.2.3' });
  metrics.watch({ natPorts: () => ports });
  metrics.ended(makeRecord({ ...TUNNEL }));
  metrics.ended(makeRecord({ ...TUNNEL }));
  metrics.ended(makeRecord({ ...TUNNEL, client: 'made-up' }));
  const samples = async (): Promise<ReadonlyMap<string, number>> => readScrape(await metrics.exposition.text()).samples;
  const found = await samples();
  for (const [series, value] of [
    ['nat_ports_used{destination="eco-sit"}', 5],
    ['nat_ports_high_water{destination="eco-sit"}', 7],
    ['nat_ports_refused_total{destination="eco-sit"}', 2],
    ['nat_ports_used{destination="other"}', 0],
    ['nat_ports_refused_total{destination="other"}', 0],
    ['nat_ports_used{destination="made-up"}', undefined],
    ['nat_ports_used{destination="-"}', undefined],
    ['nat_ports_limit', undefined],
    ['port_per_request_total{client="dynatrace-sit"}', 2],
    ['port_per_request_total{client="-"}', 1],
  ] as const) {
    t.equal(found.get(`eco_egress_${series}`), value, series);
  }
  t.strictSame(metrics.shortTunnels(), [['dynatrace-sit', 2], ['-', 1]]);
  ports = { ...ports, limit: 8192 };
  t.equal((await samples()).get('eco_egress_nat_ports_limit'), 8192);
});
