/**
 * NetworkPolicies from the policy: who reaches the proxy, what the proxy
 * reaches, and that the clients do not reach the partner without it. The second
 * line of defence: the proxy checks every request and address itself.
 */
import { isIP } from 'node:net';
import ipaddr from 'ipaddr.js';
import type { Config, DestinationConfig, HopConfig, ListenAddress, PodsConfig } from '../config/config.ts';
import { IPV4_RANGES, IPV6_RANGES, type SpecialRange } from '../policy/address-class.ts';
import { isThisMachine, parseAuthority } from '../targets/host.ts';
import { prefixBits } from '../targets/ip-address.ts';
import { firstPort, lastPort, mergePorts, type PortEntry } from '../targets/port-range.ts';
import { type Manifest, MONITORING_NAMESPACES, namespaceLabel, type Placement, PORTS, PROXY_LABELS } from './placement.ts';
import { askedPorts } from './steering.ts';

interface Port {
  readonly protocol: 'TCP' | 'UDP';
  readonly port: number;
  readonly endPort?: number;
}

type NetworkPolicyPeer = { readonly ipBlock: IpBlock } | { readonly namespaceSelector?: object; readonly podSelector?: object };

interface EgressRule {
  readonly to: readonly NetworkPolicyPeer[];
  readonly ports?: readonly Port[];
}

const API = 'networking.k8s.io/v1';
/** NodeLocal DNSCache, and GKE's resolver on the metadata address: port 53 only, so no credentials come from there. */
const NODE_RESOLVERS = ['169.254.20.10/32', '169.254.169.254/32'] as const;
const LAST_PORT = 65_535;

/** Of addresses. */
export const FAMILIES = ['IPv4', 'IPv6'] as const;
type AddressFamily = (typeof FAMILIES)[number];
const familyOf = (cidr: string): AddressFamily => (cidr.includes(':') ? 'IPv6' : 'IPv4');

const tcp = (entries: readonly PortEntry[]): Port[] =>
  mergePorts(entries).map((entry) => ({ protocol: 'TCP', ...portRange(firstPort(entry), lastPort(entry)) }));
const portRange = (first: number, last: number): Pick<Port, 'port' | 'endPort'> =>
  first === last ? { port: first } : { port: first, endPort: last };
const peers = (blocks: readonly IpBlock[]): NetworkPolicyPeer[] => blocks.map((ipBlock) => ({ ipBlock }));
const namespaces = (operator: 'In' | 'NotIn', values: readonly string[]): NetworkPolicyPeer => ({
  namespaceSelector: { matchExpressions: [{ key: 'kubernetes.io/metadata.name', operator, values }] },
});

/** For the pods of the proxy, both directions. */
export function proxyPolicy(config: Config, { namespace, clientNamespace }: Placement): Manifest {
  const outside = outsideRanges(config, clientNamespace);
  const open = clientPorts(config);
  const callers = [{ namespaceSelector: { matchLabels: namespaceLabel(clientNamespace) } }, ...config.cluster.clients.map(podsOf)];
  return {
    apiVersion: API,
    kind: 'NetworkPolicy',
    metadata: { name: 'eco-egress', namespace },
    spec: {
      podSelector: { matchLabels: PROXY_LABELS },
      policyTypes: ['Ingress', 'Egress'],
      ingress: [
        { from: once(callers), ports: tcp(open) },
        { from: peers(blocksOf(outside)), ports: tcp(open.filter((port) => port !== PORTS.proxy)) },
        { from: [namespaces('In', MONITORING_NAMESPACES)], ports: tcp([PORTS.admin]) },
        // An empty list would mean everybody, or every port.
      ].filter(({ from, ports }) => from.length > 0 && ports.length > 0),
      egress: [...resolvers(config), ...waysOut(config)],
    },
  };
}

/** Ports of the listeners for clients that other pods can reach. */
export function clientPorts({ listeners }: Config): number[] {
  return [...listeners.http, ...listeners.tls].filter(isReached).map(({ port }) => port);
}

/** Whether other pods reach it; a pod's own address is not known before it runs. */
export function isReached({ host }: ListenAddress): boolean {
  return host === '0.0.0.0' || host === '::';
}

