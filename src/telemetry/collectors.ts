/** The metrics besides the counters of requests: the configuration in force, NAT ports and other parts, the process, the source address. */
import { collectDefaultMetrics, Registry } from 'prom-client';
import type { Config } from '../config/config.ts';
import { certificatesIn } from '../config/tls-context.ts';
import { countOpen } from '../descriptors.ts';
import type { Cells, PolicyFacts } from './cells.ts';
import { type Exposition, type ForeignMetrics, labelled, type MetricDefinition, single, valueText } from './exposition.ts';
import type { LossCounts } from './log-sink.ts';
import type { Part, SourceResult, Telemetry } from './telemetry.ts';
import type { TracingFacts } from './traces.ts';

type Described = Pick<Config, 'clients' | 'destinations' | 'hops' | 'limits' | 'sourceIp' | 'tlsServer' | 'tracing'>;

/** Facts of a configuration for the metrics. Parses its certificates for their expiry. */
export function describePolicy(
  config: Described,
  inForce: Pick<PolicyFacts, 'hash' | 'file' | 'loadedAt' | 'warnings' | 'listsEnd' | 'ruleEnds'>,
): PolicyFacts {
  const { clients, destinations, limits } = config;
  return {
    ...inForce,
    clients: clients.map(nameOf),
    destinations: destinations.map(nameOf),
    hops: new Map(config.hops.map(({ name, parents }) => [name, parents.map(({ host }) => host)])),
    limits: { ...limits },
    certificates: readExpiries(config),
  };
}

const nameOf = ({ name }: { readonly name: string }): string => name;

/** By the key of the configuration that names the file: Unix time in seconds when the first certificate in it expires. */
function readExpiries({ destinations, hops, sourceIp, tlsServer, tracing }: Described): ReadonlyMap<string, number> {
  const files: [key: string, pem: string | null][] = [
    ['tlsServer.certFile', tlsServer?.cert ?? null],
    ['tlsServer.clientCaFile', tlsServer?.clientCa ?? null],
  ];
  const probe = sourceIp?.probe ?? null;
  const upstreams = [
    ...destinations.map(({ name, tls }) => ({ section: `destinations.${name}`, tls })),
    ...hops.map(({ name, tls }) => ({ section: `hops.${name}`, tls })),
    ...(probe === null ? [] : [{ section: 'sourceIp.probe', tls: probe.tls }]),
    ...(tracing === null ? [] : [{ section: 'tracing', tls: tracing.tls }]),
  ];
  for (const { section, tls } of upstreams) files.push([`${section}.tls.certFile`, tls.cert], [`${section}.tls.caFile`, tls.ca]);

  const expiries = new Map<string, number>();
  for (const [key, pem] of files) {
    const ends = certificatesIn(pem).map(({ validToDate }) => validToDate.getTime() / 1000);
    if (ends.length > 0) expiries.set(key, Math.min(...ends));
  }
  return expiries;
}

// What other parts know, read at each scrape.

/** NAT ports of a destination: those of its address with the most in use. */
interface NatPortUsage {
  readonly used: number;
  readonly highWater: number;
  readonly refused: number;
}

/** NAT ports in use, as metrics show them. */
export interface NatPorts {
  /** Null: not limited. */
  readonly limit: number | null;
  readonly destinations: ReadonlyMap<string, NatPortUsage>;
}

/** Of a rule that has rates, as metrics show it. */
export interface RateFacts {
  readonly rule: string;
  /** Addresses that have an entry. */
  readonly addresses: number;
  /** Requests charged to the bucket that addresses share while the table is full. */
  readonly shared: number;
}

/** By name of the destination: how many of its addresses have an open circuit, and how many of its hosts and ports have no other. */
type DestinationCircuits = ReadonlyMap<string, { readonly open: number; readonly refusing: number }>;

/** Resources that requests hold now, besides tunnels. */
interface RequestsUnderWay {
  readonly exchanges: number;
  /** Exchanges that wait for a pooled connection, by destination. */
  readonly waiting: ReadonlyMap<string, number>;
}

const DRAIN_ENDS = ['quiet', 'busy', 'cut'] as const;
const OVERLOAD_CAUSES = ['loop', 'memory'] as const;

