/**
 * Without a mesh: the variables that make the clients' programs use the proxy. docs/clients/ says what each program reads.
 *
 * The component client-environment takes them from this ConfigMap, which stays on the machine that builds, into whatever
 * workload carries the label: any kind, and containers of any name, which a patch would have to know.
 */
import { type Manifest, type Placement, PORTS, SERVICE } from './placement.ts';

/** Not the partner: the pod itself, Services, the metadata server and the API server. */
const DIRECT = ['localhost', '127.0.0.1', '::1', '.svc', '.cluster.local', '169.254.169.254', 'metadata.google.internal', '$(KUBERNETES_SERVICE_HOST)'] as const;
/** Java's own spelling of the same, in which `*` stands for the rest. */
const DIRECT_JAVA = ['localhost', '127.*', '[::1]', '*.svc', '*.cluster.local', '169.254.169.254', 'metadata.google.internal', '$(KUBERNETES_SERVICE_HOST)'] as const;

export function clientEnvironment({ namespace }: Placement): Manifest {
  const host = `${SERVICE}.${namespace}.svc`;
  const proxy = `http://${host}:${PORTS.proxy}`;
  const java = ['https', 'http'].flatMap((scheme) => [`-D${scheme}.proxyHost=${host}`, `-D${scheme}.proxyPort=${PORTS.proxy}`]);
  return {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name: 'eco-egress-client-environment', annotations: { 'config.kubernetes.io/local-config': 'true' } },
    data: {
      HTTPS_PROXY: proxy,
      HTTP_PROXY: proxy,
      NO_PROXY: DIRECT.join(','),
      JAVA_TOOL_OPTIONS: [...java, `-Dhttp.nonProxyHosts=${DIRECT_JAVA.join('|')}`].join(' '),
    },
  };
}
