import t from 'tap';
import { Registry } from 'prom-client';
import { constant, counter, gauge } from '../../src/telemetry/register.ts';
import { readScrape } from '../support/prometheus.ts';

t.test('series are as they were handed over, and gone when they are not', async (t) => {
  const registry = new Registry();
  const values = new Map([['a', 1], ['quote " backslash \\ line\n', 2]]);
  counter(registry, 'eaten_total', 'Eaten so far.', ['what'], (set) => {
    for (const [what, value] of values) set({ what }, value);
  });
  let known = false;
  gauge(registry, 'weather', 'Without labels.', [], (set) => {
    if (known) set({}, -3.5);
  });
  constant(registry, 'info', 'Always 1.', { version: '1' });

  const before = readScrape(await registry.metrics());
  t.equal(before.samples.get('eco_egress_eaten_total{what="a"}'), 1);
  t.equal(before.samples.get('eco_egress_eaten_total{what="quote \\" backslash \\\\ line\\n"}'), 2);
  t.equal(before.samples.get('eco_egress_info{version="1"}'), 1);
  t.notOk(before.samples.has('eco_egress_weather'), 'not known is absent, not 0');
  t.equal(before.families.get('eco_egress_eaten_total')?.type, 'COUNTER');
  t.equal(before.families.get('eco_egress_weather')?.type, 'GAUGE');

  known = true;
  values.delete('a');
  const after = readScrape(await registry.metrics());
  t.equal(after.samples.get('eco_egress_weather'), -3.5);
  t.notOk(after.samples.has('eco_egress_eaten_total{what="a"}'));
});
