/** Builds what the status page shows from the current state of the proxy's parts. */
import type { ListenAddress } from '../config/config.ts';
import type { DenialRecord } from '../explain/kept-request.ts';
import { formatAuthority } from '../targets/host.ts';
import { bound, escapeText } from '../telemetry/safe-text.ts';
import type { DestinationTraffic } from '../telemetry/traffic-view.ts';
import { judgeBand } from './status-band.ts';
import type { AdminInfo, CircuitsOfHost, PortsInfo, Readiness, StatusSources } from './status-sources.ts';
import type {
  CodeCount,
  StatusCircuit,
  StatusConfiguration,
  StatusDestination,
  StatusHistory,
  StatusRequest,
  StatusView,
} from './status-view.ts';

// Limits of each list: the page stays readable and an event small for any configuration.
const MOST_DESTINATIONS = 50;
const MOST_CLIENTS_SHOWN = 12;
const MOST_TUNNELS_SHOWN = 12;
const MOST_REQUESTS = 10;
const MOST_RULE_ENDS = 50;
const MOST_NAMES = 6;
const MOST_CIRCUITS_SHOWN = 12;
const LONGEST_SHOWN_HOST = 120;
const LONGEST_SENTENCE = 400;
const ONE_DAY = 86_400_000;

/** The view of one moment. @param now ms since the epoch */
export function buildStatus(
  { info, readiness, sourceIp, explainer, traffic, circuits = () => [] }: StatusSources,
  now: number,
  uptimeSeconds: number,
): StatusView {
  const known = info();
  const ready = readiness();
  const { ports, config } = known;
  const queued = traffic.queued();
  const { tunnels: left, ...rest } = traffic.drain();
  const { open: leftOpen, idle, busy, endsPerSecond, medianAge, oldestAge } = left;
  const drain = { ...rest, tunnels: { open: leftOpen, idle, busy, endsPerSecond, medianAge, oldestAge } };
  const circuitsOf = Map.groupBy(circuits(), ({ destination }) => destination);
  const destinations = config.destinations.map((destination) =>
    viewDestination(
      destination,
      traffic.of(destination.name),
      ports,
      queued.get(destination.name) ?? 0,
      (circuitsOf.get(destination.name) ?? []).flatMap(listCircuits),
      now,
    ),
  );
  const clients = traffic.history.clients();
  const { open, byClient, oldest } = traffic.tunnels(MOST_TUNNELS_SHOWN);
  const denials = explainer.denials.view(MOST_REQUESTS, MOST_REQUESTS);
  // Report mode also lets requests pass to hosts of no destination.
  const all = [
    ...destinations,
    viewDestination({ name: '-', hosts: [], ports: [], report: false, via: [] }, traffic.of('-'), ports, 0, [], now),
  ];
  const sum = (value: (destination: StatusDestination) => number): number =>
    all.reduce((total, destination) => total + value(destination), 0);
  const { result, seen, expected, since, at, reason, history } = sourceIp();
  return {
    at: iso(now),
    instance: known.instance,
    version: known.version,
    uptimeSeconds: Math.floor(uptimeSeconds),
    band: judgeBand(config, drain.state !== 'running', ready, destinations, now),
    drain,
    requestsPerSecond: rounded(sum(({ requestsPerSecond }) => requestsPerSecond)),
    failures: sum(({ failures }) => failures.minute.reduce((total, { count }) => total + count, 0)),
    errors: sum(({ errors }) => errors.minute),
    denials: traffic.history.denials(),
    limits: known.limits,
    clients: clients.slice(0, MOST_CLIENTS_SHOWN).map((client) => ({ ...client, requestsPerSecond: rounded(client.requestsPerSecond) })),
    clientsLeftOut: Math.max(0, clients.length - MOST_CLIENTS_SHOWN),
    source: { result, seen, expected, since, at, reason: reason === null ? null : sentence(reason), history },
    natLimit: ports.limit,
    destinations: destinations.toSorted(byUrgency).slice(0, MOST_DESTINATIONS),
    destinationsLeftOut: Math.max(0, destinations.length - MOST_DESTINATIONS),
    tunnels: {
      open,
      byClient: byClient.slice(0, MOST_CLIENTS_SHOWN),
      oldest: oldest.map(({ requestId, client, clientAddress, host, port, ageMs, bytesSent, bytesReceived }) => ({
        requestId,
        client,
        clientAddress,
        host: word(host),
        port,
        ageMs,
        bytesSent,
        bytesReceived,
      })),
    },
    shortTunnels: ports.shortTunnels.slice(0, MOST_CLIENTS_SHOWN).map(([client, tunnels]) => ({ client, tunnels })),
    latestFailures: explainer.failures.latest(MOST_REQUESTS).map(viewRequest),
    latestDenials: denials.latest.map(viewRequest),
    frequentDenials: denials.frequent.map(({ client, host, count, overcount, latest }) => ({
      client: client === '-' ? latest.clientAddress : client,
      host: word(host),
      count,
      overcount,
      code: latest.code,
      requestId: latest.requestId,
    })),
    denialsTotal: denials.total,
    configuration: viewConfiguration(known, ready),
    certificates: [...known.certificates].map(([name, seconds]) => ({ name, ...certificateEnd(seconds * 1000, now) })),
  };
}

/** The last 15 minutes of everything in a view. @param most maximum number of the latest steps */
export function buildHistory(
  { traffic }: Pick<StatusSources, 'traffic'>,
  { at, destinations }: StatusView,
  stepSeconds: number,
  most?: number,
): StatusHistory {
  return {
    step: traffic.history.steps,
    stepSeconds,
    at,
    curves: traffic.history.curves(
      destinations.map(({ name }) => name),
      most,
    ),
  };
}

