/**
 * NetworkPolicies from the policy: who reaches the proxy, what the proxy
 * reaches, and that the clients do not reach the partner without it. The
 * second line of defence: the proxy judges every request and address itself.
 */
import { isIP } from 'node:net';
import type { Config, HopConfig } from '../config/config.ts';
import { parseAuthority } from '../target/host.ts';
import { type Manifest, MONITORING_NAMESPACES, namespaceLabel, type Placement, PORTS, PROXY_LABELS } from './placement.ts';
import { blocksOf, everywhereBut, internalBut, type IpBlock, publicBut, routableBlocks } from './ranges.ts';

interface Port {
  readonly protocol: 'TCP' | 'UDP';
  readonly port: number;
  readonly endPort?: number;
}

type Peer = { readonly ipBlock: IpBlock } | { readonly namespaceSelector?: object; readonly podSelector?: object };

interface Egress {
  readonly to: readonly Peer[];
  readonly ports?: readonly Port[];
}

const API = 'networking.k8s.io/v1';
/** NodeLocal DNSCache, and GKE's resolver on the metadata address: port 53 alone, so no credentials come from there. */
const NODE_RESOLVERS = ['169.254.20.10/32', '169.254.169.254/32'] as const;
const LAST_PORT = 65_535;

const tcp = (ports: readonly number[]): Port[] => [...new Set(ports)].toSorted((a, b) => a - b).map((port) => ({ protocol: 'TCP', port }));
const peers = (blocks: readonly IpBlock[]): Peer[] => blocks.map((ipBlock) => ({ ipBlock }));
const inNamespaces = (names: readonly string[]): Peer => ({ namespaceSelector: { matchExpressions: [{ key: 'kubernetes.io/metadata.name', operator: 'In', values: names }] } });

/** For the pods of the proxy, both ways. */
export function proxyPolicy(config: Config, { namespace, clientNamespace }: Placement): Manifest {
  const outside = outsideRanges(config, clientNamespace);
  return {
    apiVersion: API,
    kind: 'NetworkPolicy',
    metadata: { name: 'eco-egress', namespace },
    spec: {
      podSelector: { matchLabels: PROXY_LABELS },
      policyTypes: ['Ingress', 'Egress'],
      ingress: [
        { from: [{ namespaceSelector: { matchLabels: namespaceLabel(clientNamespace) } }], ports: tcp([PORTS.proxy, PORTS.gateway, PORTS.tls]) },
        ...(outside.length === 0 ? [] : [{ from: peers(blocksOf(outside)), ports: tcp([PORTS.gateway, PORTS.tls]) }]),
        { from: [inNamespaces(MONITORING_NAMESPACES)], ports: tcp([PORTS.admin]) },
      ],
      egress: [...resolvers(config), ...waysOut(config)],
    },
  };
}

/** Clients of the policy that are not the pods of `clientNamespace`, which has the name of their client: callers outside the cluster. */
function outsideRanges({ clients }: Config, clientNamespace: string): string[] {
  return clients.filter(({ name }) => name !== clientNamespace).flatMap(({ addresses }) => addresses ?? []);
}

function resolvers({ dns }: Config): Egress[] {
  if (dns.servers.length > 0) {
    return dns.servers.map((server) => {
      const authority = parseAuthority(server, null);
      if (typeof authority === 'string') throw new TypeError(`${server} is no DNS server: ${authority}`);
      return { to: peers([single(authority.host)]), ports: bothProtocols(authority.port) };
    });
  }
  return [
    {
      to: [
        { namespaceSelector: { matchLabels: namespaceLabel('kube-system') }, podSelector: { matchExpressions: [{ key: 'k8s-app', operator: 'In', values: ['kube-dns', 'node-local-dns'] }] } },
        ...peers(NODE_RESOLVERS.map((cidr) => ({ cidr }))),
      ],
      ports: bothProtocols(53),
    },
  ];
}

