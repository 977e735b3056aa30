/** Checks of what runs: the Deployment, its ConfigMaps and Services, its budget and its scale. */
import { CLIENTS, type Cluster, type DeploymentSpec, type Labels, type LabelSelector, portOf, PROXY, selects, type ServiceSpec } from './cluster.ts';
import { countByNode, newPod, type Node, schedule } from './scheduler.ts';

interface ScalerSpec {
  readonly scaleTargetRef: { readonly apiVersion: string; readonly kind: string; readonly name: string };
  readonly minReplicas?: number;
  readonly maxReplicas: number;
  readonly metrics?: readonly { readonly type: string; readonly pods?: { readonly metric: { readonly name: string }; readonly target: { readonly averageValue?: string } } }[];
  readonly behavior?: { readonly scaleDown?: { readonly stabilizationWindowSeconds?: number } };
}

/** Between the end of the drain and SIGKILL. */
const SPARE_SECONDS = 5;
const SERVICE_PORTS = { 'tcp-proxy': [3128, 3128], 'http-gateway': [8080, 8080], 'tls-sni': [8443, 8443] } as const;
const EXTERNAL_PORTS = { 'tls-sni': [443, 8443], 'http-gateway': [80, 8080] } as const;
/** Read by the program itself. */
const OWN_VARIABLES = ['ECO_EGRESS_CONFIG', 'ECO_EGRESS_DEBUG', 'NODE_OPTIONS', 'POD_NAME'];

export function* checkWorkload(cluster: Cluster): Generator<string> {
  yield* checkPods(cluster);
  yield* checkMounts(cluster);
  yield* checkServices(cluster);
  yield* checkBudgetAndScale(cluster);
}

function* checkPods({ proxy, container, config, find }: Cluster): Generator<string> {
  const { spec } = proxy;
  const pod = spec.template.spec;
  if (!selects(spec.selector, spec.template.metadata.labels)) yield 'the Deployment does not select its own pods';
  if (find('ServiceAccount', pod.serviceAccountName ?? '', PROXY.namespace)?.['automountServiceAccountToken'] !== false) yield 'the ServiceAccount is missing, or gives out its token';
  if (pod.automountServiceAccountToken !== false) yield 'the pods mount a token';
  if (spec.template.metadata.annotations?.['dynatrace.com/inject'] !== 'false') yield 'a OneAgent of the cluster would be injected';
  if (pod.dnsConfig?.options?.find(({ name }) => name === 'ndots')?.value !== '1') yield 'names of the policy are asked for with search domains';
  if (pod.enableServiceLinks !== false) yield 'the pods get variables named after the Service';
  for (const { topologyKey, labelSelector, nodeTaintsPolicy } of pod.topologySpreadConstraints ?? []) {
    if (!selects(labelSelector, spec.template.metadata.labels)) yield `the spread over ${topologyKey} counts other pods`;
    if (nodeTaintsPolicy !== 'Honor') yield `the spread over ${topologyKey} counts nodes that take no pods`;
  }
  for (const count of [2, 3]) if (landing(spec, 6, nodesOf(pod.nodeSelector, pod.tolerations, count)).some((replicas) => replicas > 1)) yield `two replicas may share a node when there are ${count}, and each counts on all of its ports`;
  if (spec.replicas !== undefined) yield 'the Deployment has a number of replicas, which belongs to the autoscaler';
  const { maxSurge, maxUnavailable } = spec.strategy?.rollingUpdate ?? {};
  if (maxSurge !== 1 || maxUnavailable !== 0) yield 'a rollout takes replicas away before new ones are ready';

  const drain = (config.timeouts.drainDelay + config.timeouts.drain) / 1000 + SPARE_SECONDS;
  if ((pod.terminationGracePeriodSeconds ?? 30) < drain) yield `terminationGracePeriodSeconds leaves less than ${drain} s for the drain`;
  yield* checkHardening(spec);

  const { http, tls, admin } = config.listeners;
  const listening = [...http, ...tls, admin].map(({ port }) => port).toSorted();
  const exposed = (container.ports ?? []).map(({ containerPort }) => containerPort).toSorted();
  if (listening.join() !== exposed.join()) yield `the container has ports ${exposed.join(', ')}, the policy listens on ${listening.join(', ')}`;
  for (const [name, path] of [['startupProbe', '/healthz'], ['readinessProbe', '/readyz'], ['livenessProbe', '/healthz']] as const) {
    const probe = container[name]?.httpGet;
    if (probe?.path !== path || portOf(container, probe.port) !== admin.port) yield `${name} does not ask ${path} on the admin port`;
  }
  const annotated = spec.template.metadata.annotations?.['metrics.dynatrace.com/port'];
  if (annotated !== undefined && annotated !== String(admin.port)) yield 'Dynatrace scrapes another port than the admin port';
  if (!/^[^:@\s]+:[\w.-]+$|@sha256:/.test(container.image) || container.image.endsWith(':latest')) yield `the image ${container.image} has no version`;
}