/** The parts whose state is read at each scrape. */
export interface WatchedParts {
  readonly natPorts: () => NatPorts;
  readonly rates: () => readonly RateFacts[];
  readonly circuits: () => DestinationCircuits;
  /** The number of names whose expired addresses are in use. */
  readonly staleNames: () => number;
  readonly underWay: () => RequestsUnderWay;
  /** With the tunnels that it has ended. */
  readonly drain: {
    readonly state: 'running' | 'delay' | 'draining' | 'ended';
    readonly counts: Readonly<Record<(typeof DRAIN_ENDS)[number], number>>;
  };
  /** Why new requests are refused; null: they are not. */
  readonly overload: { readonly cause: (typeof OVERLOAD_CAUSES)[number] | null };
}

/** Before a part is watched. */
export const NOTHING_WATCHED: WatchedParts = {
  natPorts: () => ({ limit: null, destinations: new Map() }),
  rates: () => [],
  circuits: () => new Map(),
  staleNames: () => 0,
  underWay: () => ({ exchanges: 0, waiting: new Map() }),
  drain: { state: 'running', counts: { quiet: 0, busy: 0, cut: 0 } },
  overload: { cause: null },
};

/** Registers the metrics of NAT ports, of the rates of rules, of circuits and of requests in progress. */
export function registerParts(exposition: Exposition, cells: Cells, parts: WatchedParts): void {
  registerPorts(exposition, cells, parts);
  labelled(exposition, 'gauge', 'rate_addresses', 'Client addresses whose buckets are remembered, by rule.', 'rule', () =>
    parts.rates().map(({ rule, addresses }) => [rule, addresses]),
  );
  labelled(
    exposition,
    'counter',
    'rate_shared_total',
    'Requests and bytes taken from the bucket that addresses share while no other is free, by rule.',
    'rule',
    () => parts.rates().map(({ rule, shared }) => [rule, shared]),
  );
  registerCircuits(exposition, cells, parts);
  single(exposition, 'gauge', 'dns_stale_names', 'Names whose expired addresses are used because the resolver fails.', () =>
    parts.staleNames(),
  );
  single(exposition, 'gauge', 'exchanges_active', 'Exchanges under way now.', () => parts.underWay().exchanges);
  labelled(exposition, 'gauge', 'upstream_waiting', 'Exchanges that wait for a pooled connection.', 'destination', () => {
    const { waiting } = parts.underWay();
    return namedIn(cells).map((destination) => [destination, waiting.get(destination) ?? 0]);
  });
  labelled(
    exposition,
    'gauge',
    'upstream_certificate_expiry_timestamp_seconds',
    'When the first certificate expires of the chain that the upstream last showed, Unix time; absent before the first TLS handshake of our own.',
    'destination',
    function* () {
      for (const destination of cells.configured) {
        const { certificateEnds } = cells.destination(destination).reached;
        if (certificateEnds > 0) yield [destination, certificateEnds / 1000];
      }
    },
  );
}

/** Without `-`. */
function namedIn({ destinations }: Cells): string[] {
  return [...destinations.keys()].filter((destination) => destination !== '-');
}

function registerPorts(exposition: Exposition, cells: Cells, parts: WatchedParts): void {
  single(exposition, 'gauge', 'nat_ports_limit', 'NAT ports for connections to one address and port.', () => parts.natPorts().limit);
  const each = (number: keyof NatPortUsage): [string, number][] => {
    const { destinations } = parts.natPorts();
    const shown = destinations.has('-') ? [...cells.destinations.keys()] : namedIn(cells);
    return shown.map((destination) => [destination, destinations.get(destination)?.[number] ?? 0]);
  };
  labelled(
    exposition,
    'gauge',
    'nat_ports_used',
    'NAT ports in use, including those the NAT still holds; of a destination, those of its most used address.',
    'destination',
    () => each('used'),
  );
  labelled(exposition, 'gauge', 'nat_ports_high_water', 'The most NAT ports that were in use at once since the start.', 'destination', () =>
    each('highWater'),
  );
  labelled(exposition, 'counter', 'nat_ports_refused_total', 'Dials that got no NAT port.', 'destination', () => each('refused'));
  labelled(
    exposition,
    'counter',
    'port_per_request_total',
    'Tunnels that ended within 30 seconds; each took a NAT port.',
    'client',
    () => cells.shortTunnels,
  );
}

