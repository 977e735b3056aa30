/** Counts the events of the data path, in plain numbers that are read at each scrape. docs/metrics.md lists every metric. */
import type { FaultCode } from '../errors.ts';
import type { Outcome } from './access-record.ts';
import { Cells, type DestinationCells, type FormCells, type FormName, increment, type PolicyFacts } from './cells.ts';
import { type HealthView, LAST_OUTCOMES, STATUS_CLASSES, viewHealth } from './destination-health.ts';
import { Exposition, histogram, labelled, metric, single } from './exposition.ts';
import { History } from './history.ts';
import type { LossCounts } from './log-sink.ts';
import { countByClient, type TunnelsView, viewTunnels } from './open-tunnels.ts';
import {
  createEnforcementMetrics,
  createSourceMetrics,
  NOTHING_WATCHED,
  processMetrics,
  registerLosses,
  registerParts,
  registerProcess,
  registerStates,
  type WatchedParts,
} from './collectors.ts';
import { Attempts, makeTotal, type Telemetry } from './telemetry.ts';
import { NO_TRACING, type TracingFacts } from './traces.ts';
import { type DestinationTraffic, viewTraffic } from './traffic-view.ts';

const OUTCOMES: readonly Outcome[] = ['allowed', 'denied', 'failed', 'aborted'];
/** Dial failures that say nothing about the upstream. */
const OF_OURS: ReadonlySet<FaultCode> = new Set<FaultCode>(['limit-reached', 'overloaded', 'draining', 'revoked', 'internal']);
const NOTHING_LOST: LossCounts = { slow: 0, full: 0, gone: 0, failed: 0, unwritable: 0 };

/** For `createMetrics`. */
export interface MetricsOptions {
  readonly policy: PolicyFacts;
  readonly version: string;
  /** Log lines lost so far; read at every scrape. */
  readonly lostLogLines?: () => LossCounts;
  /** Read at every scrape; absent: nothing is traced. */
  readonly tracing?: () => TracingFacts;
  /** Runs the listeners of the data path, and counts their failures. */
  readonly attempts?: Attempts;
}

/** The counting half of the telemetry. */
export interface Metrics extends Omit<Telemetry, 'admitted' | 'notice'> {
  readonly exposition: Exposition;
  /** Of every configured destination. */
  readonly healths: () => HealthView[];
  readonly tunnels: (most: number) => TunnelsView;
  /** Short tunnels by client, most first. */
  readonly shortTunnels: () => (readonly [client: string, tunnels: number])[];
  /** These parts are read at every scrape from now on. */
  readonly watch: (parts: Partial<WatchedParts>) => void;
  /** Of the last 15 minutes, by the clock of `performance`. */
  readonly history: History;
  /** For a configured destination; null: it is not configured. */
  readonly traffic: (destination: string) => DestinationTraffic | null;
  /** Client connections open now. */
  readonly connections: () => number;
  /** By the key that names the file: when the first certificate in it expires, Unix time in seconds. */
  readonly certificates: () => ReadonlyMap<string, number>;
}

