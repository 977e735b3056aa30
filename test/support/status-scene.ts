/** An admin port without a proxy behind it that has much to show: for tests of the status page. */
import { type AdminOptions, listenAdmin } from '../../src/admin/app.ts';
import type { DrainView } from '../../src/drain/drain-view.ts';
import type { AdminInfo, Readiness } from '../../src/admin/status-sources.ts';
import type { DenialRecord } from '../../src/explain/kept-request.ts';
import type { SourceView } from '../../src/source-ip/source-proof.ts';
import type { HealthView } from '../../src/telemetry/destination-health.ts';
import type { DestinationTraffic } from '../../src/telemetry/traffic-view.ts';
import { createExposition } from './exposition.ts';
import { NO_CONFIGURATION } from './no-configuration.ts';
import { NO_EXPLAINING } from './no-explaining.ts';

/** What a client may choose, and a page must not act on. */
export const EVIL = `<img src=x onerror=alert(1)>"'&\u202e</script>`;

const secondsAgo = (seconds: number): string => new Date(Date.now() - seconds * 1000).toISOString();
const listener = (port: number): AdminInfo['config']['listeners']['http'][number] => ({ host: '0.0.0.0', port, forms: ['connect'], trustedPeers: [], proxyProtocol: 'off', believe: [] });

const HEALTH: HealthView = { destination: '', last: 'ok', inRow: 9, lastOk: secondsAgo(1), lastError: null, lastFailure: null, answers: { '1xx': 0, '2xx': 9_000, '3xx': 0, '4xx': 12, '5xx': 0 }, failures: {} };

function trafficOf(name: string): DestinationTraffic {
  const now = { requestsPerSecond: 12.34, requests: 740, failures: { minute: {}, hour: {} }, errors: { minute: 0, hour: 2 }, p50: 11, p99: 87 };
  const rest = { pool: { active: 3, idle: 5, queued: 0 }, tunnels: 4, addresses: [{ address: '10.40.1.9', at: Date.now() - 8_000 }], certificateEnds: Date.now() + 61 * 86_400_000 };
  if (name === 'billing') {
    const failure = { at: secondsAgo(2), code: 'connect-timeout', detail: 'billing.partner.example:443: no answer from 203.0.113.7 within 5000 ms' } as const;
    return {
      ...rest,
      health: { ...HEALTH, destination: name, last: 'failed', lastOk: secondsAgo(700), lastFailure: failure },
      now: { ...now, requestsPerSecond: 3.1, requests: 186, failures: { minute: { 'connect-timeout': 180, 'name-not-found': 3 }, hour: { 'connect-timeout': 900 } }, p50: null, p99: null },
      addresses: [{ address: '203.0.113.7', at: Date.now() - 700_000 }],
      certificateEnds: Date.now() + 3 * 86_400_000,
    };
  }
  if (name === 'tickets') return { ...rest, health: { ...HEALTH, destination: name, last: 'error', lastError: { at: secondsAgo(4), status: 503 } }, now: { ...now, errors: { minute: 31, hour: 44 } }, certificateEnds: 0 };
  return { ...rest, health: { ...HEALTH, destination: name }, now };
}

function denial(i: number, verdict: DenialRecord['verdict'] = 'deny'): DenialRecord {
  return {
    requestId: `id-${verdict}-${i}`,
    time: secondsAgo(i * 7),
    verdict,
    code: verdict === 'allow' ? 'connect-timeout' : 'host-not-allowed',
    detail: i === 1 ? `The host ${EVIL} is in no destination` : 'no answer from 203.0.113.7 within 5000 ms',
    remedy: 'add it',
    status: 403,
    form: 'connect',
    client: i === 2 ? '-' : 'dynatrace-sit',
    clientAddress: '10.8.3.17',
    method: 'CONNECT',
    host: i === 1 ? EVIL.repeat(10) : 'billing.partner.example',
    port: 443,
    path: '',
    destination: 'billing',
  };
}

const destination = (name: string, via: string[] = []): AdminInfo['config']['destinations'][number] => ({ name, hosts: [`${name}.partner.example`], ports: [443, 80], report: false, via: via.map((hop) => ({ name: hop })) });

export const SCENE_INFO: AdminInfo = {
  version: '1.0.0',
  instance: 'eco-egress-7d9f-x2x4k',
  configFile: '/etc/eco-egress/egress.yaml',
  configHash: 'b26bcd32cdd30652',
  loadedAt: Date.now() - 3_600_000,
  config: {
    mode: 'enforce',
    listeners: { http: [listener(8080), listener(3128)], tls: [listener(8443)], admin: { host: '::', port: 9090, hosts: [] } },
    destinations: [destination('eco-sit', ['activegateway']), destination('billing'), destination('tickets'), destination('archive')],
    rules: [{ report: true, from: null, until: null }],
  },
  enforcement: { words: 'In force.' },
  ruleEnds: [{ rule: 'rules[1]', clients: ['dynatrace-sit'], destinations: ['billing'], owner: 'payments', reason: EVIL, ticket: 'CHG-1042', until: Date.now() + 86_400_000, state: 'soon' }],
  limits: [
    { name: 'tunnels', used: 1_720, limit: 2_000 },
    { name: 'exchanges', used: 12, limit: 1_000 },
    { name: 'client connections', used: 1_903, limit: 4_000 },
  ],
  ports: { limit: 2_048, destinations: new Map([['eco-sit', { used: 1_740, highWater: 1_800, refused: 0 }], ['billing', { used: 90, highWater: 400, refused: 12 }]]), shortTunnels: [['dynatrace-sit', 317]] },
  certificates: new Map([['tlsServer.certFile', Date.now() / 1000 + 9 * 86_400]]),
};

