/**
 * The part of the policy that a mesh can steer to the proxy: for each
 * destination the ports that arrive as TLS with a server name, by CONNECT, or
 * as HTTP with a Host, and the reason for everything that cannot be steered.
 */
import { createHash } from 'node:crypto';
import { isIP } from 'node:net';
import type { Config, DestinationConfig, Form } from '../config/config.ts';
import { buildHostTable, tlsPortOf } from '../policy/tables.ts';
import { countPorts, eachPort, hasPort, mergePorts, type PortEntry } from '../targets/port-range.ts';
import { type Manifest, type Placement, PORTS, serviceHost } from './placement.ts';

/** `passed`: raw TLS to the TLS port; `tunnelled`: TLS inside a CONNECT that the sidecar makes; `plain`: HTTP as it is. */
type SteeringMode = 'passed' | 'tunnelled' | 'plain';

interface SteeredPort {
  readonly port: number;
  readonly way: SteeringMode;
  readonly hosts: readonly string[];
}

interface SteeredDestination {
  readonly name: string;
  readonly ports: readonly SteeredPort[];
}

interface Steering {
  readonly destinations: readonly SteeredDestination[];
  /** Ports that are not steered and why, one sentence each. */
  readonly notes: readonly string[];
}

interface MeshAbilities {
  /** Sidecars make CONNECT requests, which name the port too. */
  readonly tunnels: boolean;
  readonly wildcards: boolean;
  /** The proxy listens for raw TLS. */
  readonly rawTls: boolean;
}

/** Hosts of a ServiceEntry, and its ports, by its CRD. */
const MOST_OF_AN_ENTRY = 256;
const MOST_OF_A_RANGE = 100;

const PLAIN_HTTP_PORT = 80;
/** Customary ports of plain HTTP; a gateway's URL is explicit, and every other port is assumed to be TLS. */
const HTTP_PORTS: ReadonlySet<number> = new Set([PLAIN_HTTP_PORT, 8080]);

/**
 * A mesh takes one route for a host, so a host of several destinations is
 * steered, by the ports of them all, under the name of the first.
 */
export function planSteering({ destinations }: Config, abilities: MeshAbilities): Steering {
  const notes: string[] = [];
  const table = buildHostTable(destinations.map(({ hosts }) => hosts));
  const places = Map.groupBy(
    destinations.flatMap((owner) => owner.hosts.map((host) => ({ host, owner }))),
    ({ host }) => host,
  );
  const rawTlsPorts = new Map(places.keys().map((host) => [host, tlsPortOf(table, destinations, host)]));
  const mixed = findMixed(rawTlsPorts);
  // A sidecar has one listener for a port, whatever the host: of two protocols, one would be read as the other.
  const protocols = new Map<number, ProtocolOfPort>();
  const steered = destinations.flatMap(({ name, hosts }): SteeredDestination[] => {
    const routes = new Map<string, SteeredPort & { readonly hosts: string[] }>();
    const numbers = new Set<number>();
    for (const host of hosts) {
      const owners = (places.get(host) ?? []).map(({ owner }) => owner);
      if (owners[0]?.name !== name) continue;
      const unfit = whyUnfit(host);
      if (unfit !== null) {
        notes.push(`${name}: ${host} ${unfit}. Clients reach it by HTTPS_PROXY or the gateway.`);
        continue;
      }
      if (!abilities.wildcards && host.startsWith('*.')) {
        notes.push(
          `${name}: ${host} is not steered. Ambient steers by an address that it gives to each name, and a wildcard has none: list the names.`,
        );
        continue;
      }
      for (const owner of owners) {
        const refused = new Map<string, number[]>();
        const listed = askedPorts(owner);
        const wide = listed.filter((entry) => countPorts([entry]) > MOST_OF_A_RANGE);
        for (const entry of wide)
          notes.push(
            `${owner.name}: ${host}:${String(entry)} is not steered. A mesh lists every port by itself, and these are more than ${MOST_OF_A_RANGE}. Clients reach them by HTTPS_PROXY.`,
          );
        for (const port of eachPort(listed.filter((entry) => !wide.includes(entry)))) {
          const found = wayFor(owner, host, port, abilities, rawTlsPorts.get(host), mixed.get(host));
          const way = typeof found === 'string' ? (whyNoRoom(port, found, numbers, protocols) ?? found) : found;
          if (typeof way === 'string') {
            // Hosts with the same route to the same port share it.
            const route = routes.get(`${port} ${way}`) ?? { port, way, hosts: [] };
            route.hosts.push(host);
            routes.set(`${port} ${way}`, route);
            numbers.add(port);
            protocols.set(port, portProtocol(way));
          } else refused.set(way.why, [...(refused.get(way.why) ?? []), port]);
        }
        for (const [why, them] of refused)
          for (const entry of mergePorts(them)) notes.push(`${owner.name}: ${host}:${String(entry)} is not steered. ${why}`);
      }
    }
    return routes.size === 0 ? [] : [{ name, ports: [...routes.values()] }];
  });
  return { destinations: steered, notes };
}