function registerCircuits(exposition: Exposition, cells: Cells, parts: WatchedParts): void {
  const each = (read: (counts: { open: number; refusing: number }) => number): [string, number][] => {
    const known = parts.circuits();
    return namedIn(cells).map((destination) => [destination, read(known.get(destination) ?? { open: 0, refusing: 0 })]);
  };
  labelled(
    exposition,
    'gauge',
    'circuit_state',
    'Circuits of a destination: 0 all closed, 1 open for some addresses, 2 open for all addresses of a host and port, whose requests are refused.',
    'destination',
    () => each(({ open, refusing }) => (refusing > 0 ? 2 : open > 0 ? 1 : 0)),
  );
  labelled(exposition, 'gauge', 'circuit_open_addresses', 'Addresses of a destination whose circuit is open.', 'destination', () =>
    each(({ open }) => open),
  );
}

/** Registers the metrics of states in which new requests are refused. */
export function registerStates(exposition: Exposition, parts: WatchedParts): void {
  single(exposition, 'gauge', 'draining', 'Whether the proxy is shutting down: 1 from the signal on, 0 before.', () =>
    parts.drain.state === 'running' ? 0 : 1,
  );
  labelled(
    exposition,
    'counter',
    'drain_tunnels_ended_total',
    'Tunnels that the shutdown has ended: at a quiet moment, while bytes moved, or cut at the deadline.',
    'result',
    () => DRAIN_ENDS.map((result) => [result, parts.drain.counts[result]]),
  );
  labelled(
    exposition,
    'gauge',
    'overloaded',
    'Whether new requests are refused because the event loop or the memory has reached its limit.',
    'reason',
    () => OVERLOAD_CAUSES.map((reason) => [reason, parts.overload.cause === reason ? 1 : 0]),
  );
}

/** The process as clients and scrapers see it: connections, refusals, faults. */
export function registerProcess(exposition: Exposition, cells: Cells): void {
  single(exposition, 'gauge', 'client_connections', 'Client connections open now, all listeners together.', () => cells.clientConnections);
  labelled(
    exposition,
    'counter',
    'descriptors_refused_total',
    'Connections and requests refused because almost no file descriptors were left.',
    'what',
    () => Object.entries(cells.descriptorRefusals),
  );
  labelled(exposition, 'counter', 'admin_refused_total', 'Connections and requests that the admin port refused.', 'reason', () =>
    Object.entries(cells.adminRefusals),
  );
  single(exposition, 'counter', 'internal_errors_total', 'Requests that ended by a fault of the proxy itself.', () => cells.internalErrors);
}

/** What is missing in log, metrics and traces. @param tracing called at every scrape, as `lostLogLines` */
export function registerLosses(
  exposition: Exposition,
  lostLogLines: () => LossCounts,
  failures: Readonly<Record<Part, number>>,
  tracing: () => TracingFacts,
): void {
  labelled(exposition, 'counter', 'log_lines_dropped_total', 'Log lines lost, by reason.', 'reason', () => Object.entries(lostLogLines()));
  labelled(
    exposition,
    'counter',
    'telemetry_failures_total',
    'Events that could not be counted, logged or remembered, by the part that failed.',
    'part',
    () => Object.entries(failures),
  );
  labelled(exposition, 'counter', 'spans_total', 'Spans of traced requests, by what became of them.', 'result', () =>
    Object.entries(tracing().spans),
  );
  single(
    exposition,
    'counter',
    'traces_limited_total',
    'Requests not traced because their client had used up tracing.perClient.',
    () => tracing().limited,
  );
}

/**
 * prom-client iterates over every handle for these, and reads the names of all
 * descriptors at once: with 16,000 sockets that blocks all requests for 65 ms.
 * Connections and tunnels have gauges of their own.
 */
