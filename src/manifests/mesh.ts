/**
 * Istio's objects that steer the clients' traffic to the proxy. They live in
 * the clients' namespace and are exported to it alone, so that the proxy's own
 * connections to the partner are never steered back to the proxy.
 */
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
    // The proxy has the clocks and says what failed; the mesh must not ask twice.
    .map(({ port }) => ({ match: [{ port, sourceNamespace: clientNamespace }], route: toProxy(PORTS.gateway), timeout: '0s', retries: { attempts: 0 } }));
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

/** How the mesh connects to the proxy: no mTLS, for there is no sidecar at its end; and the CONNECT of each tunnelled host. */
export function destinationRule(destinations: readonly SteeredDestination[], placement: Placement): Manifest {
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
        connectionPool: { tcp: { connectTimeout: '5s', tcpKeepalive: { time: '60s', interval: '30s', probes: 3 } } },
      },
      ...(subsets.length === 0 ? {} : { subsets }),
    },
  };
}

/** Subsets are DNS labels. */
function subsetName(host: string, port: number): string {
  return `${host.replaceAll('.', '-')}-${port}`;
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