function viewDestination(
  { name, hosts, ports, via }: AdminInfo['config']['destinations'][number],
  traffic: DestinationTraffic | null,
  nat: PortsInfo,
  queued: number,
  circuits: readonly StatusCircuit[],
  now: number,
): StatusDestination {
  const { health, now: recent } = traffic ?? { health: null, now: null };
  const failure = health?.lastFailure ?? null;
  const ends = traffic?.certificateEnds ?? 0;
  return {
    name,
    hosts: hosts.slice(0, MOST_NAMES),
    ports: ports.slice(0, MOST_NAMES).map(String),
    via: via.map((hop) => hop.name),
    state: health?.last ?? 'unused',
    circuits: circuits.slice(0, MOST_CIRCUITS_SHOWN),
    requestsPerSecond: rounded(recent?.requestsPerSecond ?? 0),
    requests: recent?.requests ?? 0,
    failures: { minute: countCodes(recent?.failures.minute), hour: countCodes(recent?.failures.hour) },
    errors: recent?.errors ?? { minute: 0, hour: 0 },
    p50: roundedOrNull(recent?.p50 ?? null),
    p99: roundedOrNull(recent?.p99 ?? null),
    lastOk: health?.lastOk ?? null,
    lastError: health?.lastError ?? null,
    lastFailure: failure === null ? null : { at: failure.at, code: failure.code, detail: sentence(failure.detail) },
    addresses: (traffic?.addresses ?? []).map(({ address, at }) => ({ address, at: iso(at) })),
    certificate: ends === 0 ? null : certificateEnd(ends, now),
    pool: { active: traffic?.pool.active ?? 0, idle: traffic?.pool.idle ?? 0, queued },
    tunnels: traffic?.tunnels ?? 0,
    nat: nat.destinations.get(name) ?? { used: 0, highWater: 0, refused: 0 },
  };
}

function listCircuits({ host, port, carries, addresses }: CircuitsOfHost): StatusCircuit[] {
  return addresses.map(({ address, state, failures, since, reason, nextTrial }) => ({
    of: `${word(host)}:${port}, ${carries}`,
    address,
    state,
    failures,
    since,
    reason: sentence(reason),
    nextTrial,
  }));
}

const URGENCY = { failed: 0, error: 1, ok: 2, unused: 3 } as const;

function byUrgency(one: StatusDestination, other: StatusDestination): number {
  return URGENCY[one.state] - URGENCY[other.state] || other.requestsPerSecond - one.requestsPerSecond;
}

function countCodes(failures: Readonly<Record<string, number | undefined>> = {}): CodeCount[] {
  return Object.entries(failures)
    .map(([code, count = 0]) => ({ code, count }))
    .toSorted((one, other) => other.count - one.count);
}

function viewRequest({
  requestId,
  time,
  verdict,
  code,
  detail,
  client,
  clientAddress,
  method,
  host,
  port,
  destination,
}: DenialRecord): StatusRequest {
  return {
    requestId,
    at: time,
    verdict,
    code,
    detail: sentence(detail),
    client: client === '-' ? clientAddress : client,
    method: word(method),
    host: word(host),
    port,
    destination,
  };
}

function viewConfiguration(
  { configFile, configHash, loadedAt, config, enforcement, ruleEnds }: AdminInfo,
  { policyChange = null }: Readiness,
): StatusConfiguration {
  const { http, tls, admin } = config.listeners;
  return {
    file: configFile,
    hash: configHash,
    loadedAt: iso(loadedAt),
    mode: config.mode,
    enforcement: enforcement.words,
    listeners: [
      { name: 'HTTP', addresses: http.map(authority) },
      { name: 'TLS', addresses: tls.map(authority) },
      { name: 'Admin', addresses: [authority(admin)] },
    ],
    reload: policyChange === null ? null : { at: policyChange.at, sentence: policyChange.sentence, classes: policyChange.classes },
    ruleEnds: ruleEnds.slice(0, MOST_RULE_ENDS).map((end) => ({
      ...end,
      clients: some(end.clients),
      destinations: some(end.destinations),
      owner: sentenceOrNull(end.owner),
      ticket: sentenceOrNull(end.ticket),
      reason: sentenceOrNull(end.reason),
      until: iso(end.until),
    })),
    ruleEndsLeftOut: Math.max(0, ruleEnds.length - MOST_RULE_ENDS),
  };
}

const iso = (at: number): string => new Date(at).toISOString();
const word = (text: string): string => bound(escapeText(text), LONGEST_SHOWN_HOST);
const sentence = (text: string): string => bound(escapeText(text), LONGEST_SENTENCE);
const sentenceOrNull = (text: string | null): string | null => (text === null ? null : sentence(text));
const rounded = (value: number): number => Number(value.toPrecision(3));
const roundedOrNull = (value: number | null): number | null => (value === null ? null : rounded(value));
const authority = ({ host, port }: ListenAddress): string => formatAuthority(host, port);
const certificateEnd = (ends: number, now: number): { ends: string; days: number } => ({
  ends: iso(ends),
  days: Math.floor((ends - now) / ONE_DAY),
});
const some = (names: readonly string[]): string[] =>
  names.length > MOST_NAMES ? [...names.slice(0, MOST_NAMES), `${names.length - MOST_NAMES} more`] : [...names];