const SLOW = [
  'nodejs_active_handles',
  'nodejs_active_handles_total',
  'nodejs_active_requests',
  'nodejs_active_requests_total',
  'nodejs_active_resources',
  'nodejs_active_resources_total',
];
const OPEN_FDS: MetricDefinition = { name: 'process_open_fds', help: 'Number of open file descriptors.', type: 'gauge', labelNames: [] };

/** Observed from the first call on until the process ends: prom-client has no end for it. */
let ofProcess: ForeignMetrics | null = null;

/** Metrics of the process, from prom-client: those whose cost does not grow with the number of sockets. They are the same for all scrapers. */
export function processMetrics(): ForeignMetrics {
  return (ofProcess ??= createProcessMetrics());
}

function createProcessMetrics(): ForeignMetrics {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const knowsFds = registry.getSingleMetric(OPEN_FDS.name) !== undefined;
  for (const name of [...SLOW, OPEN_FDS.name]) registry.removeSingleMetric(name);
  return {
    definitions: () => [...(registry.getMetricsAsArray() as unknown as MetricDefinition[]), ...(knowsFds ? [OPEN_FDS] : [])],
    text: async () => {
      const { name, help, type } = OPEN_FDS;
      const openFds = knowsFds ? `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n${name} ${valueText(countOpen().open)}\n` : '';
      return `${await registry.metrics()}${openFds}`;
    },
  };
}

// Counts the evidence that partners see the right source address, or do not. docs/source-ip.md says what each result
// means.

/** Registers the metrics; each of the functions returned is the method of Telemetry of that name. */
export function createSourceMetrics(exposition: Exposition): Pick<Telemetry, 'sourceAsked' | 'sourceProbed' | 'whitelistSuspected'> {
  const probes = new Map<SourceResult, number>();
  const suspects = new Map<string, boolean>();
  let match: 0 | 1 | null = null;
  let seen: string | null = null;
  let lastSuccess: number | null = null;

  single(
    exposition,
    'gauge',
    'source_ip_match',
    'Whether the source address seen by the latest probe is expected; absent while that is not known.',
    () => match,
  );
  labelled(exposition, 'gauge', 'source_ip_info', 'Source address seen by the latest probe; the value is always 1.', 'ip', () =>
    seen === null ? [] : [[seen, 1]],
  );
  labelled(exposition, 'counter', 'source_ip_probes_total', 'Probes of the source address, by result.', 'result', () => probes);
  single(
    exposition,
    'gauge',
    'source_ip_last_success_timestamp_seconds',
    'When a probe was last answered with an address, Unix time.',
    () => lastSuccess,
  );
  labelled(
    exposition,
    'gauge',
    'whitelist_suspect',
    'Whether connects to the partner time out although the resolver works and the source address is right.',
    'destination',
    () => Array.from(suspects, ([destination, suspected]) => [destination, suspected ? 1 : 0]),
  );

  return {
    sourceAsked: () => {
      match = null;
      seen = null;
      lastSuccess = null;
    },
    sourceProbed: (result, address, at) => {
      probes.set(result, (probes.get(result) ?? 0) + 1);
      match = result === 'match' ? 1 : result === 'mismatch' ? 0 : null;
      seen = address;
      if (address !== null) lastSuccess = at / 1000;
    },
    whitelistSuspected: (destination, suspected) => {
      if (suspected === null) suspects.delete(destination);
      else suspects.set(destination, suspected);
    },
  };
}

// The self-test: whether requests that must be refused are refused.

/** Registers the metrics of the self-test, and returns what fills them. */
export function createEnforcementMetrics(exposition: Exposition): Pick<Telemetry, 'enforcementTested'> {
  let latest: { readonly holds: boolean; readonly at: number } | null = null;
  single(
    exposition,
    'gauge',
    'enforcement',
    'Whether the self-test found that what must be refused is refused; absent before it has a result, in report mode, and where it is off.',
    () => (latest === null ? null : Number(latest.holds)),
  );
  single(exposition, 'gauge', 'enforcement_timestamp_seconds', 'When the self-test last had a result, Unix time.', () =>
    latest === null ? null : latest.at / 1000,
  );
  return {
    enforcementTested: (holds, at) => {
      latest = holds === null ? null : { holds, at };
    },
  };
}