/** Replicas on each of the nodes. */
function landing(spec: DeploymentSpec, replicas: number, nodes: readonly Node[]): number[] {
  const pods = Array.from({ length: replicas }, () => newPod(spec, 'old'));
  schedule(spec, pods, nodes);
  return countByNode(pods, nodes);
}

/** Nodes that the pods want and tolerate. */
function nodesOf(labels: Labels = {}, tolerations: readonly { readonly key?: string; readonly value?: string }[] = [], count: number): Node[] {
  const taints = tolerations.flatMap(({ key, value }) => (key === undefined ? [] : [{ key, ...(value === undefined ? {} : { value }), effect: 'NoSchedule' as const }]));
  return Array.from({ length: count }, (_, index) => ({ name: `node-${index}`, labels: { ...labels, 'kubernetes.io/hostname': `node-${index}`, 'topology.kubernetes.io/zone': `zone-${index % 3}` }, taints }));
}

/** The Pod Security Standard "restricted", and a root filesystem that nobody writes. */
function* checkHardening({ template: { spec } }: DeploymentSpec): Generator<string> {
  const pod = spec.securityContext ?? {};
  if (pod['runAsNonRoot'] !== true || pod['runAsUser'] === 0) yield 'the pods may run as root';
  if (spec.securityContext?.seccompProfile?.type !== 'RuntimeDefault') yield 'the pods have no seccomp profile';
  for (const { name, securityContext, resources } of spec.containers) {
    if (securityContext?.['allowPrivilegeEscalation'] !== false) yield `${name} may gain privileges`;
    if (securityContext?.['readOnlyRootFilesystem'] !== true) yield `${name} may write its root filesystem`;
    if (securityContext?.capabilities?.drop?.includes('ALL') !== true) yield `${name} keeps capabilities`;
    if (resources?.requests?.['cpu'] === undefined || resources.limits?.['memory'] === undefined) yield `${name} has no resources`;
  }
}

function* checkMounts({ proxy, container, variables, find }: Cluster): Generator<string> {
  const volumes = new Map((proxy.spec.template.spec.volumes ?? []).map((volume) => [volume.name, volume]));
  for (const { name, configMap, secret } of volumes.values()) {
    if (configMap !== undefined && find('ConfigMap', configMap.name, PROXY.namespace) === undefined) yield `volume ${name}: there is no ConfigMap ${configMap.name}`;
    if (secret !== undefined && secret.optional !== true) yield `volume ${name}: without the Secret ${secret.secretName} no pod starts`;
    // 0644 unless it is said, and root's without a group for volumes.
    if (secret !== undefined && (((secret.defaultMode ?? 0o644) & 0o004) !== 0 || proxy.spec.template.spec.securityContext?.['fsGroup'] !== proxy.spec.template.spec.securityContext?.['runAsGroup'])) yield `volume ${name}: the proxy warns of its keys, which everybody can read, or cannot read them`;
  }
  for (const { name, subPath } of container.volumeMounts ?? []) {
    if (!volumes.has(name)) yield `there is no volume ${name}`;
    if (subPath !== undefined) yield `${name} is mounted by subPath, so a change never reaches the pods`;
  }
  for (const { configMapRef } of container.envFrom ?? []) {
    const settings = find('ConfigMap', configMapRef?.name ?? '', PROXY.namespace);
    if (settings === undefined) yield `there is no ConfigMap ${configMapRef?.name}`;
    for (const name of Object.keys(settings?.data ?? {})) if (!variables.has(name)) yield `the policy takes no variable ${name}`;
  }
  for (const { name, value = '' } of container.env ?? []) {
    if (!variables.has(name) && !OWN_VARIABLES.includes(name)) yield `the policy takes no variable ${name}`;
    if (!value.startsWith('/')) continue;
    const mount = (container.volumeMounts ?? []).find(({ mountPath }) => value.startsWith(`${mountPath}/`));
    const volume = volumes.get(mount?.name ?? '');
    const key = value.slice((mount?.mountPath.length ?? 0) + 1);
    if (volume === undefined) yield `${name} names ${value}, where nothing is mounted`;
    else if (volume.configMap !== undefined && find('ConfigMap', volume.configMap.name, PROXY.namespace)?.data?.[key] === undefined) yield `${name} names ${value}, a key that the ConfigMap lacks`;
  }
  if (!(container.env ?? []).some(({ name }) => name === 'ECO_EGRESS_CONFIG')) yield 'the proxy is not told where the policy is';
}