/** Nothing here is asynchronous, or allocates for a known series. */
export function createMetrics(options: MetricsOptions): Metrics {
  const { policy, version, attempts = new Attempts(() => {}) } = options;
  const exposition = new Exposition(attempts.run);
  const cells = new Cells();
  cells.adopt(policy);
  registerRequests(exposition, cells);
  registerUpstreams(exposition, cells);
  const parts = { ...NOTHING_WATCHED };
  registerParts(exposition, cells, parts);
  const history = new History(cells, performance.now());
  registerProcess(exposition, cells);
  registerLosses(exposition, options.lostLogLines ?? (() => NOTHING_LOST), attempts.failures, options.tracing ?? (() => NO_TRACING));
  registerPolicy(exposition, cells);
  metric(exposition, 'gauge', 'build_info', 'Version of the proxy and of Node.js; the value is always 1.', ['version', 'node'], () => [
    [{ version, node: process.versions.node }, 1],
  ]);
  exposition.addForeign(processMetrics());
  const [source, enforcement] = [createSourceMetrics(exposition), createEnforcementMetrics(exposition)];
  registerStates(exposition, parts);

  return {
    exposition,
    watch: (more) => {
      Object.assign(parts, more);
    },
    history,
    traffic: (destination) => viewTraffic(cells, history, destination, performance.now()),
    connections: () => cells.clientConnections,
    certificates: () => cells.certificates,
    ...makeTotal<Omit<Telemetry, 'admitted' | 'notice'>>(
      {
        ...source,
        ...enforcement,
        ended: cells.countEnd.bind(cells),
        tunnelOpened: (record) => {
          cells.countTunnel(record);
          // A 101, whose end may be hours away.
          if (record.upstreamStatus !== 0) cells.destination(record.destination).health.noteAnswer(record.upstreamStatus, Date.now());
        },
        tunnelAnswered: ({ destination }) => {
          cells.destination(destination).health.note('ok', Date.now());
        },
        upstreamConnected: (destination, dnsMs, tcpMs, tlsMs, hopMs) => {
          const upstream = cells.destination(destination);
          upstream.connectionsOpened += 1;
          if (dnsMs >= 0) upstream.dns.observe(dnsMs / 1000);
          if (tcpMs >= 0) upstream.tcp.observe(tcpMs / 1000);
          if (tlsMs >= 0) upstream.tls.observe(tlsMs / 1000);
          if (hopMs >= 0) upstream.hop.observe(hopMs / 1000);
        },
        upstreamReached: (destination, address, certificateEnds) => {
          cells.destination(destination).reached.note(address, certificateEnds, Date.now());
        },
        parentReached: (hop, parent, certificateEnds) => {
          cells.noteParent(hop, parent, certificateEnds);
        },
        upstreamFailed: (destination, code, detail) => {
          const { errors, health } = cells.destination(destination);
          increment(errors, code);
          if (!OF_OURS.has(code)) health.noteFailure(code, detail, Date.now());
        },
        upstreamPooled: (destination, active, idle) => {
          const upstream = cells.destination(destination);
          upstream.connectionsActive += active;
          upstream.connectionsIdle += idle;
        },
        clientConnections: (change) => {
          cells.clientConnections += change;
        },
        descriptorsRefused: (what) => {
          cells.descriptorRefusals[what] += 1;
        },
        adminRefused: (reason) => {
          cells.adminRefusals[reason] += 1;
        },
        policyChanged: (facts) => {
          cells.adopt(facts);
        },
        policyReloaded: (result) => {
          cells.reloads[result] += 1;
          cells.lastReload = result;
        },
      },
      'metrics',
      attempts.contain,
    ),
    healths: () =>
      Array.from(cells.configured, (name) => {
        const { health, errors } = cells.destination(name);
        return viewHealth(name, health, errors);
      }),
    tunnels: (most) => viewTunnels(cells, most, performance.now()),
    shortTunnels: () => [...cells.shortTunnels].filter(([, tunnels]) => tunnels > 0).toSorted((one, other) => other[1] - one[1]),
  };
}

interface FormLabels extends Readonly<Record<string, string>> {
  readonly form: FormName;
  readonly destination: string;
}

