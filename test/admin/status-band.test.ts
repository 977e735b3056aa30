/** The band of the status page: the most pressing state, and the reasons of all. */
import t from 'tap';
import { judgeBand } from '../../src/admin/status-band.ts';
import type { Readiness } from '../../src/admin/status-sources.ts';
import type { StatusDestination } from '../../src/admin/status-view.ts';
import { SCENE_INFO } from '../support/status-scene.ts';

const READY: Readiness = { ready: true, reasons: [], warnings: [], notes: ['a note'] };
const ENFORCING = { config: { ...SCENE_INFO.config, rules: [] }, ruleEnds: [] };

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
  t.strictSame(judgeBand(ENFORCING, false, READY, [destination({})]), { state: 'ok', reasons: [], notes: ['a note'] });
});

t.test('whatever keeps traffic away, or is wrong, degrades', async (t) => {
  t.match(judgeBand(ENFORCING, false, { ...READY, ready: false, reasons: ['not yet'] }, []), { state: 'degraded', reasons: ['not yet'] });
  t.match(judgeBand(ENFORCING, false, { ...READY, warnings: ['a partner fails'] }, []), { state: 'degraded', reasons: ['a partner fails'] });
});

t.test('a large share of failures degrades, though the latest request went well', async (t) => {
  for (const [count, state] of [[2, 'ok'], [4, 'ok'], [5, 'degraded'], [300, 'degraded']] as const) t.equal(judgeBand(ENFORCING, false, READY, [failing(count)]).state, state, `${count} of 100`);
  t.strictSame(judgeBand(ENFORCING, false, READY, [failing(7)]).reasons, ['In the last minute 7 of 100 requests to eco failed (connect-timeout: 7).']);
  t.strictSame(judgeBand(ENFORCING, false, READY, [failing(7, 'failed')]).reasons, [], 'that has a warning of its own');
  t.strictSame(judgeBand(ENFORCING, false, READY, [destination({ errors: { minute: 6, hour: 6 } })]).reasons, ['In the last minute 6 of 100 requests to eco were answered with a status of 5xx.']);
});

t.test('report mode, of all or of parts', async (t) => {
  t.match(judgeBand({ ...ENFORCING, config: { ...ENFORCING.config, mode: 'report' } }, false, READY, []), { state: 'report', reasons: [/^Report mode: /] });
  const config = { ...ENFORCING.config, rules: [{ report: false }, { report: true }], destinations: ENFORCING.config.destinations.map((one) => ({ ...one, report: true })) };
  t.match(judgeBand({ ...ENFORCING, config }, false, READY, []), { state: 'report', reasons: [/^Report mode for destinations\.eco-sit, destinations\.billing, destinations\.tickets and 2 more: /] });
  const [end] = SCENE_INFO.ruleEnds;
  if (end === undefined) throw new Error('no rule of the scene ends');
  const rules = { ...ENFORCING.config, rules: [{ report: true }] };
  t.equal(judgeBand({ config: rules, ruleEnds: [{ ...end, rule: 'rules[0]', state: 'soon' }] }, false, READY, []).state, 'report');
  t.equal(judgeBand({ config: rules, ruleEnds: [{ ...end, rule: 'rules[0]', state: 'ended' }] }, false, READY, []).state, 'ok', 'it has ended');
  t.match(judgeBand({ ...ENFORCING, config }, false, { ...READY, warnings: ['worse'] }, []), { state: 'degraded', reasons: ['worse', /^Report mode/] });
});

t.test('a drain comes before all', async (t) => {
  t.match(judgeBand(ENFORCING, true, { ...READY, ready: false, reasons: ['The proxy is draining.'], warnings: ['a partner fails'] }, []), { state: 'draining', reasons: ['The proxy is draining.', 'a partner fails'] });
});
