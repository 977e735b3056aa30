/** The band of the status page: the most pressing state, and the reasons of all. */
import t from 'tap';
import { judgeBand } from '../../src/admin/status-band.ts';
import type { Readiness } from '../../src/admin/status-sources.ts';
import type { StatusDestination } from '../../src/admin/status-view.ts';
import { SCENE_INFO } from '../support/status-scene.ts';

const READY: Readiness = { ready: true, reasons: [], warnings: [], notes: ['a note'] };
const ENFORCING = { ...SCENE_INFO.config, rules: [] };
const NOW = Date.UTC(2027, 0, 1);

const destination = (parts: Partial<StatusDestination>): StatusDestination => ({
  name: 'eco',
  hosts: [],
  ports: [],
  via: [],
  state: 'ok',
  circuits: [],
  requestsPerSecond: 0,
  requests: 100,
  failures: { minute: [], hour: [] },
  errors: { minute: 0, hour: 0 },
  p50: null,
  p99: null,
  lastOk: null,
  lastError: null,
  lastFailure: null,
  addresses: [],
  certificate: null,
  pool: { active: 0, idle: 0, queued: 0 },
  tunnels: 0,
  nat: { used: 0, highWater: 0, refused: 0 },
  ...parts,
});
const failing = (count: number, state: StatusDestination['state'] = 'ok'): StatusDestination => destination({ state, failures: { minute: [{ code: 'connect-timeout', count }], hour: [] } });

t.test('all is well', async (t) => {
  t.strictSame(judgeBand(ENFORCING, false, READY, [destination({})], NOW), { state: 'ok', reasons: [], notes: ['a note'] });
});

t.test('whatever keeps traffic away, or is wrong, degrades', async (t) => {
  t.match(judgeBand(ENFORCING, false, { ...READY, ready: false, reasons: ['not yet'] }, [], NOW), { state: 'degraded', reasons: ['not yet'] });
  t.match(judgeBand(ENFORCING, false, { ...READY, warnings: ['a partner fails'] }, [], NOW), { state: 'degraded', reasons: ['a partner fails'] });
});

t.test('a large share of failures degrades, though the latest request went well', async (t) => {
  for (const [count, state] of [[2, 'ok'], [4, 'ok'], [5, 'degraded'], [300, 'degraded']] as const) t.equal(judgeBand(ENFORCING, false, READY, [failing(count)], NOW).state, state, `${count} of 100`);
  t.strictSame(judgeBand(ENFORCING, false, READY, [failing(7)], NOW).reasons, ['In the last minute 7 of 100 requests to eco failed (connect-timeout: 7).']);
  t.strictSame(judgeBand(ENFORCING, false, READY, [failing(7, 'failed')], NOW).reasons, [], 'that has a warning of its own');
  t.strictSame(judgeBand(ENFORCING, false, READY, [destination({ errors: { minute: 6, hour: 6 } })], NOW).reasons, ['In the last minute 6 of 100 requests to eco were answered with a status of 5xx.']);
});

t.test('report mode, of all or of parts', async (t) => {
  t.match(judgeBand({ ...ENFORCING, mode: 'report' }, false, READY, [], NOW), { state: 'report', reasons: [/^Report mode: /] });
  const always = { from: null, until: null };
  const config = { ...ENFORCING, rules: [{ ...always, report: false }, { ...always, report: true }], destinations: ENFORCING.destinations.map((one) => ({ ...one, report: true })) };
  t.match(judgeBand(config, false, READY, [], NOW), { state: 'report', reasons: [/^Report mode for destinations\.eco-sit, destinations\.billing, destinations\.tickets and 2 more: /] });
  for (const [from, until, state] of [[NOW, NOW + 1, 'report'], [NOW - 1, null, 'report'], [NOW + 1, null, 'ok'], [null, NOW, 'ok']] as const) t.equal(judgeBand({ ...ENFORCING, rules: [{ report: true, from, until }] }, false, READY, [], NOW).state, state, `from ${String(from)} until ${String(until)}`);
  t.match(judgeBand(config, false, { ...READY, warnings: ['worse'] }, [], NOW), { state: 'degraded', reasons: ['worse', /^Report mode/] });
});

t.test('a drain comes before all', async (t) => {
  t.match(judgeBand(ENFORCING, true, { ...READY, ready: false, reasons: ['The proxy is draining.'], warnings: ['a partner fails'] }, [], NOW), { state: 'draining', reasons: ['The proxy is draining.', 'a partner fails'] });
});
