import t from 'tap';
import { FAULTS } from '../../src/errors.ts';
import type { FaultCode } from '../../src/errors.ts';
import { createMetrics } from '../../src/telemetry/metrics.ts';
import type { Metrics } from '../../src/telemetry/metrics.ts';
import { makeRecord } from '../support/access-record.ts';
import { bytesInUse } from '../support/memory.ts';
import { readDocRows } from '../support/doc-table.ts';
import { readScrape } from '../support/prometheus.ts';
import type { Scrape } from '../support/prometheus.ts';

const POLICY = { hash: 'abc123', file: '/etc/egress.yaml', loadedAt: 0, warnings: new Map([['report-mode', 1]] as const), clients: ['dynatrace-sit'], destinations: ['eco-sit'], limits: { connections: 10_000, tunnels: 4_000 }, certificates: new Map(), hops: new Map(), ruleEnds: [] };

const create = (): Metrics => createMetrics({ policy: POLICY, version: '1.2.3' });
const scrape = async (metrics: Metrics): Promise<Scrape> => readScrape(await metrics.exposition.text());

t.test('before the first request, what alarms and autoscalers need is there with zero', async (t) => {
  const { samples } = await scrape(create());
  t.equal(samples.get('eco_egress_tunnels_active{form="connect",destination="eco-sit"}'), 0);
  t.equal(samples.get('eco_egress_upstream_connections{destination="eco-sit",state="active"}'), 0);
  t.equal(samples.get('eco_egress_upstream_connections{destination="eco-sit",state="idle"}'), 0);
  t.equal(samples.get('eco_egress_upstream_connections_opened_total{destination="eco-sit"}'), 0);
  t.equal(samples.get('eco_egress_client_connections'), 0);
  t.equal(samples.get('eco_egress_log_lines_dropped_total{reason="full"}'), 0);
  t.equal(samples.get('eco_egress_policy_info{hash="abc123"}'), 1);
  t.equal(samples.get(`eco_egress_build_info{version="1.2.3",node="${process.versions.node}"}`), 1);
  const unknown = [...samples.keys()].filter((name) => name.includes('="-"')).map((name) => name.split('{')[0]);
  t.strictSame([...new Set(unknown)], ['eco_egress_destination_requests_total', 'eco_egress_destination_admitted_total', 'eco_egress_denials_total', 'eco_egress_port_per_request_total'], 'of the unknown, only what counters for alerts need');
});

t.test('an exchange counts its end, its bytes and its time', async (t) => {
  const metrics = create();
  metrics.ended(makeRecord({ durationMs: 30 }));
  metrics.ended(makeRecord({ durationMs: 25 }));
  metrics.ended(makeRecord({ durationMs: 61_000, code: 'upstream-cut', status: 502 }));
  const { samples } = await scrape(metrics);
  const labels = 'form="gateway",destination="eco-sit"';
  t.equal(samples.get(`eco_egress_requests_total{${labels},client="dynatrace-sit",outcome="allowed",code="ok"}`), 2);
  t.equal(samples.get(`eco_egress_requests_total{${labels},client="dynatrace-sit",outcome="failed",code="upstream-cut"}`), 1);
  t.equal(samples.get(`eco_egress_bytes_total{${labels},direction="sent"}`), 360);
  t.equal(samples.get(`eco_egress_bytes_total{${labels},direction="received"}`), 12_288);
  const bucket = (le: string): number | undefined => samples.get(`eco_egress_request_duration_seconds_bucket{le="${le}",${labels}}`);
  t.equal(bucket('0.01'), 0);
  t.equal(bucket('0.025'), 1, 'a bound belongs to its bucket');
  t.equal(bucket('0.05'), 2);
  t.equal(bucket('60'), 2);
  t.equal(bucket('+Inf'), 3);
  t.equal(samples.get(`eco_egress_request_duration_seconds_count{${labels}}`), 3);
  t.equal(samples.get(`eco_egress_request_duration_seconds_sum{${labels}}`), 61.055);
});

t.test('refusals count, but tell nothing about how long a partner takes', async (t) => {
  const metrics = create();
  metrics.ended(makeRecord({ form: 'forward', verdict: 'deny', code: 'host-not-allowed', destination: '-', status: 403 }));
  const { samples, families } = await scrape(metrics);
  t.equal(samples.get('eco_egress_requests_total{form="forward",destination="-",client="dynatrace-sit",outcome="denied",code="host-not-allowed"}'), 1);
  t.strictSame(families.get('eco_egress_request_duration_seconds')?.metrics, []);
});

