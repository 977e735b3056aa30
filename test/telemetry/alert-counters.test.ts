/** Counters that alerts ask for are there from the start with 0: the first event of a series that begins with 1 is invisible to `increase()`. */
import { readFileSync } from 'node:fs';
import t from 'tap';
import { readGroups } from '../../deploy/monitoring/render.ts';
import type { LimitsConfig } from '../../src/config/config.ts';
import { FAULTS, type FaultCode } from '../../src/errors.ts';
import { MAX_REQUEST_SETS } from '../../src/telemetry/cells.ts';
import { countWarnings } from '../../src/reload/in-force.ts';
import { createMetrics, type Metrics } from '../../src/telemetry/metrics.ts';
import { makeRecord } from '../support/access-record.ts';
import { readScrape, sumOf } from '../support/prometheus.ts';
import { readQuery } from '../support/promql.ts';

const CODES = Object.keys(FAULTS) as FaultCode[];
const names = (name: string, count: number): string[] => Array.from({ length: count }, (_, index) => `${name}-${index}`);

/** As many as there are in a configuration. */
const LIMITS = { connections: 1, connectionsPerClient: 1, tunnels: 1, tunnelsPerClient: 1, exchanges: 1, exchangesPerClient: 1, headerBytes: 1, headerFields: 1, upstreamConnections: 1, upstreamQueue: 1, loopDelay: 0, memoryPercent: 100 } satisfies LimitsConfig;

function create(clients: number, destinations: number): Metrics {
  return createMetrics({ policy: { hash: 'abc', file: '-', loadedAt: 0, warnings: countWarnings({ warnings: [] }), clients: names('client', clients), destinations: names('destination', destinations), limits: LIMITS, certificates: new Map(), hops: new Map(), ruleEnds: [] }, version: '1' });
}

const seriesOf = async (metrics: Metrics): Promise<string[]> => [...readScrape(await metrics.exposition.text()).samples.keys()];

/** Counters in the alerts, each with what its error may be. */
function alertCounters(): Map<string, ReadonlySet<string> | null> {
  const counters = new Map<string, ReadonlySet<string> | null>();
  for (const { rules } of readGroups()) {
    for (const { expr } of rules) {
      for (const { metric, matchers } of readQuery(expr).selectors) {
        if (!metric.endsWith('_total')) continue;
        const errors = matchers.filter(({ label }) => label === 'error').flatMap(({ value }) => value.split('|'));
        counters.set(metric, errors.length === 0 ? (counters.get(metric) ?? null) : new Set([...(counters.get(metric) ?? []), ...errors]));
      }
    }
  }
  return counters;
}

t.test('whatever happens, no alert meets a series that was not there', async (t) => {
  const counters = alertCounters();
  t.ok(counters.size >= 8, [...counters.keys()].join());
  const metrics = create(2, 2);
  const asked = async (): Promise<string[]> =>
    (await seriesOf(metrics)).filter((series) => {
      const [name = ''] = series.split('{');
      const errors = counters.get(name);
      if (errors === undefined) return false;
      const [, error = ''] = /error="([^"]*)"/.exec(series) ?? [];
      // Nothing is dialled for no destination, but by report mode.
      return !(name === 'eco_egress_upstream_errors_total' && (series.includes('destination="-"') || errors?.has(error) === false));
    });
  const before = await asked();
  for (const metric of counters.keys()) t.ok(before.some((series) => series.startsWith(metric)), metric);
  for (const name of ['client-0', 'client-1']) t.ok(before.includes(`eco_egress_denials_total{client="${name}",code="host-not-allowed"}`), name);
  for (const name of ['destination-0', 'destination-1']) t.ok(before.includes(`eco_egress_upstream_errors_total{destination="${name}",error="tls-failed"}`), name);
  for (const destination of ['destination-0', 'destination-1', '-']) {
    for (const client of ['client-0', 'client-1', '-']) {
      for (const dialled of [true, false]) for (const code of ['ok', ...CODES] as const) metrics.ended(makeRecord({ client, destination, code, dialled, form: dialled ? 'sni' : '-', became: null }));
    }
    for (const code of CODES) metrics.upstreamFailed(destination, code, 'why');
  }
  metrics.adminRefused('busy');
  metrics.descriptorsRefused('system');
  metrics.policyReloaded('refused');
  t.strictSame(await asked(), before);
});

t.test('how many series there are at the start, as the page says', async (t) => {
  // Node's own appear as things happen, such as the first collection of garbage.
  const count = async (clients: number, destinations: number): Promise<number> => (await seriesOf(create(clients, destinations))).filter((series) => series.startsWith('eco_egress_')).length;
  const none = await count(0, 0);
  const [byClient, byDestination] = [(await count(1, 0)) - none, (await count(0, 1)) - none];
  t.equal(await count(5, 7), none + 5 * byClient + 7 * byDestination, 'the sum of both, and no product');
  const page = readFileSync(new URL('../../docs/metrics.md', import.meta.url), 'utf8');
  const said = /(\d+) series for each destination, (\d+) for each client and (\d+) besides/.exec(page)?.slice(1).map(Number);
  t.strictSame(said, [byDestination, byClient, none]);
});

t.test('what a client can add to them is bounded', async (t) => {
  const metrics = create(50, 200);
  const before = (await seriesOf(metrics)).length;
  for (const client of names('client', 50)) {
    for (const destination of names('destination', 200)) {
      for (const code of CODES.slice(0, 5)) metrics.ended(makeRecord({ client, destination, code }));
      for (const wouldDeny of CODES.slice(0, 5)) metrics.ended(makeRecord({ client, destination, verdict: 'report', wouldDeny }));
    }
  }
  const scrape = readScrape(await metrics.exposition.text());
  t.ok(scrape.samples.size < before + MAX_REQUEST_SETS + 5_000, `${scrape.samples.size} series, ${before} at the start`);
  t.equal(sumOf(scrape, 'eco_egress_requests_total'), 100_000, 'each is counted');
  const folded = sumOf(scrape, 'eco_egress_requests_folded_total');
  t.ok(folded > 0);
  t.equal(sumOf(scrape, 'eco_egress_requests_total', { client: '-', destination: '-' }), folded);
  t.equal(sumOf(scrape, 'eco_egress_denials_total', { client: 'client-49' }), 1_000, 'and the counters for alerts are exact');
  t.equal(sumOf(scrape, 'eco_egress_would_deny_total'), 50_000);
});

t.test('a scrape of many series lets others have their turn, also when many ask at once', async (t) => {
  const metrics = create(50, 200);
  for (const client of names('client', 50)) for (const destination of names('destination', 200)) metrics.ended(makeRecord({ client, destination }));
  let turns = 0;
  let over = false;
  const tick = (): void => {
    turns += 1;
    if (!over) setImmediate(tick);
  };
  setImmediate(tick);
  const texts = await Promise.all(Array.from({ length: 5 }, () => metrics.exposition.text()));
  over = true;
  const lines = texts.reduce((sum, text) => sum + text.split('\n').length, 0);
  t.ok(turns >= lines / 600, `${turns} turns for ${lines} lines`);
  t.equal(new Set(texts.map((text) => text.match(/^eco_egress_requests_total\{/gm)?.length)).size, 1);
});
