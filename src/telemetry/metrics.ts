/** Counts what the data path tells; prom-client reads the counts when it is scraped. docs/metrics.md lists every metric. */
import { Registry, collectDefaultMetrics } from 'prom-client';
import type { AccessRecord } from './access-record.ts';
import type { FormCells, FormName, PolicyFacts } from './cells.ts';
import { CONNECT_BOUNDS, Cells, EXCHANGE_BOUNDS, TUNNEL_BOUNDS } from './cells.ts';
import type { DestinationCells } from './cells.ts';
import type { Outcome } from './outcome.ts';
import { asksForTunnel, isTunnel, outcomeOf } from './outcome.ts';
import { isShortTunnel, type NatPorts, NO_NAT_PORTS, registerPorts } from './port-metrics.ts';
import { constant, counter, gauge, histogram } from './register.ts';
import { createSourceMetrics } from './source-metrics.ts';
import type { Telemetry } from './telemetry.ts';

const OUTCOMES: readonly Outcome[] = ['allowed', 'denied', 'failed', 'aborted'];

export interface MetricsOptions {
  readonly policy: PolicyFacts;
  readonly version: string;
  /** Log lines lost so far; asked for at every scrape. */
  readonly droppedLogLines?: () => number;
  /** Asked for at every scrape. */
  readonly natPorts?: () => NatPorts;
  /** Its own by default: nothing is put into prom-client's global registry. */
  readonly registry?: Registry;
}

export interface Metrics extends Omit<Telemetry, 'notice'> {
  readonly registry: Registry;
  openTunnels(): number;
  /** By client: tunnels that were over soon, most first. */
  shortTunnels(): (readonly [client: string, tunnels: number])[];
  /** Takes the metrics out of the registry. */
  close(): void;
}

/** Nothing here is asynchronous, throws, or allocates for a series it has met before. */
export function createMetrics(options: MetricsOptions): Metrics {
  const { policy, version, droppedLogLines = () => 0, registry = new Registry() } = options;
  const cells = new Cells();
  cells.adopt(policy);
  registerRequests(registry, cells);
  registerUpstreams(registry, cells);
  registerPorts(registry, cells, options.natPorts ?? (() => NO_NAT_PORTS));
  registerProcess(registry, cells, droppedLogLines);
  registerPolicy(registry, cells);
  constant(registry, 'build_info', 'Version of the proxy and of Node.js; the value is always 1.', { version, node: process.versions.node });
  collectDefaultMetrics({ register: registry });

  return {
    registry,
    ...createSourceMetrics(registry),
    ended: (record) => {
      countEnd(cells, record);
    },
    tunnelOpened: (form, destination, record) => {
      const formCells = cells.destination(destination).form(form);
      formCells.tunnels += 1;
      if (record !== undefined) formCells.open.add(record);
    },
    tunnelClosed: (form, destination) => {
      cells.destination(destination).form(form).tunnels -= 1;
    },
    upstreamConnected: (destination, dnsMs, tcpMs, tlsMs, hopMs) => {
      const upstream = cells.destination(destination);
      upstream.connectionsOpened += 1;
      if (dnsMs >= 0) upstream.dns.observe(dnsMs / 1000);
      if (tcpMs >= 0) upstream.tcp.observe(tcpMs / 1000);
      if (tlsMs >= 0) upstream.tls.observe(tlsMs / 1000);
      if (hopMs >= 0) upstream.hop.observe(hopMs / 1000);
    },
    upstreamFailed: (destination, code) => {
      const { errors } = cells.destination(destination);
      errors.set(code, (errors.get(code) ?? 0) + 1);
    },
    upstreamPooled: (destination, active, idle) => {
      const upstream = cells.destination(destination);
      upstream.connectionsActive += active;
      upstream.connectionsIdle += idle;
    },
    clientConnections: (change) => {
      cells.clientConnections += change;
    },
    policyChanged: (facts) => {
      cells.adopt(facts);
    },
    policyReloaded: (result) => {
      cells.reloads[result] += 1;
    },
    openTunnels: () => {
      let open = 0;
      for (const destination of cells.destinations.values()) for (const form of destination.forms.values()) open += form.tunnels;
      return open;
    },
    shortTunnels: () => [...cells.shortTunnels].toSorted((one, other) => other[1] - one[1]),
    close: () => {
      registry.clear();
    },
  };
}

function countEnd(cells: Cells, record: AccessRecord): void {
  const form = cells.destination(record.destination).form(record.form);
  const outcome = outcomeOf(record);
  cells.requests(form, record.client, record.code)[outcome] += 1;
  if (record.wouldDeny !== '') cells.countReported(form, record.client, record.wouldDeny);
  form.bytesSent += record.bytesSent;
  form.bytesReceived += record.bytesReceived;
  if (isTunnel(record)) {
    form.open.delete(record);
    form.tunnelTimes.observe(record.durationMs / 1000);
    if (isShortTunnel(record)) cells.countShortTunnel(record.client);
  }
  // Refusals take no time; among the exchanges they would only hide how long a partner takes.
  else if (!asksForTunnel(record) && outcome !== 'denied') form.exchanges.observe(record.durationMs / 1000);
}

