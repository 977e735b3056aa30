/**
 * Renders the files under deploy/kubernetes/ that depend on the policy, so that
 * the allowlist and the cluster's rules stay the same.
 *
 * Longer than 400 lines: each file is a page of YAML, with the notes that belong to it.
 */
import { posix } from 'node:path';
import type { Config, Form } from '../config/config.ts';
import { mergePorts } from '../targets/port-range.ts';
import {
  clientPolicy,
  clientPorts,
  FAMILIES,
  isByName,
  isReached,
  outsideRanges,
  proxyPolicy,
  rangesOf,
  trustedRanges,
  unknownPorts,
} from './network-policy.ts';
import { EXTERNAL_SERVICE, type Manifest, type Placement, POD, PORTS, PROXY_LABELS, SERVICE_NAME } from './placement.ts';
import { askedPorts, destinationRule, planSteering, serviceEntries, virtualService, waypoint } from './steering.ts';

/**
 * The overlays. The routes to the proxy include `base`; the lock and the load balancer come alone, since the lock is
 * a separate step after the route, and few need the other.
 */
export const OVERLAYS = ['base', 'sidecar', 'sidecar-tunnel', 'ambient', 'no-mesh', 'no-direct-egress', 'external-service'] as const;
/** A directory below deploy/kubernetes/ with rendered files. */
export type Overlay = (typeof OVERLAYS)[number];

/** Input of the manifests. */
export interface RenderOptions {
  readonly config: Config;
  /** The configuration file as written, with its variables. */
  readonly policyText: string;
  readonly placement: Placement;
  /** The files that the configuration names, by their paths from its own directory. */
  readonly names?: readonly string[];
  /** Public CIDRs that clients may reach without the proxy. */
  readonly direct: readonly string[];
}

/** One file of the kustomize tree. */
export interface RenderedFile {
  /** Below deploy/kubernetes/. */
  readonly path: string;
  readonly manifests: readonly Manifest[];
  /** Destinations that it does not cover; listed at the top of the file. */
  readonly notes: readonly string[];
}

/** Files of one overlay; nothing has been written. */
export interface Rendering {
  readonly files: readonly RenderedFile[];
  /** Why the manifests would not work with this policy; empty: they do. */
  readonly problems: readonly string[];
}

/** Renders the files of one overlay, also where there are problems. */
export function renderManifests(overlay: Overlay, options: RenderOptions): Rendering {
  const problems = NEEDS[overlay].flatMap(({ port, form }) => missingListener(options.config, port, form));
  if (overlay !== 'no-direct-egress' && overlay !== 'external-service') problems.push(...missingAdmin(options.config));
  const files = renderFiles(overlay, options).map((file) => ({
    ...file,
    notes: [...file.notes, ...file.manifests.filter((one) => bytesOf(one) > MOST_OF_APPLY).map(tellLarge)],
  }));
  const tooLarge = files.flatMap(({ manifests }) => manifests).filter((one) => bytesOf(one) > MOST_OF_SERVER);
  return {
    files,
    problems: [
      ...problems,
      ...tooLarge.map(
        ({ kind, metadata: { name } }) =>
          `${kind} ${name} would have more than 1 MiB, and the API server takes no larger one. Use wildcards and ranges in the policy.`,
      ),
    ],
  };
}

/** `kubectl apply` puts the whole object into an annotation, and annotations have 256 KiB. */
const MOST_OF_APPLY = 262_000;
/** Of a ConfigMap; etcd takes little more. */
const MOST_OF_SERVER = 1_048_576;

const bytesOf = (manifest: Manifest): number => Buffer.byteLength(JSON.stringify(manifest));

const tellLarge = ({ kind, metadata: { name } }: Manifest): string =>
  `${kind} ${name} has more than 256 KiB, which kubectl apply takes with --server-side only.`;

function renderFiles(overlay: Overlay, options: RenderOptions): RenderedFile[] {
  if (overlay === 'base') return renderBase(options);
  if (overlay === 'no-direct-egress') return [renderLock(options)];
  if (overlay === 'external-service') return [renderExternal(options)];
  return [...renderBase(options), renderWay(overlay, options)];
}

const NEEDS: Readonly<Record<Overlay, readonly { readonly port: number; readonly form: Form }[]>> = {
  base: [],
  sidecar: [
    { port: PORTS.tls, form: 'sni' },
    { port: PORTS.gateway, form: 'host-routed' },
  ],
  'sidecar-tunnel': [
    { port: PORTS.proxy, form: 'connect' },
    { port: PORTS.gateway, form: 'host-routed' },
  ],
  ambient: [
    { port: PORTS.tls, form: 'sni' },
    { port: PORTS.gateway, form: 'host-routed' },
  ],
  'no-mesh': [
    { port: PORTS.proxy, form: 'connect' },
    { port: PORTS.proxy, form: 'forward' },
  ],
  'no-direct-egress': [],
  'external-service': [
    { port: PORTS.tls, form: 'sni' },
    { port: PORTS.gateway, form: 'gateway' },
  ],
};

