/** What the metrics say of the source address and of partners that fell silent. */
import t from 'tap';
import { createMetrics } from '../../src/telemetry/metrics.ts';
import { readScrape } from '../support/prometheus.ts';
import { configOf, MINIMAL } from '../support/load-text.ts';
import { describePolicy } from '../../src/telemetry/collectors.ts';

t.test('only what is known now has a value', async (t) => {
  const metrics = createMetrics({ policy: describePolicy(configOf(MINIMAL), { hash: 'abc', file: '-', loadedAt: 0, warnings: new Map(), ruleEnds: [] }), version: '1.2.3' });
  const show = async (): Promise<string[]> => {
    const { samples } = readScrape(await metrics.exposition.text());
    return [...samples].filter(([name]) => /source_ip|whitelist/.test(name)).map(([name, value]) => `${name.replace('eco_egress_', '')} ${value}`);
  };
  t.strictSame(await show(), []);
  metrics.sourceProbed('match', '34.123.45.67', 5_000);
  t.strictSame(await show(), ['source_ip_match 1', 'source_ip_info{ip="34.123.45.67"} 1', 'source_ip_probes_total{result="match"} 1', 'source_ip_last_success_timestamp_seconds 5']);
  metrics.sourceProbed('mismatch', '2001:db8::1', 6_500);
  t.strictSame(await show(), ['source_ip_match 0', 'source_ip_info{ip="2001:db8::1"} 1', 'source_ip_probes_total{result="match"} 1', 'source_ip_probes_total{result="mismatch"} 1', 'source_ip_last_success_timestamp_seconds 6.5']);
  metrics.sourceProbed('unknown', null, 8_000);
  t.strictSame((await show()).filter((line) => !line.includes('probes_total')), ['source_ip_last_success_timestamp_seconds 6.5']);
  metrics.sourceProbed('unjudged', '34.123.45.67', 9_000);
  t.strictSame((await show()).filter((line) => !line.includes('probes_total')), ['source_ip_info{ip="34.123.45.67"} 1', 'source_ip_last_success_timestamp_seconds 9']);
  metrics.sourceAsked();
  t.strictSame((await show()).filter((line) => !line.includes('probes_total')), []);
  metrics.whitelistSuspected('eco', false);
  metrics.whitelistSuspected('other', true);
  t.strictSame((await show()).filter((line) => line.startsWith('whitelist')), ['whitelist_suspect{destination="eco"} 0', 'whitelist_suspect{destination="other"} 1']);
  metrics.whitelistSuspected('other', null);
  t.strictSame((await show()).filter((line) => line.startsWith('whitelist')), ['whitelist_suspect{destination="eco"} 0']);
});
