/** The latest outcome of a destination under a clock that is set; what else it says is tried by test/admin/ and test/integration/. */
import t from 'tap';
import { DestinationHealth, gateByHealth, viewHealth } from '../../src/telemetry/destination-health.ts';

const HOUR = 3_600_000;
const NOON = Date.UTC(2026, 0, 1, 12);
const viewOf = (health: DestinationHealth) => viewHealth('eco', health, new Map());

t.test('a clock that was an hour ahead: what failed then is not the latest for an hour', async (t) => {
  const health = new DestinationHealth();
  health.noteAnswer(200, NOON);
  health.noteFailure('connect-timeout', 'slow', NOON + HOUR);
  // As the alert EcoEgressPartnerFailing compares them.
  const { at } = health;
  t.ok(at.failed > Math.max(at.ok, at.error), 'failing');
  health.noteAnswer(200, NOON + 1000);
  t.notOk(at.failed > Math.max(at.ok, at.error), 'no longer');
  t.match(at, { ok: NOON + 1000, error: 0, failed: NOON + 1000 });
  health.noteFailure('connect-timeout', 'slow', NOON + 2000);
  t.ok(at.failed > Math.max(at.ok, at.error), 'and what fails afterwards is');
});

t.test('a clock that was set back does not prevent readiness', async (t) => {
  const health = new DestinationHealth();
  for (let i = 0; i < 3; i += 1) health.noteFailure('connect-timeout', 'slow', NOON);
  t.match(gateByHealth(viewOf(health), NOON + 59_999), /The latest 3 requests to eco failed/);
  t.equal(gateByHealth(viewOf(health), NOON + 60_000), null, 'for a minute');
  t.equal(gateByHealth(viewOf(health), NOON - HOUR), null, 'and not for an hour');
});

t.test('the end of a long answer does not hide what has failed since its head came', async (t) => {
  const health = new DestinationHealth();
  health.noteFailure('connect-timeout', 'x', NOON);
  health.noteAnswer(200, NOON + 1000, 60_000);
  t.match(viewHealth('eco', health, new Map()), { last: 'failed', lastOk: null, answers: { '2xx': 1 } });
  health.noteAnswer(200, NOON + 2000, 1999);
  t.match(viewHealth('eco', health, new Map()), { last: 'ok', answers: { '2xx': 2 } });
});
