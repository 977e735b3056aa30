/** Counts the events of the data path, in plain numbers that are read at each scrape. docs/metrics.md lists every metric. */
import type { FaultCode } from '../errors.ts';
import type { Outcome } from './access-record.ts';
import { Cells, type DestinationCells, type FormCells, type FormName, increment, type PolicyFacts } from './cells.ts';
import { type HealthView, LAST_OUTCOMES, STATUS_CLASSES, viewHealth } from './destination-health.ts';
import { constant, counter, Exposition, gauge, histogram, type Sample, single } from './exposition.ts';
import { History } from './history.ts';
import type { LossCounts } from './log-sink.ts';
import { countByClient, type TunnelsView, viewTunnels } from './open-tunnels.ts';
import { createEnforcementMetrics, createSourceMetrics, NOTHING_WATCHED, processMetrics, registerLosses, registerParts, registerProcess, registerStates, registerTracing, type WatchedParts } from './collectors.ts';
import { type Attempt, Attempts, type Part, type Telemetry } from './telemetry.ts';
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
  readonly attempts?: { readonly run: Attempt; readonly failures: Readonly<Record<Part, number>> };
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
  registerLosses(exposition, options.lostLogLines ?? (() => NOTHING_LOST), attempts.failures);
  registerTracing(exposition, options.tracing ?? (() => NO_TRACING));
  registerPolicy(exposition, cells);
  constant(exposition, 'build_info', 'Version of the proxy and of Node.js; the value is always 1.', { version, node: process.versions.node });
  exposition.addForeign(processMetrics());
  const [source, enforcement] = [createSourceMetrics(exposition), createEnforcementMetrics(exposition)];
  registerStates(exposition, parts);

  return {
    exposition,
    watch: (more) => { Object.assign(parts, more); },
    history,
    traffic: (destination) => viewTraffic(cells, history, destination, performance.now()),
    connections: () => cells.clientConnections,
    certificates: () => cells.certificates,
    ...source,
    ...enforcement,
    ended: cells.countEnd.bind(cells),
    tunnelOpened: (record) => {
      cells.countTunnel(record);
      // A 101, whose end may be hours away.
      if (record.upstreamStatus !== 0) cells.destination(record.destination).health.noteAnswer(record.upstreamStatus, Date.now());
    },
    tunnelAnswered: ({ destination }) => {
      cells.destination(destination).health.noteTunnel(Date.now());
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
    },
    healths: () => Array.from(cells.configured, (name) => {
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

type EachForm = (visit: (labels: FormLabels, form: FormCells) => void) => void;
type EachDestination = (visit: (destination: string, cells: DestinationCells) => void) => void;

function registerRequests(exposition: Exposition, cells: Cells): void {
  function* eachForm(): Generator<readonly [FormLabels, FormCells], void, undefined> {
    for (const [destination, { forms }] of cells.destinations) for (const [form, formCells] of forms) yield [{ form, destination }, formCells];
  }
  const each: EachForm = (visit) => {
    for (const [labels, form] of eachForm()) visit(labels, form);
  };
  counter(exposition, 'requests_total', 'Exchanges and tunnels that have ended.', ['form', 'destination', 'client', 'outcome', 'code'], function* (): Generator<Sample, void, undefined> {
    for (const [labels, { requests }] of eachForm()) {
      for (const [client, codes] of requests) {
        for (const [code, counts] of codes) {
          for (const outcome of OUTCOMES) if (counts[outcome] > 0) yield [{ ...labels, client, outcome, code }, counts[outcome]];
        }
      }
    }
  });
  single(exposition, 'counter', 'requests_folded_total', 'Requests counted under no client and no destination, because there were too many label sets.', () => cells.folded);
  counter(exposition, 'destination_requests_total', 'Exchanges and tunnels that have ended, by destination; exported from the start.', ['destination', 'outcome'], (set) => {
    for (const [destination, { outcomes }] of cells.destinations) for (const outcome of OUTCOMES) set({ destination, outcome }, outcomes[outcome]);
  });
  counter(exposition, 'destination_admitted_total', 'Requests that were not denied, by destination: a tunnel when it opens, any other when it ends.', ['destination'], (set) => {
    for (const [destination, { admitted }] of cells.destinations) set({ destination }, admitted);
  });
  counter(exposition, 'denials_total', 'Requests denied, by client and code; exported from the start.', ['client', 'code'], (set) => {
    for (const [client, codes] of cells.denials) for (const [code, count] of codes) set({ client, code }, count);
  });
  counter(exposition, 'would_deny_total', 'Exchanges and tunnels that report mode let pass, by the code they would have been denied with.', ['form', 'destination', 'client', 'code'], function* (): Generator<Sample, void, undefined> {
    for (const [labels, { reported }] of eachForm()) for (const [client, codes] of reported) for (const [code, count] of codes) yield [{ ...labels, client, code }, count];
  });
  counter(exposition, 'bytes_total', 'Body and tunnel bytes.', ['form', 'destination', 'direction'], (set) => {
    each((labels, form) => {
      let { bytesSent, bytesReceived } = form;
      for (const tunnel of form.open) {
        bytesSent += tunnel.bytesSent;
        bytesReceived += tunnel.bytesReceived;
      }
      set({ ...labels, direction: 'sent' }, bytesSent);
      set({ ...labels, direction: 'received' }, bytesReceived);
    });
  });
  gauge(exposition, 'tunnels_active', 'Tunnels open now.', ['form', 'destination'], (set) => {
    each((labels, form) => {
      set(labels, form.open.size);
    });
  });
  gauge(exposition, 'client_tunnels', 'Tunnels open now, by client.', ['client'], (set) => {
    for (const [client, tunnels] of countByClient(cells)) if (client !== '-' || tunnels > 0) set({ client }, tunnels);
  });
  histogram(exposition, 'request_duration_seconds', 'Duration of exchanges that were let through.', ['form', 'destination'], (add) => {
    each((labels, form) => {
      if (form.exchanges.count > 0) add(labels, form.exchanges);
    });
  });
  histogram(exposition, 'tunnel_duration_seconds', 'How long tunnels were open.', ['form', 'destination'], (add) => {
    each((labels, form) => {
      if (form.tunnelTimes.count > 0) add(labels, form.tunnelTimes);
    });
  });
}

function registerUpstreams(exposition: Exposition, cells: Cells): void {
  const each: EachDestination = (visit) => {
    for (const [name, destination] of cells.destinations) {
      // Nothing should ever be dialled for `-`; if it was, the metrics show it.
      if (name !== '-' || destination.connectionsOpened + destination.errors.size > 0) visit(name, destination);
    }
  };
  histogram(exposition, 'upstream_connect_seconds', 'Time to open a connection to an upstream, by phase.', ['destination', 'phase'], (add) => {
    each((destination, { dns, tcp, hop, tls }) => {
      if (dns.count > 0) add({ destination, phase: 'dns' }, dns);
      if (tcp.count > 0) add({ destination, phase: 'tcp' }, tcp);
      if (hop.count > 0) add({ destination, phase: 'hop' }, hop);
      if (tls.count > 0) add({ destination, phase: 'tls' }, tls);
    });
  });
  counter(exposition, 'upstream_errors_total', 'Dials and upstreams that failed, by code.', ['destination', 'error'], (set) => {
    each((destination, { errors }) => {
      for (const [error, count] of errors) set({ destination, error }, count);
    });
  });
  gauge(exposition, 'destination_last_outcome', 'Outcome of the latest request to a destination: 1 for that outcome, 0 for the others.', ['destination', 'outcome'], (set) => {
    for (const destination of cells.configured) for (const outcome of LAST_OUTCOMES) set({ destination, outcome }, cells.destination(destination).health.last === outcome ? 1 : 0);
  });
  gauge(exposition, 'destination_last_outcome_timestamp_seconds', 'When a request to a destination last had this outcome, Unix time; 0: never.', ['destination', 'outcome'], (set) => {
    for (const destination of cells.configured) for (const outcome of LAST_OUTCOMES) set({ destination, outcome }, cells.destination(destination).health.at[outcome] / 1000);
  });
  counter(exposition, 'upstream_responses_total', 'Answers of upstreams, by the class of their status.', ['destination', 'class'], (set) => {
    each((destination, { health }) => {
      for (const answered of STATUS_CLASSES) set({ destination, class: answered }, health.answers[answered]);
    });
  });
  gauge(exposition, 'upstream_connections', 'Pooled connections to upstreams.', ['destination', 'state'], (set) => {
    each((destination, { connectionsActive, connectionsIdle }) => {
      set({ destination, state: 'active' }, connectionsActive);
      set({ destination, state: 'idle' }, connectionsIdle);
    });
  });
  counter(exposition, 'upstream_connections_opened_total', 'Connections opened to upstreams.', ['destination'], (set) => {
    each((destination, { connectionsOpened }) => {
      set({ destination }, connectionsOpened);
    });
  });
}

function registerPolicy(exposition: Exposition, cells: Cells): void {
  gauge(exposition, 'policy_info', 'Hash of the whole configuration in force; the value is always 1.', ['hash'], (set) => {
    set({ hash: cells.config.hash }, 1);
  });
  gauge(exposition, 'config_loaded_timestamp_seconds', 'When the configuration in force was taken over from its file, Unix time.', ['file'], (set) => {
    set({ file: cells.config.file }, cells.config.loadedAt / 1000);
  });
  gauge(exposition, 'warnings', 'Warnings of the configuration in force, by kind: what npx eco-egress check warns of.', ['kind'], (set) => {
    for (const [kind, count] of cells.config.warnings) set({ kind }, count);
  });
  gauge(exposition, 'limit', 'Numbers of `limits` in the configuration in force.', ['limit'], (set) => {
    for (const [limit, most] of Object.entries(cells.limits)) set({ limit }, most);
  });
  gauge(exposition, 'certificate_expiry_timestamp_seconds', 'When the first certificate of a configured file expires, Unix time.', ['certificate'], (set) => {
    for (const [certificate, expiry] of cells.certificates) set({ certificate }, expiry);
  });
  single(exposition, 'gauge', 'revocation_list_expiry_timestamp_seconds', 'When the first list of revoked client certificates is out of date, Unix time; absent without one.', () => (typeof cells.config.listsEnd === 'number' ? cells.config.listsEnd / 1000 : null));
  gauge(exposition, 'rule_expiry_timestamp_seconds', 'When a rule ends that has an end, Unix time; of the 100 that end next.', ['rule', 'owner', 'ticket'], (set) => {
    for (const { rule, owner, ticket, until } of cells.ruleEnds) set({ rule, owner: owner ?? '-', ticket: ticket ?? '-' }, until / 1000);
  });
  counter(exposition, 'policy_reloads_total', 'Configurations offered to the running proxy.', ['result'], (set) => {
    for (const [result, count] of Object.entries(cells.reloads)) set({ result }, count);
  });
}
