/** Locations in the cluster: namespaces, the Service and its ports, labels. The same values as in deploy/kubernetes/base, for rendered files. */

/** Namespaces of the two sides. */
export interface Placement {
  /** Where the proxy runs. */
  readonly namespace: string;
  /** The pods whose traffic is steered to it. */
  readonly clientNamespace: string;
}

/** Namespaces that the shipped manifests use. */
export const PLACEMENT: Placement = { namespace: 'eco-egress', clientNamespace: 'dynatrace-sit' };

/** Name of the proxy's Service. */
export const SERVICE_NAME = 'eco-egress';
/** Name of the Service for clients outside the cluster, and of its reserved address. */
export const EXTERNAL_SERVICE = 'eco-egress-external';
/** Ports of the Service, which are those of the pods. */
export const PORTS = { proxy: 3128, gateway: 8080, tls: 8443, admin: 9090 } as const;

/** What the pods of base/deployment.yaml have: seconds from SIGTERM to SIGKILL, MiB of memory, the open tunnels beyond which the autoscaler adds one, and the directories of the policy and of the Secret's files. */
export const POD = {
  grace: 40,
  memory: 1536,
  scaleAt: 1400,
  policy: '/etc/eco-egress/policy',
  certificates: '/etc/eco-egress/certificates',
} as const;

/** Labels of the proxy's pods. */
export const PROXY_LABELS = { 'app.kubernetes.io/name': 'eco-egress' } as const;

/** Namespaces that scrape the admin port: Prometheus, Google's collectors, Dynatrace's ActiveGate. */
export const MONITORING_NAMESPACES = ['dynatrace', 'gke-gmp-system', 'gmp-system', 'monitoring'] as const;

/** Fully qualified, so that no search domain of a client can change it. */
export function serviceHost({ namespace }: Placement): string {
  return `${SERVICE_NAME}.${namespace}.svc.cluster.local`;
}

/** The label by which every namespace has its own name. */
export function namespaceLabel(name: string): Record<string, string> {
  return { 'kubernetes.io/metadata.name': name };
}

/** A Kubernetes object, as far as it is rendered here. */
export interface Manifest {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
  };
  readonly spec?: unknown;
  readonly data?: Readonly<Record<string, string>>;
}
