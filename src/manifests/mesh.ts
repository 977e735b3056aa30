/**
 * Istio's objects that steer the clients' traffic to the proxy. They live in
 * the clients' namespace and are exported to it alone, so that the proxy's own
 * connections to the partner are never steered back to the proxy.
 */
import { createHash } from 'node:crypto';
import { type Manifest, type Placement, PORTS, serviceHost } from './placement.ts';
import type { SteeredDestination, SteeredPort } from './steering.ts';

const NETWORKING = 'networking.istio.io/v1';
const HERE_ALONE = ['.'] as const;
export const WAYPOINT = 'eco-egress-waypoint';

/** The partner as the mesh knows it. Two where wildcards are among its hosts: a wildcard cannot be resolved. */
export function serviceEntries({ name, ports }: SteeredDestination, { clientNamespace }: Placement, ambient: boolean): Manifest[] {
  const hosts = [...new Set(ports.flatMap((port) => port.hosts))];
  const wild = hosts.filter((host) => host.startsWith('*.'));
  const entry = (entryName: string, resolution: 'DNS' | 'NONE', of: readonly string[]): Manifest => ({
    apiVersion: NETWORKING,
    kind: 'ServiceEntry',
    metadata: { name: entryName, namespace: clientNamespace, ...(ambient ? { labels: { 'istio.io/use-waypoint': WAYPOINT } } : {}) },
    spec: { hosts: of, location: 'MESH_EXTERNAL', resolution, exportTo: HERE_ALONE, ports: portsOf(ports.filter((port) => port.hosts.some((host) => of.includes(host)))) },
  });
  const entries = hosts.length > wild.length ? [entry(`${name}-external`, 'DNS', hosts.filter((host) => !wild.includes(host)))] : [];
  return wild.length === 0 ? entries : [...entries, entry(`${name}-external-wildcard`, 'NONE', wild)];
}

function portsOf(ports: readonly SteeredPort[]): { number: number; name: string; protocol: string }[] {
  const unique = new Map(ports.map((steered) => [steered.port, steered.way === 'plain' ? 'http' : 'tls']));
  const usual: Record<string, number> = { http: 80, tls: 443 };
  return [...unique].map(([number, kind]) => ({ number, name: usual[kind] === number ? kind : `${kind}-${number}`, protocol: kind.toUpperCase() }));
}

/** Routes what asks for the partner to the port of the proxy that takes it. */
export function virtualService({ name, ports }: SteeredDestination, placement: Placement): Manifest {
  const { clientNamespace } = placement;
  const toProxy = (port: number, subset?: string) => [{ destination: { host: serviceHost(placement), ...(subset === undefined ? {} : { subset }), port: { number: port } } }];
  const tls = ports.flatMap(({ port, way, hosts }) => {
    const route = (sniHosts: readonly string[], to: ReturnType<typeof toProxy>) => ({ match: [{ port, sniHosts, sourceNamespace: clientNamespace }], route: to });
    if (way === 'passed') return [route(hosts, toProxy(PORTS.tls))];
    if (way === 'tunnelled') return hosts.map((host) => route([host], toProxy(PORTS.proxy, subsetName(host, port))));
    return [];
  });
  const http = ports
    .filter(({ way }) => way === 'plain')
    // The proxy has the clocks and says what failed, so the mesh has no timeout, which is what it has without the field,
    // and must not ask twice: it would repeat what the proxy, who knows better what was sent, has given up.
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
 * How the mesh connects to the proxy: no mTLS, for there is no sidecar at its end; and the CONNECT of each tunnelled host.
 * @param keepAlive how long the proxy keeps an idle client connection, in ms
 */
export function destinationRule(destinations: readonly SteeredDestination[], placement: Placement, keepAlive: number): Manifest {
  const subsets = destinations.flatMap(({ ports }) =>
    ports
      .filter(({ way }) => way === 'tunnelled')
      .flatMap(({ port, hosts }) => hosts.map((host) => ({ name: subsetName(host, port), trafficPolicy: { tunnel: { protocol: 'CONNECT', targetHost: host, targetPort: port } } }))),
  );
  return {
    apiVersion: NETWORKING,
    kind: 'DestinationRule',
    metadata: { name: 'eco-egress', namespace: placement.clientNamespace },
    spec: {
      host: serviceHost(placement),
      exportTo: HERE_ALONE,
      trafficPolicy: {
        tls: { mode: 'DISABLE' },
        connectionPool: {
          tcp: { connectTimeout: '5s', tcpKeepalive: { time: '60s', interval: '30s', probes: 3 } },
          // Envoy keeps an idle connection for an hour. Where the proxy closes it first, a request that is sent at
          // that moment is lost, and a POST cannot be repeated: so the sidecar is the one that closes.
          http: { idleTimeout: goDuration(Math.max(1, Math.floor(keepAlive * 0.8))) },
        },
      },
      ...(subsets.length === 0 ? {} : { subsets }),
    },
  };
}

const LONGEST_LABEL = 63;

/**
 * Subsets are DNS labels. A dot becomes a dash and a dash becomes two, which no two hosts share, since no part of a host
 * begins or ends with a dash. What is longer than a label is cut, and told apart by a hash.
 */
function subsetName(host: string, port: number): string {
  const name = `${host.replaceAll('-', '--').replaceAll('.', '-')}-${port}`;
  if (name.length <= LONGEST_LABEL) return name;
  const hash = createHash('sha256').update(name).digest('hex').slice(0, 8);
  return `${name.slice(0, LONGEST_LABEL - hash.length - 1).replace(/-+$/, '')}-${hash}`;
}

/** As Go writes durations. */
function goDuration(ms: number): string {
  return ms % 1000 === 0 ? `${ms / 1000}s` : `${ms}ms`;
}

/**
 * Ambient: the waypoint that the ServiceEntry is bound to, and who may use it.
 * Ambient ignores `exportTo`, so pods of other namespaces come to this waypoint
 * too, and to the proxy every one of them would have the waypoint's address.
 */
export function waypoint({ clientNamespace }: Placement): Manifest[] {
  return [
    {
      apiVersion: 'gateway.networking.k8s.io/v1',
      kind: 'Gateway',
      metadata: { name: WAYPOINT, namespace: clientNamespace, labels: { 'istio.io/waypoint-for': 'service' } },
      spec: { gatewayClassName: 'istio-waypoint', listeners: [{ name: 'mesh', port: 15008, protocol: 'HBONE', allowedRoutes: { namespaces: { from: 'Same' } } }] },
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