t.test('whoever breaks off before the decision was not let through, however long that took', async (t) => {
  const metrics = create();
  const half = { verdict: '-', code: 'client-closed', destination: '-', status: 0, became: null, dialled: false, durationMs: 60_000 } as const;
  for (const form of ['-', 'forward'] as const) metrics.ended(makeRecord({ ...half, form }));
  metrics.ended(makeRecord({ ...half, form: '-', code: 'internal' }));
  const { samples, families } = await scrape(metrics);
  t.strictSame(families.get('eco_egress_request_duration_seconds')?.metrics, []);
  t.equal(samples.get('eco_egress_destination_admitted_total{destination="-"}'), 0);
  t.equal(samples.get('eco_egress_destination_requests_total{destination="-",outcome="aborted"}'), 2);
  metrics.ended(makeRecord({ code: 'client-closed', status: 0, became: null, dialled: false }));
  t.equal((await scrape(metrics)).samples.get('eco_egress_request_duration_seconds_count{form="gateway",destination="eco-sit"}'), 1, 'one that was let through counts while it waits for a connection, too');
});

t.test('what report mode let pass counts twice: as what it was, and as what it would have been', async (t) => {
  const metrics = create();
  metrics.ended(makeRecord({ verdict: 'report', wouldDeny: 'no-rule' }));
  metrics.ended(makeRecord({ verdict: 'report', wouldDeny: 'no-rule', code: 'upstream-cut', status: 502 }));
  metrics.ended(makeRecord({ verdict: 'report', wouldDeny: 'client-not-allowed', client: 'made-up', destination: '-' }));
  metrics.ended(makeRecord({ verdict: 'report', wouldDeny: 'no-rule', code: 'address-not-allowed', status: 403 }));
  metrics.ended(makeRecord());
  const { samples } = await scrape(metrics);
  t.equal(samples.get('eco_egress_would_deny_total{form="gateway",destination="eco-sit",client="dynatrace-sit",code="no-rule"}'), 2);
  t.equal(samples.get('eco_egress_would_deny_total{form="gateway",destination="-",client="-",code="client-not-allowed"}'), 1);
  t.equal([...samples.keys()].filter((name) => name.startsWith('eco_egress_would_deny_total')).length, 2);
  t.equal(samples.get('eco_egress_requests_total{form="gateway",destination="eco-sit",client="dynatrace-sit",outcome="allowed",code="ok"}'), 2);
});

t.test('tunnels are counted while open and timed when over', async (t) => {
  const metrics = create();
  const admitted = async (): Promise<number | undefined> => (await scrape(metrics)).samples.get('eco_egress_destination_admitted_total{destination="eco-sit"}');
  t.equal(await admitted(), 0);
  const [one, other, upgraded] = [makeRecord({ form: 'connect', became: 'tunnel' }), makeRecord({ form: 'connect', became: 'tunnel' }), makeRecord({ form: 'gateway', became: 'tunnel', status: 101 })];
  for (const record of [one, other, upgraded]) metrics.tunnelOpened(record);
  t.equal(metrics.tunnels(0).open, 3);
  t.equal(await admitted(), 3, 'admitted when they open, not again when they end');
  metrics.ended(Object.assign(one, { durationMs: 5000 }));
  metrics.ended(Object.assign(upgraded, { durationMs: 5001 }));
  t.equal(metrics.tunnels(0).open, 1);
  metrics.ended(makeRecord({ form: 'connect', became: null, dialled: false, status: 502, code: 'unreachable' }));
  metrics.ended(makeRecord({ form: 'connect', became: null, dialled: false, status: 403, code: 'no-rule' }));
  t.equal(await admitted(), 4, 'and a failed dial, which alerts divide by this, but no denial');
  const { samples } = await scrape(metrics);
  t.equal(samples.get('eco_egress_tunnels_active{form="connect",destination="eco-sit"}'), 1);
  t.equal(samples.get('eco_egress_tunnels_active{form="gateway",destination="eco-sit"}'), 0);
  t.equal(samples.get('eco_egress_tunnel_duration_seconds_bucket{le="5",form="connect",destination="eco-sit"}'), 1);
  t.equal(samples.get('eco_egress_tunnel_duration_seconds_bucket{le="5",form="gateway",destination="eco-sit"}'), 0);
  t.equal(samples.get('eco_egress_tunnel_duration_seconds_count{form="connect",destination="eco-sit"}'), 1, 'a CONNECT that failed was no tunnel');
  t.notOk([...samples.keys()].some((name) => name.startsWith('eco_egress_request_duration_seconds')), 'and none of them an exchange');
});