/** Addresses of the clients that are outside the cluster: those that are neither the pods of `clientNamespace`, whose client has its name, nor named under `cluster.clients`. And of trusted peers. */
export function outsideRanges({ clients, cluster, listeners }: Config, clientNamespace: string): string[] {
  const inside = new Set([clientNamespace, ...cluster.clients.map(({ name }) => name)]);
  return [...clients.filter(({ name }) => !inside.has(name)).flatMap(({ addresses }) => addresses ?? []), ...trustedRanges(listeners)];
}

/** Of the load balancers that name clients; a sidecar, at 127.0.0.6, comes by no network. */
export function trustedRanges({ http, tls }: Config['listeners']): string[] {
  return [...new Set([...http, ...tls].flatMap(({ trustedPeers }) => trustedPeers))].filter(
    (range) => ipaddr.parseCIDR(range)[0].range() !== 'loopback',
  );
}

/** Both selectors in one peer: these pods of that namespace. Two peers would be either. */
function podsOf({ namespace, labels }: PodsConfig): NetworkPolicyPeer {
  return {
    namespaceSelector: { matchLabels: namespaceLabel(namespace) },
    ...(Object.keys(labels).length === 0 ? {} : { podSelector: { matchLabels: labels } }),
  };
}

const once = <T>(items: readonly T[]): T[] => [...new Map(items.map((item) => [JSON.stringify(item), item])).values()];

function resolvers({ dns }: Config): EgressRule[] {
  const own = dns.servers.map((server) => {
    const authority = parseAuthority(server, null);
    if (typeof authority === 'string') throw new TypeError(`${server} is not a DNS server: ${authority}`);
    return { to: peers(blocksOf(singleRange(authority.host) ?? [])), ports: bothProtocols(authority.port) };
  });
  // The cluster's own stay in the list: if a server of the policy is the address of a Service, such as 10.0.0.10 of
  // kube-dns, the dataplane compares the pod behind it, which no ipBlock selects
  // (https://github.com/projectcalico/calico/issues/5129).
  return [
    ...own,
    {
      to: [
        {
          namespaceSelector: { matchLabels: namespaceLabel('kube-system') },
          podSelector: { matchExpressions: [{ key: 'k8s-app', operator: 'In', values: ['kube-dns', 'node-local-dns'] }] },
        },
        ...peers(NODE_RESOLVERS.map((cidr) => ({ cidr }))),
      ],
      ports: bothProtocols(53),
    },
  ];
}

const bothProtocols = (port: number): Port[] => [
  { protocol: 'UDP', port },
  { protocol: 'TCP', port },
];

function waysOut(config: Config): EgressRule[] {
  const { probe } = config.sourceIp ?? { probe: null };
  const ways = [
    ...config.destinations.flatMap((destination) =>
      wayTo(
        config,
        destination.via,
        rangesOf(destination),
        destination.ports,
        config.cluster.destinations.find(({ name }) => name === destination.name),
      ),
    ),
    ...(probe === null ? [] : wayTo(config, probe.via, probe.addresses ?? singleRange(probe.host), [probe.port])),
    ...config.clients
      .flatMap(({ tokens }) => tokens ?? [])
      .flatMap(({ jwks }) => (jwks.kind === 'file' ? [] : wayToUrl(config, new URL(jwks.url)))),
    ...(config.tracing === null ? [] : wayToUrl(config, new URL(config.tracing.endpoint), config.cluster.collector ?? undefined)),
  ];
  return once(ways);
}

/**
 * With hops, only the nearest one is dialled from here, any of its parents. Pods that `cluster` names are selected as
 * pods: an ipBlock does not match them on Dataplane V2 (https://github.com/cilium/cilium/issues/14497).
 */
function wayTo(
  { cluster }: Config,
  [nearest]: readonly HopConfig[],
  addresses: readonly string[] | null,
  ports: readonly PortEntry[],
  pods?: PodsConfig,
): EgressRule[] {
  if (nearest !== undefined) {
    const inside = cluster.hops.find(({ name }) => name === nearest.name);
    return nearest.parents.flatMap(({ host, port }) => {
      if (isThisMachine({ hostname: host })) return [];
      const ranges = nearest.addresses ?? singleRange(host);
      return [
        ...wayToPods(inside, [port]),
        ...(ranges === null && inside !== undefined
          ? []
          : [{ to: ranges === null ? ANY_ROUTABLE : peers(blocksOf(ranges)), ports: tcp([port]) }]),
      ];
    });
  }
  const outside =
    addresses === null && pods !== undefined
      ? []
      : [{ to: addresses === null ? ANY_PUBLIC : peers(blocksOf(addresses)), ports: tcp(ports) }];
  return [...wayToPods(pods, ports), ...outside];
}

