/** The objects of one build as the checks see them: found by kind, with the few fields that refer to each other. */
import type { Config } from '../../../src/config/config.ts';
import { loadConfig } from '../../../src/config/load.ts';
import type { KubeObject } from './kustomize.ts';

export type Labels = Readonly<Record<string, string>>;

export interface LabelSelector {
  readonly matchLabels?: Labels;
  readonly matchExpressions?: readonly { readonly key: string; readonly operator: string; readonly values?: readonly string[] }[];
}

export interface Container {
  readonly name: string;
  readonly image: string;
  readonly env?: readonly { readonly name: string; readonly value?: string }[];
  readonly envFrom?: readonly { readonly configMapRef?: { readonly name: string } }[];
  readonly ports?: readonly { readonly name: string; readonly containerPort: number }[];
  readonly volumeMounts?: readonly { readonly name: string; readonly mountPath: string; readonly subPath?: string; readonly readOnly?: boolean }[];
  readonly startupProbe?: Probe;
  readonly readinessProbe?: Probe;
  readonly livenessProbe?: Probe;
  readonly resources?: { readonly requests?: Labels; readonly limits?: Labels };
  readonly securityContext?: Record<string, unknown> & { readonly capabilities?: { readonly drop?: readonly string[] } };
}

export interface Probe {
  readonly httpGet?: { readonly path: string; readonly port: string | number };
}

export interface DeploymentSpec {
  readonly replicas?: number;
  readonly selector: LabelSelector;
  readonly strategy?: { readonly rollingUpdate?: { readonly maxSurge?: number; readonly maxUnavailable?: number } };
  readonly template: {
    readonly metadata: { readonly labels: Labels; readonly annotations?: Labels };
    readonly spec: {
      readonly serviceAccountName?: string;
      readonly automountServiceAccountToken?: boolean;
      readonly enableServiceLinks?: boolean;
      readonly terminationGracePeriodSeconds?: number;
      readonly securityContext?: Record<string, unknown> & { readonly seccompProfile?: { readonly type: string } };
      readonly nodeSelector?: Labels;
      readonly tolerations?: readonly { readonly key?: string; readonly operator?: string; readonly value?: string; readonly effect?: string }[];
      readonly affinity?: { readonly podAntiAffinity?: { readonly requiredDuringSchedulingIgnoredDuringExecution?: readonly { readonly topologyKey: string; readonly labelSelector: LabelSelector; readonly matchLabelKeys?: readonly string[] }[] } };
      readonly topologySpreadConstraints?: readonly {
        readonly topologyKey: string;
        readonly labelSelector: LabelSelector;
        readonly maxSkew?: number;
        readonly minDomains?: number;
        readonly whenUnsatisfiable?: 'DoNotSchedule' | 'ScheduleAnyway';
        readonly matchLabelKeys?: readonly string[];
        readonly nodeAffinityPolicy?: 'Honor' | 'Ignore';
        readonly nodeTaintsPolicy?: 'Honor' | 'Ignore';
      }[];
      readonly dnsConfig?: { readonly options?: readonly { readonly name: string; readonly value?: string }[] };
      readonly containers: readonly Container[];
      readonly volumes?: readonly { readonly name: string; readonly configMap?: { readonly name: string }; readonly secret?: { readonly secretName: string; readonly defaultMode?: number; readonly optional?: boolean } }[];
    };
  };
}

export interface ServiceSpec {
  readonly type: string;
  readonly selector: Labels;
  readonly externalTrafficPolicy?: string;
  readonly loadBalancerSourceRanges?: readonly string[];
  readonly ports: readonly { readonly name: string; readonly port: number; readonly targetPort: string | number }[];
}

export interface Typed<Spec> extends KubeObject {
  readonly spec: Spec;
}

export interface Cluster {
  readonly objects: readonly KubeObject[];
  readonly proxy: Typed<DeploymentSpec>;
  readonly container: Container;
  /** The policy, with the variables that the Deployment gets. */
  readonly config: Config;
  /** Names that the policy file takes from the environment. */
  readonly variables: ReadonlySet<string>;
  readonly all: <Spec = unknown>(kind: string) => Typed<Spec>[];
  readonly find: (kind: string, name: string, namespace: string | undefined) => KubeObject | undefined;
}

export const PROXY = { name: 'eco-egress', namespace: 'eco-egress' } as const;
export const CLIENTS = 'dynatrace-sit';

/** @throws where there is no proxy or no policy to look at */
export function readCluster(objects: readonly KubeObject[]): Cluster {
  const all = <Spec>(kind: string): Typed<Spec>[] => objects.filter((object): object is Typed<Spec> => object.kind === kind);
  const find = (kind: string, name: string, namespace: string | undefined): KubeObject | undefined =>
    objects.find((object) => object.kind === kind && object.metadata.name === name && object.metadata.namespace === namespace);
  const proxy = all<DeploymentSpec>('Deployment').find(({ metadata }) => metadata.name === PROXY.name);
  const [container] = proxy?.spec.template.spec.containers ?? [];
  if (proxy === undefined || container === undefined) throw new Error('no Deployment of the proxy');

  const text = find('ConfigMap', 'eco-egress-policy', proxy.metadata.namespace)?.data?.['egress.yaml'];
  if (text === undefined) throw new Error('no ConfigMap with the policy');
  const settings = (container.envFrom ?? []).map(({ configMapRef }) => find('ConfigMap', configMapRef?.name ?? '', proxy.metadata.namespace)?.data ?? {});
  const env = [...settings.flatMap((data) => Object.entries(data)), ...(container.env ?? []).map(({ name, value = '' }): [string, string] => [name, value])];
  // What is in the Secret is not here: the references are checked, the certificates are not.
  const withoutFiles = Object.fromEntries(env.filter(([name]) => !name.endsWith('_FILE') && name !== 'ECO_EGRESS_TLS_NAMES'));
  const loaded = loadConfig({ file: 'egress.yaml', env: withoutFiles, readFile: () => text });
  if (!loaded.ok) throw new Error(`the policy is faulty: ${JSON.stringify(loaded.faults)}`);
  const variables = new Set([...text.matchAll(/\$\{(\w+)/g)].map(([, name = '']) => name));
  return { objects, proxy, container, config: loaded.config, variables, all, find };
}

export function selects({ matchLabels = {}, matchExpressions = [] }: LabelSelector, labels: Labels): boolean {
  return (
    Object.entries(matchLabels).every(([key, value]) => labels[key] === value) &&
    matchExpressions.every(({ key, operator, values = [] }) => {
      const value = labels[key];
      if (operator === 'In') return value !== undefined && values.includes(value);
      if (operator === 'NotIn') return value === undefined || !values.includes(value);
      return (operator === 'Exists') === (value !== undefined);
    })
  );
}

/** Number of a container port that is given by its name or number; undefined: there is none. */
export function portOf({ ports = [] }: Container, port: string | number): number | undefined {
  return ports.find(({ name, containerPort }) => name === port || containerPort === port)?.containerPort;
}
