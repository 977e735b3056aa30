/** Requests are served while what listens to them fails. */
import t from 'tap';
import { DecisionRing } from '../../src/reload/compare.ts';
import { PartnerWatch } from '../../src/source-ip/partner-watch.ts';
import { answerOf, beginAsk } from '../support/ask.ts';
import { startLab } from '../support/lab.ts';
import { sumOf } from '../support/prometheus.ts';
import { askRaw } from '../support/wire.ts';

function fail(): never {
  throw new Error('a bug of its own');
}

t.test('the memory of denials and decisions, and the watch over partners', async (t) => {
  t.intercept(DecisionRing.prototype, 'remember', { value: fail });
  t.intercept(PartnerWatch.prototype, 'connected', { value: fail });
  t.intercept(PartnerWatch.prototype, 'failed', { value: fail });
  const lab = await startLab(t);
  t.intercept(lab.service.explainer.denials, 'note', { value: fail });
  for (const form of ['gateway', 'forward'] as const) t.match(await answerOf(beginAsk(lab, form, { path: '/x' }).end()), { status: 200 }, form);
  t.match(await askRaw(t, lab.port, 'GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n'), /^HTTP\/1\.1 403 Egress denied: host-not-allowed\r\n/);
  t.match(await askRaw(t, lab.port, 'nonsense\r\n\r\n'), /^HTTP\/1\.1 400 /);
  lab.upstream.https.closeAllConnections();
  lab.upstream.https.close();
  t.match(await answerOf(beginAsk(lab, 'gateway', { path: '/x' }).end()), { status: 502 });
  const scrape = await lab.scrape();
  for (const part of ['denials', 'decisions', 'partner-watch']) t.ok(sumOf(scrape, 'eco_egress_telemetry_failures_total', { part }) > 0, part);
  for (const part of ['denials', 'decisions', 'partner-watch']) t.equal(lab.log.filter((line) => line['part'] === part).length, 1, `${part}: logged once`);
  t.equal(sumOf(scrape, 'eco_egress_denials_total', { code: 'host-not-allowed' }), 1);
});