/** A Service has been resolved when the policy is applied: the port of the pod counts. */
function wayToPods(pods: PodsConfig | undefined, ports: readonly PortEntry[]): EgressRule[] {
  return pods === undefined ? [] : [{ to: [podsOf(pods)], ports: tcp(pods.port === null ? ports : [pods.port]) }];
}

/** The addresses of a token issuer, or of a collector of traces, are not configured: a name is assumed to be public, unless it is pods. */
function wayToUrl(config: Config, url: URL, pods?: PodsConfig): EgressRule[] {
  return isThisMachine(url)
    ? []
    : wayTo(config, [], rangeOfUrl(url), [url.port === '' ? (url.protocol === 'http:' ? 80 : 443) : Number(url.port)], pods);
}

/** Null for a name. */
const rangeOfUrl = ({ hostname }: URL): string[] | null => singleRange(hostname.replace(/^\[|\]$/g, ''));

/** Whether it is taken for a public address, being neither one that is written nor this pod itself, which no NetworkPolicy is about. */
export function isByName(url: string): boolean {
  return !isThisMachine(new URL(url)) && rangeOfUrl(new URL(url)) === null;
}

function singleRange(host: string): string[] | null {
  return isIP(host) === 0 ? null : [`${host}/${isIP(host) === 4 ? 32 : 128}`];
}

/** The only addresses that a destination can have: those that it lists or, where no host is a name, its hosts. Null: any public one. */
export function rangesOf({ addresses, hosts }: DestinationConfig): readonly string[] | null {
  const written = hosts.map(singleRange);
  return addresses ?? (written.includes(null) ? null : written.flatMap((range) => range ?? []));
}

/**
 * For the pods of the clients: everything but the partner. A NetworkPolicy can
 * only permit, so it permits everything else.
 *
 * A destination with listed addresses is excluded by these, in their family.
 * Without addresses, or in its other family, it is only known to be public: so
 * no public address is permitted on its ports, except those of `direct`. Pods
 * that are a destination are excluded with their namespace, since one peer
 * cannot say "all but these pods".
 *
 * On Dataplane V2 no ipBlock matches a node: kubelets, node ports and pods on
 * the node's own network are closed by any policy for egress, this one too.
 */
export function clientPolicy({ destinations, cluster }: Config, { clientNamespace }: Placement, direct: readonly string[]): Manifest {
  const known = destinations.flatMap((destination) => rangesOf(destination) ?? []);
  const closed = [...new Set(cluster.destinations.map(({ namespace }) => namespace))].toSorted();
  const everyPod = closed.length === 0 ? { namespaceSelector: {} } : namespaces('NotIn', closed);
  const egress: EgressRule[] = [
    { to: [everyPod] },
    ...FAMILIES.flatMap((family) => allowedRest(family, known, unknownPorts(destinations, cluster, family))),
  ];
  const open = subtract(outermost(direct), known);
  if (open.length > 0 && FAMILIES.some((family) => unknownPorts(destinations, cluster, family).length > 0))
    egress.push({ to: peers(open) });
  return {
    apiVersion: API,
    kind: 'NetworkPolicy',
    metadata: { name: 'no-direct-egress', namespace: clientNamespace },
    spec: { podSelector: {}, policyTypes: ['Egress'], egress },
  };
}

/** All of a family except known addresses, and, if ports of unknown addresses are to be closed, except every public one. */
function allowedRest(family: AddressFamily, known: readonly string[], closed: readonly PortEntry[]): EgressRule[] {
  const only = (blocks: readonly IpBlock[]): IpBlock[] => blocks.filter(({ cidr }) => familyOf(cidr) === family);
  const rules: EgressRule[] =
    closed.length === 0
      ? [{ to: peers(only(everywhereBut(known))) }]
      : [{ to: peers(only(internalBut(known))) }, { to: peers(only(publicBut(known))), ports: portsBut(closed) }];
  // An empty list would mean everybody, or every port.
  return rules.filter(({ to, ports }) => to.length > 0 && ports?.length !== 0);
}