t.test('bytes of a tunnel count as they move, and once, also where the address is not known here', async (t) => {
  for (const form of ['connect', 'sni'] as const) {
    const metrics = create();
    const record = makeRecord({ form, became: 'tunnel', status: form === 'sni' ? 0 : 200, upstreamAddress: '-', bytesSent: 0, bytesReceived: 0 });
    const sent = async (): Promise<number | undefined> =>
      (await scrape(metrics)).samples.get(`eco_egress_bytes_total{form="${form}",destination="eco-sit",direction="sent"}`);
    metrics.tunnelOpened(record);
    t.equal(await sent(), 0);
    record.bytesSent = 10;
    t.equal(await sent(), 10);
    record.bytesSent = 15;
    metrics.ended(record);
    t.equal(await sent(), 15);
    t.equal(metrics.tunnels(0).open, 0);
  }
});

t.test('no record is kept of a tunnel that has ended', async (t) => {
  const metrics = create();
  const records = new Set<WeakRef<object>>();
  const run = (): void => {
    for (let count = 0; count < 100; count += 1) {
      const record = makeRecord({ form: 'sni', became: 'tunnel', status: 0, upstreamAddress: '-' });
      records.add(new WeakRef(record));
      metrics.tunnelOpened(record);
      metrics.ended(record);
    }
  };
  run();
  bytesInUse();
  // A WeakRef holds what it has shown until its turn of the loop is over.
  await new Promise((resolve) => setImmediate(resolve));
  bytesInUse();
  t.equal([...records].filter((reference) => reference.deref() !== undefined).length, 0);
  t.equal(metrics.tunnels(0).open, 0);
});

t.test('upstream connections', async (t) => {
  const metrics = create();
  metrics.upstreamConnected('eco-sit', 4, 10, -1, -1);
  metrics.upstreamConnected('eco-sit', -1, 20, 30, 40);
  metrics.upstreamPooled('eco-sit', 1, 0);
  metrics.upstreamPooled('eco-sit', -1, 1);
  metrics.upstreamFailed('eco-sit', 'tls-certificate', 'why');
  metrics.upstreamFailed('eco-sit', 'tls-certificate', 'why');
  metrics.clientConnections(1);
  const { samples } = await scrape(metrics);
  t.equal(samples.get('eco_egress_upstream_connections_opened_total{destination="eco-sit"}'), 2);
  t.equal(samples.get('eco_egress_upstream_connect_seconds_count{destination="eco-sit",phase="dns"}'), 1);
  t.equal(samples.get('eco_egress_upstream_connect_seconds_sum{destination="eco-sit",phase="tcp"}'), 0.03);
  t.equal(samples.get('eco_egress_upstream_connect_seconds_count{destination="eco-sit",phase="tls"}'), 1);
  t.equal(samples.get('eco_egress_upstream_connect_seconds_sum{destination="eco-sit",phase="hop"}'), 0.04);
  t.equal(samples.get('eco_egress_upstream_connections{destination="eco-sit",state="active"}'), 0);
  t.equal(samples.get('eco_egress_upstream_connections{destination="eco-sit",state="idle"}'), 1);
  t.equal(samples.get('eco_egress_upstream_errors_total{destination="eco-sit",error="tls-certificate"}'), 2);
  t.equal(samples.get('eco_egress_client_connections'), 1);
});

t.test('counters only ever grow, also when scrapes overlap', async (t) => {
  const metrics = create();
  let last = new Map<string, number>();
  for (let round = 0; round < 20; round += 1) {
    metrics.ended(makeRecord({ code: round % 2 === 0 ? 'ok' : 'upstream-silent', form: round % 3 === 0 ? 'connect' : 'forward' }));
    metrics.upstreamConnected('eco-sit', round, round, round, round);
    const [one, other] = await Promise.all([scrape(metrics), scrape(metrics)]);
    const counts = (of: Scrape): [string, number][] =>
      [...of.samples].filter(([name]) => name.startsWith('eco_egress_') && /_(total|count|sum|bucket)\b/.test(name));
    t.strictSame(counts(one), counts(other));
    for (const [name, value] of last) if ((one.samples.get(name) ?? -1) < value) t.fail(`${name} fell from ${value}`);
    last = new Map(counts(one));
  }
  t.ok(last.size > 40);
});