const bothProtocols = (port: number): Port[] => [{ protocol: 'UDP', port }, { protocol: 'TCP', port }];

function waysOut(config: Config): Egress[] {
  const { probe } = config.sourceIp ?? { probe: null };
  const ways = [
    ...config.destinations.flatMap((destination) => wayTo(destination.via, destination.addresses, destination.ports)),
    ...(probe === null ? [] : wayTo(probe.via, probe.addresses ?? singleRange(probe.host), [probe.port])),
    ...config.clients.flatMap(({ tokens }) => tokens ?? []).flatMap(({ jwks }) => (jwks.kind === 'file' ? [] : wayToKeys(new URL(jwks.url)))),
  ];
  const unique = new Map(ways.map((way) => [JSON.stringify(way), way]));
  return [...unique.values()];
}

/** Through hops, only the nearest one is dialled from here, by any of its parents. */
function wayTo([nearest]: readonly HopConfig[], addresses: readonly string[] | null, ports: readonly number[]): Egress[] {
  if (nearest !== undefined) {
    return nearest.parents.map(({ host, port }) => {
      const ranges = nearest.addresses ?? singleRange(host);
      return { to: peers(ranges === null ? routableBlocks() : blocksOf(ranges)), ports: tcp([port]) };
    });
  }
  return [{ to: peers(addresses === null ? publicBut([]) : blocksOf(addresses)), ports: tcp(ports) }];
}

/** The addresses of a token issuer stand nowhere: by name it is taken for a public one. */
function wayToKeys({ hostname, protocol, port }: URL): Egress[] {
  const ranges = singleRange(hostname.replace(/^\[|\]$/g, ''));
  return wayTo([], ranges, [port === '' ? (protocol === 'http:' ? 80 : 443) : Number(port)]);
}

function singleRange(host: string): string[] | null {
  return isIP(host) === 0 ? null : [single(host).cidr];
}

function single(address: string): IpBlock {
  return { cidr: `${address}/${isIP(address) === 4 ? 32 : 128}` };
}

/**
 * For the pods of the clients: everything but the partner. A NetworkPolicy can
 * only permit, so what is permitted is the rest of the world.
 *
 * A destination with listed addresses is left out by them. Of one without,
 * nothing is known but that it is public: so no public address is permitted on
 * its ports, save those of `direct`.
 */
export function clientPolicy({ destinations }: Config, { clientNamespace }: Placement, direct: readonly string[]): Manifest {
  const known = destinations.flatMap(({ addresses }) => addresses ?? []);
  const unknown = destinations.filter(({ addresses }) => addresses === null);
  const egress: Egress[] = [{ to: [{ namespaceSelector: {} }] }];
  if (unknown.length === 0) egress.push({ to: peers(everywhereBut(known)) });
  else {
    egress.push({ to: peers(internalBut(known)) }, { to: peers(publicBut(known)), ports: portsBut(unknown.flatMap(({ ports }) => ports)) });
    if (direct.length > 0) egress.push({ to: peers(blocksOf(direct)) });
  }
  return {
    apiVersion: API,
    kind: 'NetworkPolicy',
    metadata: { name: 'no-direct-egress', namespace: clientNamespace },
    spec: { podSelector: {}, policyTypes: ['Egress'], egress },
  };
}

/** Every port of TCP but these, and all of UDP but the same (HTTP/3). */
function portsBut(closed: readonly number[]): Port[] {
  const edges = [0, ...[...new Set(closed)].toSorted((a, b) => a - b), LAST_PORT + 1];
  const open = edges.slice(1).flatMap((end, index) => {
    const from = (edges[index] ?? 0) + 1;
    if (from >= end) return [];
    return [from === end - 1 ? { port: from } : { port: from, endPort: end - 1 }];
  });
  return (['TCP', 'UDP'] as const).flatMap((protocol) => open.map((range) => ({ protocol, ...range })));
}