/** Ports of the destinations that may be anywhere in the family. */
export function unknownPorts(destinations: Config['destinations'], cluster: Config['cluster'], family: AddressFamily): PortEntry[] {
  const inside = new Set(cluster.destinations.map(({ name }) => name));
  return destinations
    .filter((destination) =>
      rangesOf(destination) === null
        ? !inside.has(destination.name)
        : destination.addresses?.some((range) => familyOf(range) === family) === false,
    )
    .flatMap(askedPorts);
}

/** Every port of TCP except these, and all of UDP except the same (HTTP/3). */
function portsBut(closed: readonly PortEntry[]): Port[] {
  const open: Pick<Port, 'port' | 'endPort'>[] = [];
  let next = 1;
  for (const entry of mergePorts(closed)) {
    if (next < firstPort(entry)) open.push(portRange(next, firstPort(entry) - 1));
    next = lastPort(entry) + 1;
  }
  if (next <= LAST_PORT) open.push(portRange(next, LAST_PORT));
  return (['TCP', 'UDP'] as const).flatMap((protocol) => open.map((range) => ({ protocol, ...range })));
}

/** `except` contains ranges strictly inside `cidr`, as the API server requires. */
export interface IpBlock {
  readonly cidr: string;
  readonly except?: readonly string[];
}

const EVERYWHERE = ['0.0.0.0/0', '::/0'] as const;
/** Global unicast is assigned from this range only (RFC 4291 §2.4). */
const PUBLIC_RANGES = ['0.0.0.0/0', '2000::/3'] as const;

const NOT_PUBLIC = [...IPV4_RANGES, ...IPV6_RANGES].filter((range) => range.class !== 'public');
const isBelow = (range: SpecialRange): boolean => range.class !== 'reserved' || range.cidr !== '::/0';

/** Every address except these. */
export function everywhereBut(ranges: readonly string[]): IpBlock[] {
  return subtract(EVERYWHERE, ranges);
}

/** The addresses that the proxy treats as public, when a destination lists no addresses. */
export function publicBut(ranges: readonly string[]): IpBlock[] {
  return subtract(PUBLIC_RANGES, [...NOT_PUBLIC.filter(isBelow).map(({ cidr }) => cidr), ...ranges]);
}

/** Not public, but in use: private, shared and link-local ranges. */
export function internalBut(ranges: readonly string[]): IpBlock[] {
  const internal = NOT_PUBLIC.filter((range) => ['private', 'shared', 'link-local', 'unique-local'].includes(range.class));
  return subtract(outermost(internal.map(({ cidr }) => cidr)), ranges);
}

/** Any unicast address that a parent proxy may have, when its hop lists none. */
export function routableBlocks(): IpBlock[] {
  const never = NOT_PUBLIC.filter(
    (range) =>
      ['loopback', 'link-local', 'metadata', 'this-network', 'multicast', 'unspecified'].includes(range.class) ||
      range.cidr === '240.0.0.0/4',
  );
  return subtract(
    EVERYWHERE,
    never.map(({ cidr }) => cidr),
  );
}

/** Made once: a policy may have thousands of destinations without addresses. */
const [ANY_PUBLIC, ANY_ROUTABLE] = [peers(publicBut([])), peers(routableBlocks())];

/** Address ranges for NetworkPolicies: a range without others, in `ipBlock` form. */
export function blocksOf(ranges: readonly string[]): IpBlock[] {
  return outermost(ranges).map((cidr) => ({ cidr }));
}

function subtract(from: readonly string[], holes: readonly string[]): IpBlock[] {
  const outer = outermost(holes);
  return from
    .filter((cidr) => !outer.some((hole) => contains(hole, cidr)))
    .map((cidr) => {
      const except = outer.filter((hole) => contains(cidr, hole));
      return except.length === 0 ? { cidr } : { cidr, except };
    });
}

/** Without duplicates and those inside another; in the order of addresses, so that the same ranges give the same file. */
function outermost(ranges: readonly string[]): string[] {
  const kept: (readonly [bits: string, cidr: string])[] = [];
  for (const one of [...new Map(ranges.map((cidr) => [prefixBits(cidr), cidr]))].toSorted(([a], [b]) => (a < b ? -1 : 1))) {
    const [last] = kept.at(-1) ?? [];
    if (last === undefined || !one[0].startsWith(last)) kept.push(one);
  }
  return kept.map(([, cidr]) => cidr);
}

function contains(outer: string, inner: string): boolean {
  return prefixBits(inner).startsWith(prefixBits(outer));
}