t.test('nothing a client sends adds a series', async (t) => {
  const metrics = create();
  for (const destination of ['eco-sit', '-']) metrics.ended(makeRecord({ form: 'forward', destination, client: '-' }));
  metrics.tunnelOpened(makeRecord({ form: 'forward', destination: '-' }));
  metrics.upstreamFailed('-', 'unreachable', 'why');
  const before = [...(await scrape(metrics)).samples.keys()].filter((name) => name.startsWith('eco_egress_'));
  for (let count = 0; count < 10_000; count += 1) {
    const evil = `host-${count}"} 1\n`;
    metrics.ended(makeRecord({ form: 'forward', host: evil, path: evil, method: evil, clientAddress: evil, destination: '-', client: '-' }));
    // Not even a mistake of ours, names taken from a request, may do it.
    metrics.ended(makeRecord({ form: 'forward', destination: evil, client: evil, rule: evil, upstreamAddress: evil }));
    metrics.tunnelOpened(makeRecord({ form: 'forward', destination: evil }));
    metrics.upstreamFailed(evil, 'unreachable', 'why');
  }
  const { samples } = await scrape(metrics);
  t.strictSame([...samples.keys()].filter((name) => name.startsWith('eco_egress_')), before);
  t.equal(samples.get('eco_egress_requests_total{form="forward",destination="-",client="-",outcome="allowed",code="ok"}'), 20_001);
});

t.test('every code counts under an outcome', async (t) => {
  const metrics = create();
  const codes = Object.keys(FAULTS) as FaultCode[];
  for (const code of codes) metrics.ended(makeRecord({ code, status: FAULTS[code].status }));
  const { families } = await scrape(metrics);
  const seen = families.get('eco_egress_requests_total')?.metrics.map(({ labels }) => labels?.['code']);
  t.strictSame(seen?.toSorted(), codes.toSorted());
});

t.test('two of them do not share anything', async (t) => {
  const one = create();
  const other = create();
  one.clientConnections(5);
  t.equal((await scrape(other)).samples.get('eco_egress_client_connections'), 0);
});

t.test('the page lists every metric with its type and labels, and no other', async (t) => {
  const defined = create().exposition.definitions();
  const code = new Map(defined.map(({ name, type, labelNames }) => [name, `${type} {${labelNames.join(', ')}}`]));
  const page = new Map(readDocRows('docs/metrics.md').map(([name = '', type, labels]) => [name, `${type} {${labels}}`]));
  t.ok(code.size > 20);
  // Some of Node's own exist on Linux alone, where this test then holds them too.
  const onLinuxOnly = ['process_virtual_memory_bytes', 'process_heap_bytes', 'process_open_fds', 'process_max_fds'];
  if (process.platform !== 'linux') for (const name of onLinuxOnly) page.delete(name);
  t.strictSame([...page].sort(), [...code].sort());
});

t.test('a destination that a reload has removed: its counters stay, and its state goes, or an alert would never end', async (t) => {
  const metrics = create();
  metrics.upstreamFailed('eco-sit', 'connection-refused', 'It refused.');
  metrics.upstreamReached('eco-sit', '192.0.2.1', Date.now());
  const states = async (): Promise<string[]> => [...(await scrape(metrics)).samples.keys()].filter((name) => /^eco_egress_(destination_last_outcome|upstream_certificate_expiry)\w*\{destination="eco-sit"/.test(name));
  t.equal((await states()).length, 7);
  metrics.policyChanged({ ...POLICY, destinations: ['other'] });
  t.strictSame(await states(), []);
  t.strictSame(metrics.healths().map(({ destination }) => destination), ['other']);
  t.equal((await scrape(metrics)).samples.get('eco_egress_upstream_errors_total{destination="eco-sit",error="connection-refused"}'), 1);
  metrics.policyChanged(POLICY);
  t.equal((await states()).length, 7, 'as it was, if it comes back');
});
