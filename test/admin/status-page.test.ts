/** What the status page says of all destinations together, and of more than it shows. */
import t from 'tap';
import type { StatusView } from '../../src/admin/status-view.ts';
import { DestinationHealth, viewHealth } from '../../src/telemetry/destination-health.ts';
import type { DestinationTraffic } from '../../src/telemetry/traffic-view.ts';
import { NO_TRAFFIC } from '../support/no-configuration.ts';
import { openScene, SCENE_INFO } from '../support/status-scene.ts';

t.test('the numbers of all have what report mode lets pass to hosts of no destination', async (t) => {
  const now = { requestsPerSecond: 7, requests: 70, failures: { minute: { 'connect-timeout': 2 }, hour: {} }, errors: { minute: 1, hour: 1 }, p50: null, p99: null };
  const elsewhere: DestinationTraffic = { health: viewHealth('-', new DestinationHealth(), new Map()), now, pool: { active: 0, idle: 0 }, tunnels: 0, addresses: [], certificateEnds: 0 };
  const url = await openScene(t, { traffic: { ...NO_TRAFFIC, of: (name) => (name === '-' ? elsewhere : null) } });
  const status = (await (await fetch(`${url}/status.json`)).json()) as StatusView;
  t.match(status, { requestsPerSecond: 7, failures: 2, errors: 1 });
  t.strictSame(status.destinations.map(({ name }) => name), SCENE_INFO.config.destinations.map(({ name }) => name));
});

t.test('what is wrong can be asked of any of many destinations', async (t) => {
  const destinations = Array.from({ length: 60 }, (_, i) => ({ name: `d${i}`, hosts: [`d${i}.example`], ports: [443], report: false, via: [] }));
  const url = await openScene(t, { info: () => ({ ...SCENE_INFO, config: { ...SCENE_INFO.config, destinations } }) });
  const page = await (await fetch(`${url}/`)).text();
  t.match(page, 'And 10 more');
  t.match(page, /<input id="about" name="destination" list="partners"/, 'also of those that the page does not show');
});