function missingListener({ listeners }: Config, port: number, form: Form): string[] {
  const there = [...listeners.http, ...listeners.tls].find((listener) => listener.port === port);
  const reached = there === undefined || isReached(there);
  if (reached && there?.forms.includes(form) === true) return [];
  const what =
    there === undefined
      ? 'no listener'
      : reached
        ? `a listener without the form ${form}`
        : `a listener on ${there.host}, which no other pod reaches`;
  return [
    `Port ${port} of the Service ${SERVICE_NAME} leads to ${what}. Let the policy listen on ${reached ? '' : '0.0.0.0:'}${port} and take ${form} there.`,
  ];
}

function missingAdmin({ listeners: { admin } }: Config): string[] {
  if (admin.port === PORTS.admin && isReached(admin)) return [];
  return [
    `The probes of the Deployment ask port ${PORTS.admin}, and no pod becomes ready without an answer. Let the policy have listeners.admin: 0.0.0.0:${PORTS.admin}.`,
  ];
}

/** What base/deployment.yaml and the autoscaler have otherwise than the policy needs it. */
function podNotes(config: Config, names: readonly string[], { namespace }: Placement): string[] {
  const {
    limits,
    nat,
    reload,
    timeouts: { drainDelay, drain },
  } = config;
  const seconds = Math.ceil((drainDelay + drain) / 1000);
  const worst = worstMemory(limits);
  const elsewhere = names.filter(
    (name) => ![POD.policy, '/'].some((directory) => posix.resolve(directory, name).startsWith(`${POD.certificates}/`)),
  );
  return [
    ...clientPorts(config)
      .filter((port) => !Object.values<number>(PORTS).includes(port))
      .map(
        (port) =>
          `The policy listens on port ${port}, which the Service ${SERVICE_NAME} does not have. Patch it into the Service, or leave it out of listeners.`,
      ),
    ...(reload.watch
      ? []
      : [
          `reload.watch is off, so running pods keep the policy with which they started. After a change: npx eco-egress reload in each of them, or kubectl -n ${namespace} rollout restart deployment/eco-egress`,
        ]),
    ...(nat.ports === null || nat.replicasPerNode === 1
      ? []
      : [
          `nat.replicasPerNode is ${nat.replicasPerNode}, so each replica uses only that part of the ports of its node, and two replicas never share one. Set it to 1, or patch the podAntiAffinity of the Deployment.`,
        ]),
    ...(seconds + AFTER_DRAIN <= POD.grace
      ? []
      : [
          `timeouts.drainDelay and drain take ${seconds} s, and pods are killed ${POD.grace} s after SIGTERM. Patch terminationGracePeriodSeconds of the Deployment to ${seconds + 10} or more.`,
        ]),
    ...(limits.tunnels > POD.scaleAt
      ? []
      : [
          `The autoscaler adds a pod beyond ${POD.scaleAt} open tunnels in each, and limits.tunnels is ${limits.tunnels}, so it never would. Patch averageValue of the HorizontalPodAutoscaler to ${Math.ceil(limits.tunnels * 0.7)}.`,
        ]),
    ...(worst <= POD.memory * 0.7
      ? []
      : [
          `All limits together may take ${Math.ceil(worst)} MiB and the kernel half as much for its buffers, and pods have ${POD.memory} MiB. Patch the limit of memory of the Deployment to ${256 * Math.ceil((worst * 1.5) / 256)}Mi.`,
        ]),
    ...elsewhere.map(
      (name) =>
        `The policy names the file ${name}, which pods do not have. Theirs are those of the Secret eco-egress-certificates, in ${POD.certificates}.`,
    ),
  ];
}

/** For the last spans and lines of the log, seconds. */
const AFTER_DRAIN = 5;

/** MiB: the arithmetic of docs/configuration.md, section Memory. */
function worstMemory({ connections, tunnels, exchanges, headerBytes }: Config['limits']): number {
  const unfinished = Math.max(0, connections - tunnels - exchanges);
  return (
    236 + (Math.min(tunnels, connections) * 235 + Math.min(exchanges, connections) * 270 + unfinished * (headerBytes / 1024 + 11)) / 1024
  );
}

function renderBase({ config, policyText, placement, names = [] }: RenderOptions): RenderedFile[] {
  const policyMap: Manifest = {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name: 'eco-egress-policy', namespace: placement.namespace },
    data: { 'egress.yaml': policyText },
  };
  return [
    { path: 'base/policy.yaml', manifests: [policyMap], notes: podNotes(config, names, placement) },
    {
      path: 'base/network-policy.yaml',
      manifests: [proxyPolicy(config, placement)],
      notes: [...reportNotes(config), ...clientNotes(config, placement), ...collectorNotes(config)],
    },
  ];
}