type EachForm = (visit: (labels: { form: FormName; destination: string }, form: FormCells) => void) => void;
type EachDestination = (visit: (destination: string, cells: DestinationCells) => void) => void;

function registerRequests(registry: Registry, cells: Cells): void {
  const each: EachForm = (visit) => {
    for (const [destination, { forms }] of cells.destinations) for (const [form, formCells] of forms) visit({ form, destination }, formCells);
  };
  counter(registry, 'requests_total', 'Exchanges and tunnels that have ended.', ['form', 'destination', 'client', 'outcome', 'code'], (set) => {
    each((labels, { requests }) => {
      for (const [client, codes] of requests) {
        for (const [code, counts] of codes) {
          for (const outcome of OUTCOMES) if (counts[outcome] > 0) set({ ...labels, client, outcome, code }, counts[outcome]);
        }
      }
    });
  });
  counter(registry, 'would_deny_total', 'Exchanges and tunnels that report mode let pass, by the code they would have been denied with.', ['form', 'destination', 'client', 'code'], (set) => {
    each((labels, { reported }) => {
      for (const [client, codes] of reported) for (const [code, count] of codes) set({ ...labels, client, code }, count);
    });
  });
  counter(registry, 'bytes_total', 'Body and tunnel bytes.', ['form', 'destination', 'direction'], (set) => {
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
  gauge(registry, 'tunnels_active', 'Tunnels open now.', ['form', 'destination'], (set) => {
    each((labels, form) => {
      set(labels, form.tunnels);
    });
  });
  histogram(registry, 'request_duration_seconds', 'Duration of exchanges that were let through.', ['form', 'destination'], EXCHANGE_BOUNDS, (add) => {
    each((labels, form) => {
      if (form.exchanges.count > 0) add(labels, form.exchanges);
    });
  });
  histogram(registry, 'tunnel_duration_seconds', 'How long tunnels were open.', ['form', 'destination'], TUNNEL_BOUNDS, (add) => {
    each((labels, form) => {
      if (form.tunnelTimes.count > 0) add(labels, form.tunnelTimes);
    });
  });
}

function registerUpstreams(registry: Registry, cells: Cells): void {
  const each: EachDestination = (visit) => {
    for (const [name, destination] of cells.destinations) {
      // Nothing should ever be dialled for `-`; if it was, it shows.
      if (name !== '-' || destination.connectionsOpened + destination.errors.size > 0) visit(name, destination);
    }
  };
  histogram(registry, 'upstream_connect_seconds', 'Time to open a connection to an upstream, by phase.', ['destination', 'phase'], CONNECT_BOUNDS, (add) => {
    each((destination, { dns, tcp, hop, tls }) => {
      if (dns.count > 0) add({ destination, phase: 'dns' }, dns);
      if (tcp.count > 0) add({ destination, phase: 'tcp' }, tcp);
      if (hop.count > 0) add({ destination, phase: 'hop' }, hop);
      if (tls.count > 0) add({ destination, phase: 'tls' }, tls);
    });
  });
  counter(registry, 'upstream_errors_total', 'Dials and upstreams that failed, by code.', ['destination', 'error'], (set) => {
    each((destination, { errors }) => {
      for (const [error, count] of errors) set({ destination, error }, count);
    });
  });
  gauge(registry, 'upstream_connections', 'Pooled connections to upstreams.', ['destination', 'state'], (set) => {
    each((destination, { connectionsActive, connectionsIdle }) => {
      set({ destination, state: 'active' }, connectionsActive);
      set({ destination, state: 'idle' }, connectionsIdle);
    });
  });
  counter(registry, 'upstream_connections_opened_total', 'Connections opened to upstreams.', ['destination'], (set) => {
    each((destination, { connectionsOpened }) => {
      set({ destination }, connectionsOpened);
    });
  });
}

function registerPolicy(registry: Registry, cells: Cells): void {
  gauge(registry, 'policy_info', 'Hash of the policy in force; the value is always 1.', ['hash'], (set) => {
    set({ hash: cells.policyHash }, 1);
  });
  gauge(registry, 'limit', 'Numbers of `limits` in the configuration.', ['limit'], (set) => {
    const { connections, tunnels } = cells.limits;
    set({ limit: 'connections' }, connections);
    set({ limit: 'tunnels' }, tunnels);
  });
  gauge(registry, 'certificate_expiry_timestamp_seconds', 'When the first certificate of a configured file expires, Unix time.', ['certificate'], (set) => {
    for (const [certificate, expiry] of cells.certificates) set({ certificate }, expiry);
  });
  counter(registry, 'policy_reloads_total', 'Configurations offered to the running proxy.', ['result'], (set) => {
    for (const [result, count] of Object.entries(cells.reloads)) set({ result }, count);
  });
}

function registerProcess(registry: Registry, cells: Cells, droppedLogLines: () => number): void {
  gauge(registry, 'client_connections', 'Client connections open now, all listeners together.', [], (set) => {
    set({}, cells.clientConnections);
  });
  counter(registry, 'log_lines_dropped_total', 'Log lines lost because the reader of the log was too slow or gone.', [], (set) => {
    set({}, droppedLogLines());
  });
}
