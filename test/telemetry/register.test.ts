import t from 'tap';
import { labelled, metric, single } from '../../src/telemetry/exposition.ts';
import { createExposition } from '../support/exposition.ts';
import { readScrape } from '../support/prometheus.ts';

t.test('series are as they were handed over, and gone when they are not', async (t) => {
  const exposition = createExposition();
  const values = new Map([['a', 1], ['quote " backslash \\ line\n', 2]]);
  labelled(exposition, 'counter', 'eaten_total', 'Eaten so far.', 'what', () => values);
  let known = false;
  single(exposition, 'gauge', 'weather', 'Without labels.', () => (known ? -3.5 : null));
  metric(exposition, 'gauge', 'info', 'Always 1.', ['version'], () => [[{ version: '1' }, 1]]);

  const before = readScrape(await exposition.text());
  t.equal(before.samples.get('eco_egress_eaten_total{what="a"}'), 1);
  t.equal(before.samples.get('eco_egress_eaten_total{what="quote \\" backslash \\\\ line\\n"}'), 2);
  t.equal(before.samples.get('eco_egress_info{version="1"}'), 1);
  t.notOk(before.samples.has('eco_egress_weather'), 'not known is absent, not 0');
  t.equal(before.families.get('eco_egress_eaten_total')?.type, 'COUNTER');
  t.equal(before.families.get('eco_egress_weather')?.type, 'GAUGE');

  known = true;
  values.delete('a');
  const after = readScrape(await exposition.text());
  t.equal(after.samples.get('eco_egress_weather'), -3.5);
  t.notOk(after.samples.has('eco_egress_eaten_total{what="a"}'));
});
