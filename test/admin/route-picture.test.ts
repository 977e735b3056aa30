/** The picture of the route on the status page. */
import t from 'tap';
import type { HealthView } from '../../src/telemetry/destination-health.ts';
import { NO_TRAFFIC } from '../support/no-configuration.ts';
import { openScene } from '../support/status-scene.ts';

t.test('the picture of the route has the times of the cards: never 0 ms, and seconds where there are many', async (t) => {
  const health: HealthView = { destination: 'eco-sit', last: 'ok', inRow: 1, lastOk: null, lastError: null, lastFailure: null, answers: { '1xx': 0, '2xx': 1, '3xx': 0, '4xx': 0, '5xx': 0 }, failures: {} };
  for (const [p99, shown] of [[0.3, 'p99 1 ms'], [12_000, 'p99 12 s']] as const) {
    const url = await openScene(t, { traffic: { ...NO_TRAFFIC, of: () => ({ health, now: { requestsPerSecond: 1, requests: 60, failures: { minute: {}, hour: {} }, errors: { minute: 0, hour: 0 }, p50: p99, p99 }, pool: { active: 0, idle: 1 }, tunnels: 0, addresses: [], certificateEnds: 0 }) } });
    t.match(await (await fetch(`${url}/`)).text(), `>${shown}<`);
  }
});