function* checkServices({ proxy, container, config, all }: Cluster): Generator<string> {
  const clients = config.clients.filter(({ name }) => name !== CLIENTS).flatMap(({ addresses }) => addresses ?? []);
  for (const { metadata, spec } of all<ServiceSpec>('Service')) {
    if (!selects({ matchLabels: spec.selector }, proxy.spec.template.metadata.labels)) yield `Service ${metadata.name} selects no pods of the proxy`;
    const expected = spec.type === 'LoadBalancer' ? EXTERNAL_PORTS : SERVICE_PORTS;
    const found = Object.fromEntries(spec.ports.map(({ name, port, targetPort }) => [name, [port, portOf(container, targetPort)]]));
    if (JSON.stringify(Object.entries(found).toSorted()) !== JSON.stringify(Object.entries(expected).toSorted())) yield `Service ${metadata.name} has ports ${JSON.stringify(found)}`;
    if (spec.ports.some(({ targetPort }) => portOf(container, targetPort) === config.listeners.admin.port)) yield `Service ${metadata.name} gives away the admin port`;
    if (spec.type !== 'LoadBalancer') continue;
    const ranges = spec.loadBalancerSourceRanges ?? [];
    if (ranges.length === 0 || ranges.some((range) => !clients.includes(range))) yield `Service ${metadata.name} lets in others than the clients of the policy`;
    if (spec.externalTrafficPolicy !== 'Local') yield `Service ${metadata.name} hides the callers' addresses`;
    if (metadata.annotations?.['networking.gke.io/load-balancer-ip-addresses'] === undefined) yield `Service ${metadata.name} names no reserved address`;
  }
  if (!all('Service').some(({ metadata }) => metadata.name === 'eco-egress')) yield 'there is no Service eco-egress';
}

function* checkBudgetAndScale({ proxy, config, all, find }: Cluster): Generator<string> {
  const { labels } = proxy.spec.template.metadata;
  const budgets = all<{ selector: LabelSelector; maxUnavailable?: number }>('PodDisruptionBudget');
  if (!budgets.some(({ spec }) => selects(spec.selector, labels) && spec.maxUnavailable === 1)) yield 'no PodDisruptionBudget holds the pods of the proxy';
  const scalers = all<ScalerSpec>('HorizontalPodAutoscaler');
  if (scalers.length !== 1) yield 'there is not one HorizontalPodAutoscaler';
  for (const { metadata, spec } of scalers) {
    const { kind, name, apiVersion } = spec.scaleTargetRef;
    if (find(kind, name, metadata.namespace)?.apiVersion !== apiVersion) yield `the autoscaler scales ${kind} ${name}, which is not there`;
    if ((spec.minReplicas ?? 1) < 2) yield 'the autoscaler goes below two replicas';
    if ((spec.behavior?.scaleDown?.stabilizationWindowSeconds ?? 300) < 300) yield 'the autoscaler takes replicas away within five minutes';
    const tunnels = spec.metrics?.find(({ pods }) => /^(?:prometheus\.googleapis\.com\|)?eco_egress_tunnels_active(?:\|gauge)?$/.test(pods?.metric.name ?? ''));
    const target = Number(tunnels?.pods?.target.averageValue);
    if (!(target > 0 && target < config.limits.tunnels)) yield 'the autoscaler does not scale by open tunnels, below limits.tunnels';
  }
}
