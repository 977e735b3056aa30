/** Checks of who may talk to whom: NetworkPolicies as the cluster would apply them, against what Services, monitoring and policy need. */
import { isIP } from 'node:net';
import ipaddr from 'ipaddr.js';
import { firstPort } from '../../../src/targets/port-range.ts';
import { CLIENTS, type Cluster, type LabelSelector, type Labels, portOf, PROXY, selects, type Typed } from './cluster.ts';

interface Block {
  readonly cidr: string;
  readonly except?: readonly string[];
}

interface Peer {
  readonly ipBlock?: Block;
  readonly namespaceSelector?: LabelSelector;
  readonly podSelector?: LabelSelector;
}

interface Rule {
  readonly from?: readonly Peer[];
  readonly to?: readonly Peer[];
  readonly ports?: readonly { readonly protocol?: string; readonly port?: number; readonly endPort?: number }[];
}

export interface NetworkPolicySpec {
  readonly podSelector: LabelSelector;
  readonly policyTypes: readonly string[];
  readonly ingress?: readonly Rule[];
  readonly egress?: readonly Rule[];
}

/** The other end: an address outside the cluster, or a pod. */
export type End = string | { readonly namespace: string; readonly labels?: Labels };

/** Whether the pods that `policies` select may talk to `end`. Pods that none of them selects may. */
export function permits(policies: readonly NetworkPolicySpec[], direction: 'Ingress' | 'Egress', end: End, port: number, protocol = 'TCP'): boolean {
  const holding = policies.filter(({ policyTypes }) => policyTypes.includes(direction));
  if (holding.length === 0) return true;
  return holding.some((policy) =>
    ((direction === 'Ingress' ? policy.ingress : policy.egress) ?? []).some((rule) => {
      const peers = direction === 'Ingress' ? rule.from : rule.to;
      // To the API server an empty list is the same as none: all of them.
      return matches(rule.ports, (one) => (one.protocol ?? 'TCP') === protocol && (one.port === undefined || (port >= one.port && port <= (one.endPort ?? one.port)))) && matches(peers, (peer) => fits(peer, end));
    }),
  );
}

function matches<T>(list: readonly T[] | undefined, one: (item: T) => boolean): boolean {
  return list === undefined || list.length === 0 || list.some(one);
}

function fits({ ipBlock, namespaceSelector, podSelector }: Peer, end: End): boolean {
  if (typeof end === 'string') return ipBlock !== undefined && isIn(end, ipBlock.cidr) && !(ipBlock.except ?? []).some((range) => isIn(end, range));
  if (namespaceSelector === undefined) return false;
  return selects(namespaceSelector, { 'kubernetes.io/metadata.name': end.namespace }) && selects(podSelector ?? {}, end.labels ?? {});
}

function isIn(address: string, cidr: string): boolean {
  const parsed = ipaddr.parse(address);
  const [range, bits] = ipaddr.parseCIDR(cidr);
  return parsed.kind() === range.kind() && parsed.match(range, bits);
}

/** The NetworkPolicies that select a pod. */
export function holding({ all }: Cluster, namespace: string, labels: Labels): NetworkPolicySpec[] {
  return all<NetworkPolicySpec>('NetworkPolicy')
    .filter(({ metadata, spec }) => metadata.namespace === namespace && selects(spec.podSelector, labels))
    .map(({ spec }) => spec);
}

const PUBLIC = '93.184.215.14';
const DNS: readonly End[] = [{ namespace: 'kube-system', labels: { 'k8s-app': 'kube-dns' } }, '169.254.20.10'];
const NEVER: readonly (readonly [what: string, address: string, port: number])[] = [
  ['the metadata server', '169.254.169.254', 80],
  ['other public ports', PUBLIC, 22],
  ['nodes and pods', '10.0.0.1', 443],
  ['itself', '127.0.0.1', 443],
];

