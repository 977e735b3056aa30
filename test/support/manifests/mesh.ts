/** Checks of what a mesh does: that whatever is steered reaches a port of ours that takes it, and that nothing is steered in a circle. */
import type { Form } from '../../../src/config/config.ts';
import { CLIENTS, type Cluster, portOf, PROXY, type ServiceSpec, type Typed } from './cluster.ts';

interface EntrySpec {
  readonly hosts: readonly string[];
  readonly location?: string;
  readonly resolution?: string;
  readonly exportTo?: readonly string[];
  readonly ports: readonly { readonly number: number; readonly name: string; readonly protocol: string }[];
}

interface Route {
  readonly match: readonly { readonly port?: number; readonly sniHosts?: readonly string[]; readonly sourceNamespace?: string }[];
  readonly route: readonly { readonly destination: { readonly host: string; readonly subset?: string; readonly port?: { readonly number: number } } }[];
  readonly timeout?: string;
  readonly retries?: { readonly attempts: number };
}

interface VirtualServiceSpec {
  readonly hosts: readonly string[];
  readonly exportTo?: readonly string[];
  readonly tls?: readonly Route[];
  readonly http?: readonly Route[];
}

interface RuleSpec {
  readonly host: string;
  readonly exportTo?: readonly string[];
  readonly trafficPolicy?: { readonly tls?: { readonly mode: string }; readonly connectionPool?: { readonly http?: { readonly idleTimeout?: string } } };
  readonly subsets?: readonly { readonly name: string; readonly trafficPolicy?: { readonly tunnel?: { readonly protocol?: string; readonly targetHost: string; readonly targetPort: number } } }[];
}

export function* checkMesh(cluster: Cluster): Generator<string> {
  const { all, find, config } = cluster;
  const entries = all<EntrySpec>('ServiceEntry');
  const known = config.destinations.flatMap(({ hosts }) => hosts);
  for (const object of [...entries, ...all<VirtualServiceSpec>('VirtualService'), ...all<RuleSpec>('DestinationRule')]) {
    const who = `${object.kind} ${object.metadata.name}`;
    if (object.metadata.namespace !== CLIENTS || object.spec.exportTo?.join() !== '.') yield `${who} steers others than the clients, the proxy itself for one`;
  }
  for (const { metadata, spec } of entries) {
    if (spec.hosts.some((host) => !known.includes(host))) yield `ServiceEntry ${metadata.name} has a host that the policy does not know`;
    const waypoint = metadata.labels?.['istio.io/use-waypoint'];
    if (waypoint !== undefined && find('Gateway', waypoint, CLIENTS) === undefined) yield `there is no waypoint ${waypoint}`;
  }
  for (const service of all<VirtualServiceSpec>('VirtualService')) yield* checkRoutes(service, entries, cluster);
  for (const { metadata, spec } of all<{ targetRefs?: { kind: string; name: string }[] }>('AuthorizationPolicy')) {
    for (const { kind, name } of spec.targetRefs ?? []) if (find(kind, name, metadata.namespace) === undefined) yield `AuthorizationPolicy ${metadata.name} is for a ${kind} ${name}, which is not there`;
  }
  if (entries.length > 0 && !all('VirtualService').length) yield 'the partner is known to the mesh, and steered nowhere';
}

function* checkRoutes({ metadata, spec }: Typed<VirtualServiceSpec>, entries: readonly Typed<EntrySpec>[], cluster: Cluster): Generator<string> {
  const who = `VirtualService ${metadata.name}`;
  for (const host of spec.hosts) if (!entries.some((entry) => entry.spec.hosts.includes(host))) yield `${who}: no ServiceEntry knows ${host}`;
  const routed = new Set<number>();
  for (const [kind, routes] of [['tls', spec.tls ?? []], ['http', spec.http ?? []]] as const) {
    for (const { match, route, retries, timeout } of routes) {
      for (const { port = 0, sniHosts = [], sourceNamespace } of match) {
        routed.add(port);
        const protocol = entries.flatMap((entry) => entry.spec.ports).find(({ number }) => number === port)?.protocol;
        if (protocol !== kind.toUpperCase()) yield `${who}: port ${port} is ${protocol ?? 'nothing'} to the ServiceEntry, and ${kind} here`;
        if (sourceNamespace !== CLIENTS) yield `${who}: it steers other namespaces`;
        if (sniHosts.some((host) => !spec.hosts.includes(host))) yield `${who}: a server name is none of its hosts`;
        if (route.length !== 1) yield `${who}: port ${port} has not one route`;
        for (const { destination } of route) yield* checkRoute(who, kind, destination, sniHosts, port, cluster);
      }
      if (kind === 'http' && (retries?.attempts !== 0 || timeout !== undefined)) yield `${who}: the mesh repeats or cuts what the proxy answers for`;
    }
  }
  for (const { number } of entries.flatMap((entry) => entry.spec.ports)) if (!routed.has(number)) yield `${who}: port ${number} goes to the partner without the proxy`;
}

function* checkRoute(who: string, kind: 'tls' | 'http', { host, subset, port }: Route['route'][number]['destination'], names: readonly string[], asked: number, { all, container, config }: Cluster): Generator<string> {
  const service = all<ServiceSpec>('Service').find(({ metadata }) => host === `${metadata.name}.${metadata.namespace}.svc.cluster.local`);
  const entry = service?.spec.ports.find((one) => one.port === port?.number);
  if (entry === undefined) {
    yield `${who}: ${host}:${port?.number} is no Service of ours`;
    return;
  }
  const rule = all<RuleSpec>('DestinationRule').find(({ spec }) => spec.host === host);
  if (rule?.spec.trafficPolicy?.tls?.mode !== 'DISABLE') yield `${who}: the mesh may speak mTLS to the proxy, which has no sidecar`;
  if (service?.metadata.annotations?.['networking.istio.io/exportTo'] !== '*') yield `${who}: the mesh may hide ${host} from the clients`;
  // Envoy's own is an hour.
  const idle = Number(/^(\d+)s$/.exec(rule?.spec.trafficPolicy?.connectionPool?.http?.idleTimeout ?? '3600s')?.[1]);
  if (!(idle * 1000 < config.timeouts.keepAlive)) yield `${who}: the proxy closes idle connections before the mesh does`;
  const tunnel = rule?.spec.subsets?.find(({ name }) => name === subset)?.trafficPolicy?.tunnel;
  if (subset !== undefined && tunnel === undefined) yield `${who}: there is no subset ${subset} with a tunnel`;
  if (tunnel !== undefined) {
    const { protocol, targetHost, targetPort } = tunnel;
    if (protocol !== 'CONNECT' || !names.includes(targetHost) || targetPort !== asked) yield `${who}: the tunnel ${subset} leads to ${protocol} ${targetHost}:${targetPort}, not to what was asked for`;
    if (!entry.name.startsWith('tcp-')) yield `${who}: a tunnel to a port that is not named tcp- ends in 404`;
  }
  const form: Form = tunnel !== undefined ? 'connect' : kind === 'tls' ? 'sni' : 'host-routed';
  const listener = [...config.listeners.http, ...config.listeners.tls].find((one) => one.port === portOf(container, entry.targetPort));
  if (listener?.forms.includes(form) !== true) yield `${who}: port ${port?.number} of ${PROXY.name} does not take ${form}`;
}