const SOURCE: SourceView = {
  result: 'match',
  expected: ['34.123.45.67'],
  seen: '34.123.45.67',
  at: secondsAgo(12),
  since: secondsAgo(86_000),
  code: null,
  reason: null,
  remark: null,
  lastSeen: null,
  silentPartners: [],
  history: [
    { at: secondsAgo(86_000), result: 'match', seen: '34.123.45.67', code: null },
    { at: secondsAgo(87_000), result: 'unknown', seen: null, code: 'connect-timeout' },
  ],
};

/** A forecast. */
const SCENE_DRAIN: DrainView = {
  state: 'running',
  deadline: null,
  secondsLeft: null,
  tunnels: { open: 1_720, idle: 1_650, busy: 70, endsPerSecond: 72.4, medianAge: 840, oldestAge: 5_400, byClient: [], byDestination: [] },
  exchanges: 12,
  ended: { byThemselves: 0, quiet: 0, busy: 0, cut: 0, exchangesCut: 0 },
};

const READINESS: Readiness = {
  ready: true,
  reasons: [],
  warnings: [`The latest 183 requests to billing failed (connect-timeout at ${secondsAgo(2)}: no answer from 203.0.113.7 within 5000 ms); the last one that succeeded was at ${secondsAgo(700)}.`],
  notes: ['deploy/config/egress.yaml:12:3 rules[0].report: Report mode.'],
  policyChange: { at: secondsAgo(3_600), different: true, denies: false, sentence: '1 class of requests is newly allowed.', classes: ['+ dynatrace-sit may CONNECT tickets.partner.example:443'] },
};

const STEPS = 180;
const wave = (height: number, most = STEPS): number[] => Array.from({ length: STEPS }, (_, i) => Number((height * (1 + Math.sin(i / 12)) + (i % 7) / 3).toPrecision(3))).slice(-most);

/** What the admin port is given; `parts` instead of its own. */
export function sceneOptions(parts: Partial<AdminOptions> = {}): AdminOptions {
  return {
    exposition: createExposition(),
    readiness: () => READINESS,
    info: () => SCENE_INFO,
    explainer: {
      ...NO_EXPLAINING,
      failures: { room: 200, latest: () => [1, 2, 3].map((i) => denial(i, 'allow')) },
      denials: { room: 1_000, view: () => ({ total: 41, kept: 1_000, frequent: [1, 2].map((i) => ({ client: 'dynatrace-sit', host: denial(i).host, count: 30 - i, overcount: i, latest: denial(i) })), latest: [1, 2, 3].map((i) => denial(i)) }) },
    },
    configuration: NO_CONFIGURATION,
    traffic: {
      destinations: () => [],
      tunnels: () => ({
        open: 1_720,
        byClient: [{ client: 'dynatrace-sit', tunnels: 1_700 }, { client: '-', tunnels: 20 }],
        oldest: [1, 2, 3].map((i) => ({ requestId: `t-${i}`, client: 'dynatrace-sit', clientAddress: '10.8.3.17', form: 'connect', host: i === 1 ? EVIL : 'eco-sit.partner.example', port: 443, destination: 'eco-sit', upstreamAddress: '10.40.1.9', ageMs: 5_400_000 / i, bytesSent: 123_456 * i, bytesReceived: 9_876_543 * i })),
      }),
      drain: () => SCENE_DRAIN,
      of: (name) => (['archive', '-'].includes(name) ? null : trafficOf(name)),
      queued: () => new Map([['eco-sit', 2]]),
      history: {
        steps: STEPS,
        clients: () => [{ client: 'dynatrace-sit', requestsPerSecond: 27.1, requests: 1_626, denials: 12, tunnels: 1_700 }, { client: 'synthetic-monitoring', requestsPerSecond: 0.7, requests: 42, denials: 0, tunnels: 0 }, { client: '-', requestsPerSecond: 0, requests: 0, denials: 4, tunnels: 20 }],
        curves: (names, most) => ['', ...names].map((name) => ({ name, requests: wave(12, most), failures: wave(name === 'billing' ? 90 : 0.2, most), denials: wave(3, most), p99: wave(40, most) })),
        denials: () => 16,
      },
    },
    sourceIp: () => SOURCE,
    circuits: () => [{ destination: 'billing', host: 'billing.partner.example', port: 443, carries: 'https', addresses: [{ address: '203.0.113.7', state: 'open', failures: 183, since: secondsAgo(60), reason: 'no answer within 5000 ms', nextTrial: secondsAgo(-12) }] }],
    ...parts,
  };
}

/** The admin port of this scene, on any port of loopback. */
export async function openScene(test: { teardown(end: () => unknown): void }, parts: Partial<AdminOptions> = {}): Promise<string> {
  const admin = await listenAdmin(sceneOptions(parts), { host: '127.0.0.1', port: 0 });
  test.teardown(() => admin.close());
  return `http://127.0.0.1:${admin.address.port}`;
}