/** The ports that clients ask for: plain HTTP that is upgraded comes on port 80, whichever ports it is then sent to. */
export function askedPorts({ ports, upgradePlainHttp }: DestinationConfig): readonly PortEntry[] {
  return upgradePlainHttp === null || hasPort(ports, PLAIN_HTTP_PORT) ? ports : [...ports, PLAIN_HTTP_PORT];
}

/** What a ServiceEntry and a VirtualService cannot both have as one host: validation and `ResolveShortnameToFQDN` of Istio. */
function whyUnfit(host: string): string | null {
  if (isIP(host) !== 0) return 'is an address, and a mesh steers by names';
  if (host.includes('_')) return 'has an underscore, and Istio refuses objects with such a host';
  return host.includes('.') ? null : "has no dot, and Istio takes it for a Service of the clients' namespace";
}

type ProtocolOfPort = 'http' | 'tls';
const portProtocol = (way: SteeringMode): ProtocolOfPort => (way === 'plain' ? 'http' : 'tls');

function whyNoRoom(
  port: number,
  way: SteeringMode,
  numbers: ReadonlySet<number>,
  protocols: ReadonlyMap<number, ProtocolOfPort>,
): { readonly why: string } | null {
  const taken = protocols.get(port);
  if (taken !== undefined && taken !== portProtocol(way))
    return {
      why: `A mesh has one protocol for a port, and takes this one for ${taken.toUpperCase()} to other hosts of the policy. Clients reach it by HTTPS_PROXY or the gateway.`,
    };
  return numbers.has(port) || numbers.size < MOST_OF_AN_ENTRY
    ? null
    : { why: `A mesh takes ${MOST_OF_AN_ENTRY} ports of a destination at most. Clients reach it by HTTPS_PROXY.` };
}

/** Wildcards with a host below them that has another port for raw TLS: a mesh would steer that host by the wildcard's port, too. */
function findMixed(rawTlsPorts: ReadonlyMap<string, number>): Map<string, string> {
  const mixed = new Map<string, string>();
  for (const [host, port] of rawTlsPorts) {
    for (let dot = host.indexOf('.'); dot !== -1; dot = host.indexOf('.', dot + 1)) {
      const above = `*${host.slice(dot)}`;
      if ((rawTlsPorts.get(above) ?? port) !== port) mixed.set(above, host);
    }
  }
  return mixed;
}

function wayFor(
  destination: DestinationConfig,
  host: string,
  port: number,
  { tunnels, rawTls }: MeshAbilities,
  rawTlsPort: number | undefined,
  other: string | undefined,
): SteeringMode | { readonly why: string } {
  const takes = (form: Form): boolean => destination.forms.includes(form);
  if (isPlain(destination, port))
    return takes('host-routed') ? 'plain' : { why: 'HTTP arrives from a mesh in the form host-routed, which its forms leave out.' };
  // CONNECT has to name one host, which a wildcard is not.
  if (tunnels && takes('connect') && !host.startsWith('*.')) return 'tunnelled';
  if (!takes('sni')) return { why: 'TLS arrives from a mesh in the form sni, which its forms leave out.' };
  if (!rawTls) return { why: `No listener of the policy takes sni on port ${PORTS.tls}.` };
  if (port === rawTlsPort && other !== undefined)
    return {
      why: `Raw TLS does not say its port, and the proxy takes another one for ${other}, which a mesh would steer along. List the names in place of the wildcard.`,
    };
  if (port !== rawTlsPort)
    return {
      why: `Raw TLS does not say its port, and the proxy takes ${rawTlsPort} for this host. CONNECT says it: the overlay sidecar-tunnel, for a host without a wildcard.`,
    };
  return 'passed';
}