function registerRequests(exposition: Exposition, cells: Cells): void {
  function* forms(): Generator<readonly [FormLabels, FormCells], void, undefined> {
    for (const [destination, counted] of cells.destinations)
      for (const [form, formCells] of counted.forms) yield [{ form, destination }, formCells];
  }
  metric(
    exposition,
    'counter',
    'requests_total',
    'Exchanges and tunnels that have ended.',
    ['form', 'destination', 'client', 'outcome', 'code'],
    function* () {
      for (const [labels, { requests }] of forms()) {
        for (const [client, codes] of requests) {
          for (const [code, counts] of codes) {
            for (const outcome of OUTCOMES) if (counts[outcome] > 0) yield [{ ...labels, client, outcome, code }, counts[outcome]];
          }
        }
      }
    },
  );
  single(
    exposition,
    'counter',
    'requests_folded_total',
    'Requests counted under no client and no destination, because there were too many label sets.',
    () => cells.folded,
  );
  metric(
    exposition,
    'counter',
    'destination_requests_total',
    'Exchanges and tunnels that have ended, by destination; exported from the start.',
    ['destination', 'outcome'],
    function* () {
      for (const [destination, { outcomes }] of cells.destinations)
        for (const outcome of OUTCOMES) yield [{ destination, outcome }, outcomes[outcome]];
    },
  );
  labelled(
    exposition,
    'counter',
    'destination_admitted_total',
    'Requests that were let through, by destination: a tunnel when it opens, any other when it ends without a denial.',
    'destination',
    () => Array.from(cells.destinations, ([destination, { admitted }]) => [destination, admitted]),
  );
  metric(
    exposition,
    'counter',
    'denials_total',
    'Requests denied, by client and code; exported from the start.',
    ['client', 'code'],
    function* () {
      for (const [client, codes] of cells.denials) for (const [code, count] of codes) yield [{ client, code }, count];
    },
  );
  metric(
    exposition,
    'counter',
    'would_deny_total',
    'Exchanges and tunnels that report mode let pass, by the code they would have been denied with.',
    ['form', 'destination', 'client', 'code'],
    function* () {
      for (const [labels, { reported }] of forms())
        for (const [client, codes] of reported) for (const [code, count] of codes) yield [{ ...labels, client, code }, count];
    },
  );
  metric(exposition, 'counter', 'bytes_total', 'Body and tunnel bytes.', ['form', 'destination', 'direction'], function* () {
    for (const [labels, form] of forms()) {
      let { bytesSent, bytesReceived } = form;
      for (const tunnel of form.open) {
        bytesSent += tunnel.bytesSent;
        bytesReceived += tunnel.bytesReceived;
      }
      yield [{ ...labels, direction: 'sent' }, bytesSent];
      yield [{ ...labels, direction: 'received' }, bytesReceived];
    }
  });
  metric(exposition, 'gauge', 'tunnels_active', 'Tunnels open now.', ['form', 'destination'], () =>
    Array.from(forms(), ([labels, { open }]) => [labels, open.size]),
  );
  labelled(exposition, 'gauge', 'client_tunnels', 'Tunnels open now, by client.', 'client', () =>
    [...countByClient(cells)].filter(([client, tunnels]) => client !== '-' || tunnels > 0),
  );
  histogram(exposition, 'request_duration_seconds', 'Duration of exchanges that were let through.', ['form', 'destination'], () =>
    Array.from(forms(), ([labels, { exchanges }]) => [labels, exchanges]),
  );
  histogram(exposition, 'tunnel_duration_seconds', 'How long tunnels were open.', ['form', 'destination'], () =>
    Array.from(forms(), ([labels, { tunnelTimes }]) => [labels, tunnelTimes]),
  );
}