export function* checkNetwork(cluster: Cluster): Generator<string> {
  const { proxy, container, config, all } = cluster;
  const ours = holding(cluster, PROXY.namespace, proxy.spec.template.metadata.labels);
  if (permits(ours, 'Ingress', { namespace: 'stranger' }, config.listeners.admin.port)) yield 'strangers reach the admin port';
  const targets = all<{ ports: { targetPort: string }[] }>('Service').flatMap(({ spec }) => spec.ports.map(({ targetPort }) => portOf(container, targetPort) ?? 0));
  for (const port of new Set(targets)) {
    if (!permits(ours, 'Ingress', { namespace: CLIENTS }, port)) yield `the clients do not reach port ${port} of a Service`;
    if (permits(ours, 'Ingress', { namespace: 'stranger' }, port)) yield `strangers reach port ${port}`;
  }
  for (const namespace of ['monitoring', 'gke-gmp-system', 'dynatrace']) {
    if (!permits(ours, 'Ingress', { namespace }, config.listeners.admin.port)) yield `${namespace} does not reach the metrics`;
  }

  for (const end of DNS) for (const protocol of ['UDP', 'TCP']) if (!permits(ours, 'Egress', end, 53, protocol)) yield `the proxy does not reach DNS by ${protocol} at ${JSON.stringify(end)}`;
  for (const { name, addresses, ports } of config.destinations.filter(({ via }) => via.length === 0)) {
    for (const range of addresses ?? [`${PUBLIC}/32`]) {
      for (const port of ports.map(firstPort)) if (!permits(ours, 'Egress', ipaddr.parseCIDR(range)[0].toString(), port)) yield `the proxy does not reach ${name} at ${range}:${port}`;
    }
  }
  const listed = config.destinations.flatMap(({ addresses }) => addresses ?? []);
  for (const [what, address, port] of NEVER) if (permits(ours, 'Egress', address, port) && !listed.some((range) => isIn(address, range))) yield `the proxy reaches ${what}`;

  yield* checkMonitors(cluster);
  const clients = holding(cluster, CLIENTS, {});
  if (clients.length > 0) yield* checkClients(clients, cluster);
}

function* checkClients(clients: readonly NetworkPolicySpec[], { config, proxy }: Cluster): Generator<string> {
  for (const { name, addresses, ports } of config.destinations) {
    for (const range of addresses ?? [`${PUBLIC}/32`]) {
      for (const port of ports.map(firstPort)) if (permits(clients, 'Egress', ipaddr.parseCIDR(range)[0].toString(), port)) yield `the clients reach ${name} at ${range}:${port} without the proxy`;
    }
  }
  for (const { port } of [...config.listeners.http, ...config.listeners.tls]) {
    if (!permits(clients, 'Egress', { namespace: PROXY.namespace, labels: proxy.spec.template.metadata.labels }, port)) yield `the clients may not leave for port ${port} of the proxy`;
  }
  if (!permits(clients, 'Egress', { namespace: 'kube-system' }, 53, 'UDP') || !permits(clients, 'Egress', { namespace: 'istio-system' }, 15_012)) yield 'the clients are cut off from the cluster';
}

interface MonitorSpec {
  readonly selector: LabelSelector;
  readonly podMetricsEndpoints?: readonly { readonly port: string; readonly path?: string }[];
  readonly endpoints?: readonly { readonly port: string | number; readonly path?: string }[];
}

function* checkMonitors({ all, proxy, container, config }: Cluster): Generator<string> {
  const monitors: Typed<MonitorSpec>[] = [...all<MonitorSpec>('PodMonitor'), ...all<MonitorSpec>('PodMonitoring')];
  for (const { kind, metadata, spec } of monitors) {
    if (metadata.namespace !== PROXY.namespace || !selects(spec.selector, proxy.spec.template.metadata.labels)) yield `${kind} ${metadata.name} selects no pods of the proxy`;
    for (const { port, path } of spec.podMetricsEndpoints ?? spec.endpoints ?? []) {
      if (portOf(container, port) !== config.listeners.admin.port || path !== '/metrics') yield `${kind} ${metadata.name} does not scrape /metrics of the admin port`;
    }
  }
}

/** Every address of a NetworkPolicy is one, and exceptions lie inside their range: the API server refuses others. */
export function* checkBlocks({ all }: Cluster): Generator<string> {
  for (const { metadata, spec } of all<NetworkPolicySpec>('NetworkPolicy')) {
    const peers = [...(spec.ingress ?? []).flatMap(({ from = [] }) => from), ...(spec.egress ?? []).flatMap(({ to = [] }) => to)];
    for (const { cidr, except = [] } of peers.flatMap(({ ipBlock }) => ipBlock ?? [])) {
      for (const range of [cidr, ...except]) if (isIP(range.split('/')[0] ?? '') === 0 || !ipaddr.isValidCIDR(range)) yield `${metadata.name}: ${range} is no range`;
      for (const range of except) if (range === cidr || !isIn(range.split('/')[0] ?? '', cidr)) yield `${metadata.name}: ${range} is not strictly inside ${cidr}`;
    }
  }
}
