/**
 * Without a mesh: the variables that make the clients' programs use the proxy,
 * as a patch of their Deployments. docs/clients/ says what each program reads.
 */
import { type Manifest, type Placement, PORTS, SERVICE } from './placement.ts';

/** Not the partner: the pod itself, Services, the metadata server and the API server. */
const DIRECT = ['localhost', '127.0.0.1', '::1', '.svc', '.cluster.local', '169.254.169.254', 'metadata.google.internal', '$(KUBERNETES_SERVICE_HOST)'] as const;
/** Java's own spelling of the same, in which `*` stands for the rest. */
const DIRECT_JAVA = ['localhost', '127.*', '[::1]', '*.svc', '*.cluster.local', '169.254.169.254', 'metadata.google.internal', '$(KUBERNETES_SERVICE_HOST)'] as const;

interface Variable {
  readonly name: string;
  readonly value: string;
}

/**
 * A strategic merge patch: variables of other names stay, and so does the rest
 * of the container. kustomize gives it to every Deployment its target selects,
 * whatever its name.
 */
export function clientEnvironmentPatch(placement: Placement, container: string): Manifest {
  return {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name: 'any' },
    spec: { template: { spec: { containers: [{ name: container, env: clientEnvironment(placement) }] } } },
  };
}

export function clientEnvironment({ namespace }: Placement): Variable[] {
  const host = `${SERVICE}.${namespace}.svc`;
  const proxy = `http://${host}:${PORTS.proxy}`;
  const java = ['https', 'http'].flatMap((scheme) => [`-D${scheme}.proxyHost=${host}`, `-D${scheme}.proxyPort=${PORTS.proxy}`]);
  return [
    ...bothCases('HTTPS_PROXY', proxy),
    ...bothCases('HTTP_PROXY', proxy),
    ...bothCases('NO_PROXY', DIRECT.join(',')),
    { name: 'NODE_USE_ENV_PROXY', value: '1' },
    { name: 'JAVA_TOOL_OPTIONS', value: [...java, `-Dhttp.nonProxyHosts=${DIRECT_JAVA.join('|')}`].join(' ') },
  ];
}

/** Programs differ in which they read. */
function bothCases(name: string, value: string): Variable[] {
  return [{ name, value }, { name: name.toLowerCase(), value }];
}