/**
 * The Service for callers outside the cluster: a load balancer that accepts only the addresses in the policy, since
 * without source ranges it would accept every address. Internal to the VPC: a proxy with a public address attracts
 * attacks. `Local` keeps the caller's address, by which the policy identifies it.
 */
function renderExternal({
  config,
  config: {
    timeouts: { drainDelay },
  },
  placement: { namespace, clientNamespace },
}: RenderOptions): RenderedFile {
  const path = 'components/external-service/service.yaml';
  const ranges = [...new Set(outsideRanges(config, clientNamespace))];
  if (ranges.length === 0)
    return {
      path,
      manifests: [],
      notes: [
        'No client of the policy is outside the cluster and has addresses, and a load balancer without source ranges would let in every address: so none is rendered.',
      ],
    };
  const service: Manifest = {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: {
      name: EXTERNAL_SERVICE,
      namespace,
      labels: PROXY_LABELS,
      annotations: { 'networking.gke.io/load-balancer-type': 'Internal', 'networking.gke.io/load-balancer-ip-addresses': EXTERNAL_SERVICE },
    },
    spec: {
      type: 'LoadBalancer',
      selector: PROXY_LABELS,
      externalTrafficPolicy: 'Local',
      loadBalancerSourceRanges: ranges,
      ports: [
        { name: 'tls-sni', port: 443, targetPort: 'tls', protocol: 'TCP' },
        { name: 'http-gateway', port: 80, targetPort: 'http', protocol: 'TCP' },
      ],
    },
  };
  return {
    path,
    manifests: [service],
    notes:
      drainDelay >= BALANCER_NOTICES
        ? []
        : [
            `The load balancer sends connections to a pod for six seconds and more after SIGTERM, and the pod accepts them for ${drainDelay / 1000} s: later ones are lost in each rollout. Set timeouts.drainDelay to ${BALANCER_NOTICES / 1000}s or more.`,
          ],
  };
}

/** GKE asks a node every 3 s whether a pod on it is ready, and sends it nothing after two failures (ingress-gce, healthchecksl4.go); ms. */
const BALANCER_NOTICES = 10_000;

function clientNotes({ clients, cluster, listeners }: Config, { clientNamespace }: Placement): string[] {
  const trusted = trustedRanges(listeners);
  const inside = new Set([clientNamespace, ...cluster.clients.map(({ name }) => name)]);
  return [
    ...clients.flatMap(({ name, addresses, tokens }) => [
      ...(addresses === null && !inside.has(name)
        ? [`Client ${name} has no addresses, and no pods under cluster.clients: nothing here lets it in.`]
        : []),
      ...(addresses !== null && !inside.has(name)
        ? [
            `Client ${name} is neither the namespace ${clientNamespace} nor under cluster.clients, so its callers are outside the cluster: ${addresses.join(', ')} is let in. Pods are not: no ipBlock matches them.`,
          ]
        : []),
      ...(tokens ?? []).flatMap(({ jwks }) =>
        jwks.kind === 'url' && isByName(jwks.url)
          ? [
              `The keys at ${jwks.url} are reached at public addresses only. For others use jwksFile, or a NetworkPolicy of your own beside this one.`,
            ]
          : [],
      ),
    ]),
    ...(trusted.length === 0
      ? []
      : [
          `Trusted peers are let in by address: ${trusted.join(', ')}. Pods are not: no ipBlock matches them. For pods use a NetworkPolicy of your own beside this one.`,
        ]),
  ];
}

function reportNotes({ mode }: Config): string[] {
  return mode === 'report'
    ? [
        'Report mode lets requests to any public host pass, and this lets the proxy out to the destinations of the policy only: the others end with connect-timeout. While it lasts, permit more with a NetworkPolicy of your own beside this one.',
      ]
    : [];
}

function collectorNotes({ tracing, cluster }: Config): string[] {
  return tracing === null || cluster.collector !== null || !isByName(tracing.endpoint)
    ? []
    : [
        `The collector at ${tracing.endpoint} is reached at public addresses only. Say under cluster.collector which pods it is; for another one, write its address in tracing.endpoint, or a NetworkPolicy of your own beside this one.`,
      ];
}