function isPlain({ gateway }: DestinationConfig, port: number): boolean {
  if (gateway?.port === port) return gateway.scheme === 'http';
  return HTTP_PORTS.has(port);
}

// Istio's objects that steer the clients' traffic to the proxy. They live in
// the clients' namespace and are exported to it alone, so that the proxy's own
// connections to the partner are never steered back to the proxy.

const NETWORKING = 'networking.istio.io/v1';
const HERE_ALONE = ['.'] as const;
const WAYPOINT = 'eco-egress-waypoint';

/** The partner's hosts for the mesh. Wildcards have entries of their own, because they cannot be resolved. */
export function serviceEntries({ name, ports }: SteeredDestination, { clientNamespace }: Placement, ambient: boolean): Manifest[] {
  const hosts = [...new Set(ports.flatMap((port) => port.hosts))];
  const entry = (entryName: string, resolution: 'DNS' | 'NONE', of: readonly string[]): Manifest => ({
    apiVersion: NETWORKING,
    kind: 'ServiceEntry',
    metadata: { name: entryName, namespace: clientNamespace, ...(ambient ? { labels: { 'istio.io/use-waypoint': WAYPOINT } } : {}) },
    spec: {
      hosts: of,
      location: 'MESH_EXTERNAL',
      resolution,
      exportTo: HERE_ALONE,
      ports: portsOf(ports.filter((port) => port.hosts.some((host) => of.includes(host)))),
    },
  });
  const entries = (entryName: string, resolution: 'DNS' | 'NONE', of: readonly string[]): Manifest[] =>
    Array.from({ length: Math.ceil(of.length / MOST_OF_AN_ENTRY) }, (_, index) =>
      entry(
        index === 0 ? entryName : `${entryName}-${index + 1}`,
        resolution,
        of.slice(index * MOST_OF_AN_ENTRY, (index + 1) * MOST_OF_AN_ENTRY),
      ),
    );
  const isWild = (host: string): boolean => host.startsWith('*.');
  return [
    ...entries(
      `${name}-external`,
      'DNS',
      hosts.filter((host) => !isWild(host)),
    ),
    ...entries(`${name}-external-wildcard`, 'NONE', hosts.filter(isWild)),
  ];
}

function portsOf(ports: readonly SteeredPort[]): { number: number; name: string; protocol: string }[] {
  const unique = new Map(ports.map((steered) => [steered.port, portProtocol(steered.way)]));
  const usual: Record<ProtocolOfPort, number> = { http: 80, tls: 443 };
  return [...unique].map(([number, kind]) => ({
    number,
    name: usual[kind] === number ? kind : `${kind}-${number}`,
    protocol: kind.toUpperCase(),
  }));
}

/** Routes requests for the partner to the proxy's port that accepts them. */
export function virtualService({ name, ports }: SteeredDestination, placement: Placement): Manifest {
  const { clientNamespace } = placement;
  const toProxy = (port: number, subset?: string) => [
    { destination: { host: serviceHost(placement), ...(subset === undefined ? {} : { subset }), port: { number: port } } },
  ];
  const tls = ports.flatMap(({ port, way, hosts }) => {
    const route = (sniHosts: readonly string[], to: ReturnType<typeof toProxy>) => ({
      match: [{ port, sniHosts, sourceNamespace: clientNamespace }],
      route: to,
    });
    if (way === 'passed') return [route(hosts, toProxy(PORTS.tls))];
    if (way === 'tunnelled') return hosts.map((host) => route([host], toProxy(PORTS.proxy, subsetName(host, port))));
    return [];
  });
  const http = ports
    .filter(({ way }) => way === 'plain')
    // The proxy has the time limits and reports failures, so the mesh has no timeout, which is the default without the
    // field, and must not retry: it would repeat requests that the proxy, which knows what was sent, has abandoned.
    .map(({ port }) => ({ match: [{ port, sourceNamespace: clientNamespace }], route: toProxy(PORTS.gateway), retries: { attempts: 0 } }));
  return {
    apiVersion: NETWORKING,
    kind: 'VirtualService',
    metadata: { name: `${name}-through-egress`, namespace: clientNamespace },
    spec: {
      hosts: [...new Set(ports.flatMap((port) => port.hosts))],
      gateways: ['mesh'],
      exportTo: HERE_ALONE,
      ...(tls.length === 0 ? {} : { tls }),
      ...(http.length === 0 ? {} : { http }),
    },
  };
}

