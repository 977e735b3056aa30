/** Ways to break the manifests, and the words by which each is found. */
import type { KubeObject } from './kustomize.ts';

/** Loose on purpose: what is broken need not fit a type. */
export interface Loose {
  [field: string]: Loose;
  [index: number]: Loose;
}

export interface Mutation {
  readonly what: string;
  readonly overlay: string;
  readonly mutate: (find: (kind: string, name: string) => Loose, objects: KubeObject[]) => void;
  readonly fault: RegExp;
}

const set = (object: Loose | undefined, path: string, value: unknown): void => {
  const keys = path.split('.');
  const last = keys.pop() ?? '';
  const holder = keys.reduce<Loose | undefined>((at, key) => at?.[key], object);
  if (holder === undefined) throw new Error(`nothing at ${path}`);
  if (value === undefined) Reflect.deleteProperty(holder, last);
  else Reflect.set(holder, last, value);
};

const change = (what: string, overlay: string, id: string, path: string, value: unknown, fault: RegExp): Mutation => {
  const [kind = '', name = ''] = id.split(' ');
  return { what, overlay, fault, mutate: (find) => { set(find(kind, name), path, value); } };
};

const POD = 'spec.template.spec';
const CONTAINER = `${POD}.containers.0`;
const OURS = 'Deployment eco-egress';
const ROUTES = 'VirtualService eco-sit-through-egress';
const MESH = 'DestinationRule eco-egress';
const ENTRY = 'ServiceEntry eco-sit-external';
const LOCK = 'NetworkPolicy no-direct-egress';