function renderWay(
  overlay: Exclude<Overlay, 'base' | 'no-direct-egress' | 'external-service'>,
  { config, placement }: RenderOptions,
): RenderedFile {
  if (overlay === 'no-mesh') {
    return {
      path: 'components/client-environment/variables/environment.yaml',
      manifests: [clientEnvironment(placement)],
      notes: ['kustomization.yaml beside it puts this into workloads. To apply it has no effect.'],
    };
  }
  const [ambient, tunnels] = [overlay === 'ambient', overlay === 'sidecar-tunnel'];
  // The others are not rendered without a listener for raw TLS.
  const { destinations, notes } = planSteering(config, {
    tunnels,
    wildcards: !ambient,
    rawTls: !tunnels || missingListener(config, PORTS.tls, 'sni').length === 0,
  });
  const manifests = [
    ...destinations.flatMap((destination) => [...serviceEntries(destination, placement, ambient), virtualService(destination, placement)]),
    destinationRule(destinations, placement, config.timeouts.keepAlive),
    ...(ambient ? waypoint(placement) : []),
  ];
  return { path: `overlays/${overlay}/steering.yaml`, manifests, notes };
}

function renderLock({ config, placement, direct }: RenderOptions): RenderedFile {
  return {
    path: 'components/no-direct-egress/network-policy.yaml',
    manifests: [clientPolicy(config, placement, direct)],
    notes: lockNotes(config, placement),
  };
}

function lockNotes({ destinations, cluster }: Config, { clientNamespace }: Placement): string[] {
  const inside = new Set(cluster.destinations.map(({ name }) => name));
  const unlisted = destinations.filter((destination) => rangesOf(destination) === null && !inside.has(destination.name));
  return [
    ...unlisted.map(
      (destination) =>
        `The policy lists no addresses for ${destination.name}, so NO public address is permitted on port ${askedPorts(destination).join(' or ')}. ${destination.resolve === 'parent' ? 'A parent resolves its hosts, so none can be listed: --direct says what stays open' : 'List them there, and everything else is open'}.`,
    ),
    ...FAMILIES.flatMap((family) => {
      const one = destinations.filter(
        (destination) => destination.addresses !== null && unknownPorts([destination], cluster, family).length > 0,
      );
      const ports = mergePorts(one.flatMap(askedPorts));
      return one.length === 0
        ? []
        : [
            `The addresses of ${one.map(({ name }) => name).join(', ')} are ${family === 'IPv4' ? 'IPv6' : 'IPv4'}, so NO public ${family} address is permitted on port ${ports.join(' or ')}: the partner could have one.`,
          ];
    }),
    ...destinations.flatMap(({ name, via: [hop] }) =>
      hop === undefined
        ? []
        : [
            `${name} is reached through the parent proxy ${hop.name}, which stays open to the clients: let ${hop.name} accept connections of this proxy only.`,
          ],
    ),
    ...cluster.clients.flatMap(({ name, namespace }) =>
      namespace === clientNamespace
        ? []
        : [
            `Pods of ${namespace}, which are client ${name} too, are not locked by this. For a lock of their own: --overlay no-direct-egress --client-namespace ${namespace}`,
          ],
    ),
    ...cluster.destinations.map(({ name, namespace }) => `${name} is pods of ${namespace}, so no pod of that namespace is permitted.`),
  ];
}

/** Not the partner: the pod itself, Services, the metadata server and the API server. */
const NO_PROXY_HOSTS = [
  'localhost',
  '127.0.0.1',
  '::1',
  '.svc',
  '.cluster.local',
  '169.254.169.254',
  'metadata.google.internal',
  '$(KUBERNETES_SERVICE_HOST)',
] as const;
/** Java's own spelling of the same, in which `*` matches the rest. */
const DIRECT_JAVA = [
  'localhost',
  '127.*',
  '[::1]',
  '*.svc',
  '*.cluster.local',
  '169.254.169.254',
  'metadata.google.internal',
  '$(KUBERNETES_SERVICE_HOST)',
] as const;

/**
 * Without a mesh: the variables that make the clients' programs use the proxy; docs/clients/ lists what each reads. The
 * component client-environment takes them from this ConfigMap, which stays on the build machine, into any workload with
 * the label: of any kind, and with containers of any name, which a patch would have to know.
 */
export function clientEnvironment({ namespace }: Placement): Manifest {
  const host = `${SERVICE_NAME}.${namespace}.svc`;
  const proxy = `http://${host}:${PORTS.proxy}`;
  const java = ['https', 'http'].flatMap((scheme) => [`-D${scheme}.proxyHost=${host}`, `-D${scheme}.proxyPort=${PORTS.proxy}`]);
  return {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name: 'eco-egress-client-environment', annotations: { 'config.kubernetes.io/local-config': 'true' } },
    data: {
      HTTPS_PROXY: proxy,
      HTTP_PROXY: proxy,
      NO_PROXY: NO_PROXY_HOSTS.join(','),
      JAVA_TOOL_OPTIONS: [...java, `-Dhttp.nonProxyHosts=${DIRECT_JAVA.join('|')}`].join(' '),
    },
  };
}