/**
 * How the mesh connects to the proxy: no mTLS, because the proxy has no sidecar; and the CONNECT of each tunnelled
 * host.
 * @param keepAlive how long the proxy keeps an idle client connection, in ms
 */
export function destinationRule(destinations: readonly SteeredDestination[], placement: Placement, keepAlive: number): Manifest {
  const subsets = destinations.flatMap(({ ports }) =>
    ports
      .filter(({ way }) => way === 'tunnelled')
      .flatMap(({ port, hosts }) =>
        hosts.map((host) => ({
          name: subsetName(host, port),
          trafficPolicy: { tunnel: { protocol: 'CONNECT', targetHost: host, targetPort: port } },
        })),
      ),
  );
  return {
    apiVersion: NETWORKING,
    kind: 'DestinationRule',
    // Another proxy for the same clients has a rule of its own.
    metadata: { name: placement.namespace, namespace: placement.clientNamespace },
    spec: {
      host: serviceHost(placement),
      exportTo: HERE_ALONE,
      trafficPolicy: {
        tls: { mode: 'DISABLE' },
        connectionPool: {
          tcp: { connectTimeout: '5s', tcpKeepalive: { time: '60s', interval: '30s', probes: 3 } },
          // Envoy keeps an idle connection for an hour. If the proxy closes it first, a request sent at that
          // moment is lost, and a POST cannot be repeated: so the sidecar has to close first.
          http: { idleTimeout: goDuration(Math.max(1, Math.floor(keepAlive * 0.8))) },
        },
      },
      ...(subsets.length === 0 ? {} : { subsets }),
    },
  };
}

const LONGEST_OBJECT_NAME = 63;

/**
 * Subsets are DNS labels. A dot becomes a dash and a dash becomes two, which no two hosts share, since no part of a
 * host begins or ends with a dash. A name longer than a label is truncated, and made unique by a hash.
 */
function subsetName(host: string, port: number): string {
  const name = `${host.replaceAll('-', '--').replaceAll('.', '-')}-${port}`;
  if (name.length <= LONGEST_OBJECT_NAME) return name;
  const hash = createHash('sha256').update(name).digest('hex').slice(0, 8);
  return `${name.slice(0, LONGEST_OBJECT_NAME - hash.length - 1).replace(/-+$/, '')}-${hash}`;
}

/** As Go writes durations. */
function goDuration(ms: number): string {
  return ms % 1000 === 0 ? `${ms / 1000}s` : `${ms}ms`;
}

/**
 * Ambient: the waypoint that the ServiceEntry is bound to, and its permitted
 * users. Ambient ignores `exportTo`, so pods of other namespaces come to this
 * waypoint too, and for the proxy all of them would have the waypoint's
 * address.
 */
export function waypoint({ clientNamespace }: Placement): Manifest[] {
  return [
    {
      apiVersion: 'gateway.networking.k8s.io/v1',
      kind: 'Gateway',
      metadata: { name: WAYPOINT, namespace: clientNamespace, labels: { 'istio.io/waypoint-for': 'service' } },
      spec: {
        gatewayClassName: 'istio-waypoint',
        listeners: [{ name: 'mesh', port: 15008, protocol: 'HBONE', allowedRoutes: { namespaces: { from: 'Same' } } }],
      },
    },
    {
      apiVersion: 'security.istio.io/v1',
      kind: 'AuthorizationPolicy',
      metadata: { name: WAYPOINT, namespace: clientNamespace },
      spec: {
        targetRefs: [{ group: 'gateway.networking.k8s.io', kind: 'Gateway', name: WAYPOINT }],
        action: 'ALLOW',
        rules: [{ from: [{ source: { namespaces: [clientNamespace] } }] }],
      },
    },
  ];
}