export const MUTATIONS: readonly Mutation[] = [
  change('an unknown field', 'sidecar', OURS, `${POD}.runAsNonRoot`, true, /Deployment eco-egress\/spec\/template\/spec: must NOT have additional properties.*runAsNonRoot/),
  change('an unknown field of an extension', 'sidecar', ROUTES, 'spec.host', 'x', /VirtualService .*additional properties.*"host"/),
  change('an unknown field of metadata', 'sidecar', ENTRY, 'metadata.label', {}, /ServiceEntry .*additional properties.*"label"/),
  change('a field of the wrong type', 'sidecar', 'Service eco-egress', 'spec.ports.0.port', '3128', /Service eco-egress\/spec\/ports\/0\/port: must be integer/),
  change('a value that is no choice', 'external', 'Service eco-egress-external', 'spec.externalTrafficPolicy', 'local', /must be equal to one of the allowed values/),
  change('a field that is missing', 'sidecar', OURS, 'spec.selector', undefined, /must have required property 'selector'/),
  change('a kind nobody knows', 'sidecar', ENTRY, 'apiVersion', 'networking.istio.io/v9', /no schema for networking\.istio\.io\/v9\/ServiceEntry/),
  change('pods that their Deployment does not select', 'sidecar', OURS, 'spec.template.metadata.labels', { 'app.kubernetes.io/name': 'egress' }, /does not select its own pods/),
  change('a Service without pods', 'sidecar', 'Service eco-egress', 'spec.selector', { app: 'eco-egress' }, /Service eco-egress selects no pods/),
  change('a target port that no container has', 'sidecar', 'Service eco-egress', 'spec.ports.0.targetPort', 'connect', /Service eco-egress has ports/),
  change('a Service that leads to the admin port', 'sidecar', 'Service eco-egress', 'spec.ports.1.targetPort', 'admin', /gives away the admin port/),
  change('a Service that a mesh may keep to its namespace', 'sidecar', 'Service eco-egress', 'metadata.annotations', undefined, /may hide eco-egress\.eco-egress\.svc\.cluster\.local/),
  change('a CONNECT port that a sidecar takes for HTTP', 'sidecar-tunnel', 'Service eco-egress', 'spec.ports.0.name', 'http-proxy', /not named tcp-/),
  change('a load balancer for everybody', 'external', 'Service eco-egress-external', 'spec.loadBalancerSourceRanges', ['0.0.0.0/0'], /lets in others than the clients/),
  change('a load balancer without ranges', 'external', 'Service eco-egress-external', 'spec.loadBalancerSourceRanges', undefined, /lets in others than the clients/),
  change('a load balancer without its address', 'external', 'Service eco-egress-external', 'metadata.annotations', {}, /names no reserved address/),
  change('a ConfigMap key that is not mounted', 'sidecar', OURS, `${CONTAINER}.env.0.value`, '/etc/eco-egress/policy/policy.yaml', /a key that the ConfigMap lacks/),
  change('a policy where nothing is mounted', 'sidecar', OURS, `${CONTAINER}.env.0.value`, '/etc/policy/egress.yaml', /where nothing is mounted/),
  change('a variable that the policy does not take', 'sidecar', OURS, `${CONTAINER}.env.0.name`, 'ECO_EGRESS_CONFG', /takes no variable ECO_EGRESS_CONFG/),
  change('settings that are not there', 'sidecar', OURS, `${CONTAINER}.envFrom.0.configMapRef.name`, 'settings', /no ConfigMap settings/),
  change('a volume that is not there', 'sidecar', OURS, `${CONTAINER}.volumeMounts.0.name`, 'config', /no volume config/),
  change('a mount that never changes', 'sidecar', OURS, `${CONTAINER}.volumeMounts.0.subPath`, 'egress.yaml', /mounted by subPath/),
  change('a Secret that has to be there', 'sidecar', OURS, `${POD}.volumes.1.secret.optional`, false, /without the Secret/),
  change('keys for everybody', 'sidecar', OURS, `${POD}.volumes.1.secret.defaultMode`, undefined, /warns of its keys/),
  change('keys that the proxy cannot read', 'sidecar', OURS, `${POD}.securityContext.fsGroup`, undefined, /cannot read them/),
  change('a policy that listens elsewhere', 'sidecar', OURS, `${CONTAINER}.ports.2.containerPort`, 8444, /the policy listens on/),
  change('a probe of another port', 'sidecar', OURS, `${CONTAINER}.readinessProbe.httpGet.port`, 'http', /readinessProbe does not ask/),
  change('a probe of another page', 'sidecar', OURS, `${CONTAINER}.livenessProbe.httpGet.path`, '/readyz', /livenessProbe does not ask/),
  change('too little time to drain', 'sidecar', OURS, `${POD}.terminationGracePeriodSeconds`, 30, /less than 35 s for the drain/),
  change('root', 'sidecar', OURS, `${POD}.securityContext.runAsNonRoot`, false, /may run as root/),
  change('a root filesystem to write', 'sidecar', OURS, `${CONTAINER}.securityContext.readOnlyRootFilesystem`, false, /may write its root/),
  change('capabilities', 'sidecar', OURS, `${CONTAINER}.securityContext.capabilities`, {}, /keeps capabilities/),
  change('no seccomp', 'sidecar', OURS, `${POD}.securityContext.seccompProfile.type`, 'Unconfined', /no seccomp profile/),
  change('a token', 'sidecar', OURS, `${POD}.automountServiceAccountToken`, true, /mount a token/),
  change('variables of the Service', 'sidecar', OURS, `${POD}.enableServiceLinks`, undefined, /named after the Service/),
  change('an account that is not there', 'sidecar', OURS, `${POD}.serviceAccountName`, 'default', /ServiceAccount is missing/),
  change('replicas beside the autoscaler', 'sidecar', OURS, 'spec.replicas', 2, /belongs to the autoscaler/),
  change('a rollout that takes away first', 'sidecar', OURS, 'spec.strategy.rollingUpdate.maxUnavailable', 1, /before new ones are ready/),
  change('an image without a version', 'sidecar', OURS, `${CONTAINER}.image`, 'eco-egress', /has no version/),
  change('a spread that counts other pods', 'sidecar', OURS, `${POD}.topologySpreadConstraints.0.labelSelector`, { matchLabels: { app: 'x' } }, /counts other pods/),
  change('replicas that share a node', 'sidecar', OURS, `${POD}.affinity`, undefined, /two replicas may share a node when there are 2/),
  change('a node for each other app', 'example', OURS, `${POD}.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution.0.labelSelector`, { matchLabels: { app: 'x' } }, /two replicas may share a node/),
  change('a zone for each replica', 'sidecar', OURS, `${POD}.topologySpreadConstraints.0.nodeTaintsPolicy`, undefined, /counts nodes that take no pods/),
  change('a OneAgent inside', 'sidecar', OURS, 'spec.template.metadata.annotations', { 'dynatrace.com/inject': 'true' }, /OneAgent of the cluster would be injected/),
  change('search domains', 'sidecar', OURS, `${POD}.dnsConfig`, undefined, /asked for with search domains/),
  change('a budget for other pods', 'sidecar', 'PodDisruptionBudget eco-egress', 'spec.selector', { matchLabels: { app: 'x' } }, /no PodDisruptionBudget/),
  change('an autoscaler of nothing', 'sidecar', 'HorizontalPodAutoscaler eco-egress', 'spec.scaleTargetRef.name', 'egress', /scales Deployment egress, which is not there/),
  change('one replica', 'sidecar', 'HorizontalPodAutoscaler eco-egress', 'spec.minReplicas', 1, /below two replicas/),
  change('a hasty autoscaler', 'sidecar', 'HorizontalPodAutoscaler eco-egress', 'spec.behavior.scaleDown.stabilizationWindowSeconds', 60, /within five minutes/),
  change('an autoscaler that waits beyond the limit', 'sidecar', 'HorizontalPodAutoscaler eco-egress', 'spec.metrics.0.pods.target.averageValue', '4000', /below limits\.tunnels/),
  change('a policy for other pods', 'sidecar', 'NetworkPolicy eco-egress', 'spec.podSelector', { matchLabels: { app: 'x' } }, /do not reach port 8080[^]*does not reach DNS/),
  change('clients of another namespace', 'sidecar', 'NetworkPolicy eco-egress', 'spec.ingress.0.from.0.namespaceSelector.matchLabels', { 'kubernetes.io/metadata.name': 'stranger' }, /the clients do not reach port 3128[^]*strangers reach port 3128/),
  change('a Service port that is not let in', 'sidecar', 'NetworkPolicy eco-egress', 'spec.ingress.0.ports.2.port', 443, /the clients do not reach port 8443/),
  change('metrics for everybody', 'sidecar', 'NetworkPolicy eco-egress', 'spec.ingress.1.from', undefined, /strangers reach the admin port/),
  change('no DNS by TCP', 'sidecar', 'NetworkPolicy eco-egress', 'spec.egress.0.ports', [{ protocol: 'UDP', port: 53 }], /does not reach DNS by TCP/),
  change('the whole world', 'sidecar', 'NetworkPolicy eco-egress', 'spec.egress.1', {}, /reaches the metadata server[^]*reaches nodes and pods/),
  change('a partner out of reach', 'sidecar', 'NetworkPolicy eco-egress', 'spec.egress.1.ports.0.port', 8080, /does not reach eco-sit at .*:80/),
  change('an exception outside its range', 'sidecar', 'NetworkPolicy eco-egress', 'spec.egress.1.to.1.ipBlock.except.0', '10.0.0.0/8', /10\.0\.0\.0\/8 is not strictly inside 2000::\/3/),
  change('clients that go direct', 'locked', LOCK, 'spec.egress.2.ports', undefined, /the clients reach eco-sit at .*:443 without the proxy/),
  change('clients that are cut off', 'locked', LOCK, 'spec.egress.0', { to: [{ podSelector: {} }] }, /may not leave for port 8080 of the proxy[^]*cut off from the cluster/),
  change('a route to a Service that is not there', 'sidecar', ROUTES, 'spec.tls.0.route.0.destination.host', 'istio-egressgateway.istio-system.svc.cluster.local', /is no Service of ours/),
  change('a route to a port that is not there', 'sidecar', ROUTES, 'spec.http.0.route.0.destination.port.number', 80, /eco-egress\.eco-egress\.svc\.cluster\.local:80 is no Service of ours/),
  change('raw TLS to an HTTP port', 'sidecar', ROUTES, 'spec.tls.0.route.0.destination.port.number', 8080, /port 8080 of eco-egress does not take sni/),
  change('a port that the ServiceEntry lacks', 'sidecar', ROUTES, 'spec.tls.0.match.0.port', 8443, /port 8443 is nothing to the ServiceEntry[^]*port 443 goes to the partner without the proxy/),
  change('a host that the ServiceEntry lacks', 'sidecar', ENTRY, 'spec.hosts', ['eco.telus.internal'], /a host that the policy does not know[^]*no ServiceEntry knows eco-sit\.telus\.internal/),
  change('a port that is not routed', 'sidecar', ROUTES, 'spec.http', undefined, /port 80 goes to the partner without the proxy/),
  change('a mesh that repeats requests', 'sidecar', ROUTES, 'spec.http.0.retries', undefined, /repeats or cuts/),
  change('a mesh that cuts requests', 'sidecar', ROUTES, 'spec.http.0.timeout', '15s', /repeats or cuts/),
  change('a timeout of nothing', 'sidecar', ROUTES, 'spec.http.0.timeout', '0s', /VirtualService eco-sit-through-egress: spec\.http\[0\]\.timeout: Invalid value: "0s": must be a valid duration greater than 1ms/),
  change('a duration that is none', 'sidecar', MESH, 'spec.trafficPolicy.connectionPool.tcp.connectTimeout', '5', /spec\.trafficPolicy\.connectionPool\.tcp\.connectTimeout: Invalid value: "5": must be a valid duration greater than 1ms/),
  change('an idle time beyond the proxy\'s own', 'sidecar', MESH, 'spec.trafficPolicy.connectionPool.http.idleTimeout', '1h', /the proxy closes idle connections before the mesh does/),
  change('no idle time', 'sidecar', MESH, 'spec.trafficPolicy.connectionPool.http', undefined, /the proxy closes idle connections before the mesh does/),
  change('a port that is there twice', 'sidecar', ENTRY, 'spec.ports.1.number', 443, /spec\.ports: Invalid value: port number cannot be duplicated/),
  change('a port beyond the last', 'sidecar', ENTRY, 'spec.ports.0.number', 65_536, /spec\.ports\[0\]\.number: Invalid value: 65536: port must be between 1-65535/),
  change('every host', 'sidecar', ENTRY, 'spec.hosts', ['*'], /spec\.hosts\[0\]: Invalid value: "\*": hostname cannot be wildcard/),
  change('a wildcard to resolve', 'sidecar', ENTRY, 'spec.hosts', ['*.telus.internal'], /hosts must be FQDN if no endpoints are provided for resolution mode DNS/),
  change('addresses of a name to resolve', 'sidecar', ENTRY, 'spec.addresses', ['10.40.0.0/16'], /CIDR addresses are allowed only for NONE\/STATIC resolution types/),
  change('endpoints where none can be', 'sidecar', ENTRY, 'spec', { hosts: ['eco-sit.telus.internal'], resolution: 'NONE', exportTo: ['.'], endpoints: [{ address: '10.40.0.1' }], ports: [{ number: 443, name: 'tls', protocol: 'TLS' }, { number: 80, name: 'http', protocol: 'HTTP' }] }, /NONE mode cannot set endpoints/),
  change('a subset of too long a name', 'sidecar-tunnel', MESH, 'spec.subsets.0.name', 'x'.repeat(64), /subset name is invalid/),
  change('two ways to say whom a policy is for', 'ambient', 'AuthorizationPolicy eco-egress-waypoint', 'spec.selector', { matchLabels: { app: 'x' } }, /only one of targetRefs or selector can be set/),
  change('two ways to say who may', 'ambient', 'AuthorizationPolicy eco-egress-waypoint', 'spec.rules.0.from.0.source.serviceAccounts', ['dynatrace-sit/app'], /Cannot set serviceAccounts with namespaces or principals/),
  change('a scrape that takes longer than its interval', 'google-managed-prometheus', 'PodMonitoring eco-egress', 'spec.endpoints.0.timeout', '60s', /scrape timeout .*must not be greater than scrape interval/),
  change('a rule that is two', 'google-managed-prometheus', 'Rules eco-egress', 'spec.groups.0.rules.0.record', 'x', /Must set exactly one of Record or Alert/),
  change('a circle', 'sidecar', ENTRY, 'spec.exportTo', undefined, /steers others than the clients/),
  change('everybody steered', 'sidecar', ROUTES, 'spec.tls.0.match.0.sourceNamespace', undefined, /steers other namespaces/),
  change('mTLS to a pod without sidecar', 'sidecar', MESH, 'spec.trafficPolicy.tls.mode', 'ISTIO_MUTUAL', /may speak mTLS/),
  change('a tunnel that leads elsewhere', 'sidecar-tunnel', MESH, 'spec.subsets.0.trafficPolicy.tunnel.targetHost', 'evil.example', /leads to CONNECT evil\.example:443/),
  change('a subset that is not there', 'sidecar-tunnel', MESH, 'spec.subsets.0.name', 'eco', /no subset eco--sit-telus-internal-443/),
  change('a waypoint that is not there', 'ambient', 'Gateway eco-egress-waypoint', 'metadata.name', 'waypoint', /no waypoint eco-egress-waypoint[^]*which is not there/),
  change('a monitor of other pods', 'prometheus-operator', 'PodMonitor eco-egress', 'spec.selector.matchLabels', { app: 'x' }, /PodMonitor eco-egress selects no pods/),
  change('a monitor of another port', 'google-managed-prometheus', 'PodMonitoring eco-egress', 'spec.endpoints.0.port', 'metrics', /does not scrape \/metrics of the admin port/),
  change('annotations of another port', 'dynatrace', OURS, 'spec.template.metadata.annotations', { 'metrics.dynatrace.com/port': '8080' }, /Dynatrace scrapes another port/),
  { what: 'a lock without a way', overlay: 'locked', fault: /locked in, and nothing leads them to the proxy/, mutate: (find, objects) => { objects.splice(0, objects.length, ...objects.filter(({ kind }) => kind !== 'VirtualService')); find('NetworkPolicy', 'no-direct-egress'); } },
  { what: 'an object that is there twice', overlay: 'sidecar', fault: /is there twice/, mutate: (_find, objects) => { objects.push(...objects.slice(0, 1)); } },
  { what: 'an object in no namespace', overlay: 'sidecar', fault: /has the wrong place/, mutate: (find) => { set(find('Service', 'eco-egress'), 'metadata.namespace', undefined); } },
  { what: 'a policy that is faulty', overlay: 'sidecar', fault: /the policy is faulty/, mutate: (find) => { set(find('ConfigMap', 'eco-egress-policy'), 'data', { 'egress.yaml': 'version: 2\n' }); } },
];