function registerUpstreams(exposition: Exposition, cells: Cells): void {
  /** Nothing should ever be dialled for `-`; if it was, the metrics show it. */
  const dialled = (): (readonly [string, DestinationCells])[] =>
    [...cells.destinations].filter(([name, { connectionsOpened, errors }]) => name !== '-' || connectionsOpened + errors.size > 0);
  histogram(
    exposition,
    'upstream_connect_seconds',
    'Time to open a connection to an upstream, by phase.',
    ['destination', 'phase'],
    function* () {
      for (const [destination, { dns, tcp, hop, tls }] of dialled())
        for (const [phase, cell] of Object.entries({ dns, tcp, hop, tls })) yield [{ destination, phase }, cell];
    },
  );
  metric(
    exposition,
    'counter',
    'upstream_errors_total',
    'Dials and upstreams that failed, by code.',
    ['destination', 'error'],
    function* () {
      for (const [destination, { errors }] of dialled()) for (const [error, count] of errors) yield [{ destination, error }, count];
    },
  );
  metric(
    exposition,
    'gauge',
    'destination_last_outcome',
    'Outcome of the latest request to a destination: 1 for that outcome, 0 for the others.',
    ['destination', 'outcome'],
    function* () {
      for (const destination of cells.configured)
        for (const outcome of LAST_OUTCOMES)
          yield [{ destination, outcome }, cells.destination(destination).health.last === outcome ? 1 : 0];
    },
  );
  metric(
    exposition,
    'gauge',
    'destination_last_outcome_timestamp_seconds',
    'When a request to a destination last had this outcome, Unix time; 0: never.',
    ['destination', 'outcome'],
    function* () {
      for (const destination of cells.configured)
        for (const outcome of LAST_OUTCOMES) yield [{ destination, outcome }, cells.destination(destination).health.at[outcome] / 1000];
    },
  );
  metric(
    exposition,
    'counter',
    'upstream_responses_total',
    'Answers of upstreams, by the class of their status.',
    ['destination', 'class'],
    function* () {
      for (const [destination, { health }] of dialled())
        for (const answered of STATUS_CLASSES) yield [{ destination, class: answered }, health.answers[answered]];
    },
  );
  metric(exposition, 'gauge', 'upstream_connections', 'Pooled connections to upstreams.', ['destination', 'state'], function* () {
    for (const [destination, { connectionsActive, connectionsIdle }] of dialled()) {
      yield [{ destination, state: 'active' }, connectionsActive];
      yield [{ destination, state: 'idle' }, connectionsIdle];
    }
  });
  labelled(exposition, 'counter', 'upstream_connections_opened_total', 'Connections opened to upstreams.', 'destination', () =>
    dialled().map(([destination, { connectionsOpened }]) => [destination, connectionsOpened]),
  );
}

function registerPolicy(exposition: Exposition, cells: Cells): void {
  labelled(exposition, 'gauge', 'policy_info', 'Hash of the whole configuration in force; the value is always 1.', 'hash', () => [
    [cells.config.hash, 1],
  ]);
  labelled(
    exposition,
    'gauge',
    'config_loaded_timestamp_seconds',
    'When the configuration in force was taken over from its file, Unix time.',
    'file',
    () => [[cells.config.file, cells.config.loadedAt / 1000]],
  );
  labelled(
    exposition,
    'gauge',
    'warnings',
    'Warnings of the configuration in force, by kind: what npx eco-egress check warns of.',
    'kind',
    () => cells.config.warnings,
  );
  labelled(exposition, 'gauge', 'limit', 'Numbers of `limits` in the configuration in force.', 'limit', () => Object.entries(cells.limits));
  labelled(
    exposition,
    'gauge',
    'certificate_expiry_timestamp_seconds',
    'When the first certificate of a configured file expires, Unix time.',
    'certificate',
    () => cells.certificates,
  );
  metric(
    exposition,
    'gauge',
    'parent_certificate_expiry_timestamp_seconds',
    'When the first certificate expires of the chain that a parent proxy last showed, Unix time; absent before the first TLS handshake with it.',
    ['hop', 'parent'],
    function* () {
      for (const [hop, parents] of cells.parents) for (const [parent, ends] of parents) if (ends > 0) yield [{ hop, parent }, ends / 1000];
    },
  );
  single(
    exposition,
    'gauge',
    'revocation_list_expiry_timestamp_seconds',
    'When the first list of revoked client certificates is out of date, Unix time; absent without one.',
    () => (typeof cells.config.listsEnd === 'number' ? cells.config.listsEnd / 1000 : null),
  );
  metric(
    exposition,
    'gauge',
    'rule_expiry_timestamp_seconds',
    'When a rule ends that has an end, Unix time; of the 100 that end next.',
    ['rule', 'owner', 'ticket'],
    () => cells.ruleEnds.map(({ rule, owner, ticket, until }) => [{ rule, owner: owner ?? '-', ticket: ticket ?? '-' }, until / 1000]),
  );
  labelled(exposition, 'counter', 'policy_reloads_total', 'Configurations offered to the running proxy.', 'result', () =>
    Object.entries(cells.reloads),
  );
  single(
    exposition,
    'gauge',
    'config_last_reload_successful',
    '1: the configuration offered last is in force; 0: it was refused, and an earlier one is.',
    () => (cells.lastReload === 'applied' ? 1 : 0),
  );
}
