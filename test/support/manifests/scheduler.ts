/**
 * Where pods may land: the filters of kube-scheduler that the proxy's Deployment depends on, and a rollout around them.
 * Of the nodes that the filters leave, the fullest is taken: whatever the scores would prefer, it gets no worse.
 *
 * Filters: https://kubernetes.io/docs/reference/scheduling/config/#scheduling-plugins (NodeUnschedulable, NodeAffinity,
 * TaintToleration, PodTopologySpread, InterPodAffinity), as in pkg/scheduler/framework/plugins of Kubernetes 1.36.
 */
import { type DeploymentSpec, type Labels, selects } from './cluster.ts';

export interface Node {
  readonly name: string;
  readonly labels: Labels;
  readonly taints?: readonly Taint[];
  /** Cordoned. */
  readonly unschedulable?: boolean;
}

export interface Taint {
  readonly key: string;
  readonly value?: string;
  readonly effect: 'NoSchedule' | 'NoExecute' | 'PreferNoSchedule';
}

export interface Pod {
  readonly revision: string;
  readonly labels: Labels;
  /** Null: pending. */
  node: string | null;
  /** Draining, and on its node still. */
  terminating: boolean;
}

type PodSpec = DeploymentSpec['template']['spec'];
type Constraint = NonNullable<PodSpec['topologySpreadConstraints']>[number];

const HASH = 'pod-template-hash';
/** What a cordon adds; kubectl's and the node controller's own. */
const CORDON: Taint = { key: 'node.kubernetes.io/unschedulable', effect: 'NoSchedule' };

export function newPod({ template }: DeploymentSpec, revision: string): Pod {
  return { revision, labels: { ...template.metadata.labels, [HASH]: revision }, node: null, terminating: false };
}

/** Gives every pending pod a node, as long as there is one for it. */
export function schedule({ template: { spec } }: DeploymentSpec, pods: readonly Pod[], nodes: readonly Node[]): void {
  for (const pod of pods.filter(({ node }) => node === null)) {
    const others = pods.filter((other) => other !== pod && other.node !== null);
    const feasible = nodes.filter((node) => tolerates(spec, node) && isWanted(spec, node) && hasRoomByAffinity(spec, pod, node, others, nodes) && isSpread(spec, pod, node, others, nodes));
    const crowd = (node: Node): number => others.filter((other) => other.node === node.name).length;
    pod.node = feasible.toSorted((a, b) => crowd(b) - crowd(a))[0]?.name ?? null;
  }
}

/** Pods on each node, those that drain among them: they hold ports of the node still. */
export function countByNode(pods: readonly Pod[], nodes: readonly Node[]): number[] {
  return nodes.map(({ name }) => pods.filter(({ node }) => node === name).length);
}

/**
 * A rolling update as the Deployment's controller does it: new pods while all together are at most replicas + maxSurge,
 * old ones away while the ready are at least replicas - maxUnavailable. What is on a node is ready.
 * @returns the pods after each step, until nothing moves any more
 */
export function* rollOut(deployment: DeploymentSpec, replicas: number, old: readonly Pod[], nodes: readonly Node[]): Generator<readonly Pod[]> {
  const { maxSurge = 1, maxUnavailable = 0 } = deployment.strategy?.rollingUpdate ?? {};
  let pods = [...old];
  for (let step = 0; step < 10 * replicas; step += 1) {
    const live = pods.filter(({ terminating }) => !terminating);
    const fresh = live.filter(({ revision }) => revision === 'new');
    const stale = live.filter(({ revision }) => revision !== 'new');
    const draining = pods.filter(({ terminating }) => terminating);
    if (stale.length === 0 && draining.length === 0 && fresh.every(({ node }) => node !== null) && fresh.length === replicas) return;
    const starting = Math.max(0, Math.min(replicas - fresh.length, replicas + maxSurge - live.length));
    pods.push(...Array.from({ length: starting }, () => newPod(deployment, 'new')));
    schedule(deployment, pods, nodes);
    const ready = pods.filter(({ terminating, node }) => !terminating && node !== null).length;
    const leaving = stale.slice(0, Math.max(0, ready - (replicas - maxUnavailable)));
    for (const pod of leaving) pod.terminating = true;
    yield pods.map((pod) => ({ ...pod }));
    // Those that were draining have had their time.
    pods = pods.filter((pod) => !draining.includes(pod));
  }
}

function taintsOf({ taints = [], unschedulable = false }: Node): Taint[] {
  return [...taints, ...(unschedulable ? [CORDON] : [])];
}

function tolerates({ tolerations = [] }: PodSpec, node: Node): boolean {
  return taintsOf(node)
    .filter(({ effect }) => effect !== 'PreferNoSchedule')
    .every((taint) => tolerations.some(({ key, operator = 'Equal', value, effect }) => (key === undefined || key === taint.key) && (operator === 'Exists' || value === taint.value) && (effect === undefined || effect === taint.effect)));
}

function isWanted({ nodeSelector = {} }: PodSpec, { labels }: Node): boolean {
  return selects({ matchLabels: nodeSelector }, labels);
}

/** InterPodAffinity counts pods that are terminating, and whatever revision. */
function hasRoomByAffinity({ affinity }: PodSpec, pod: Pod, node: Node, others: readonly Pod[], nodes: readonly Node[]): boolean {
  const terms = affinity?.podAntiAffinity?.requiredDuringSchedulingIgnoredDuringExecution ?? [];
  return terms.every(({ topologyKey, labelSelector, matchLabelKeys = [] }) => {
    const domain = node.labels[topologyKey];
    return !others.some((other) => selects(labelSelector, other.labels) && matchLabelKeys.every((key) => other.labels[key] === pod.labels[key]) && domain !== undefined && labelOf(other, topologyKey, nodes) === domain);
  });
}

/** PodTopologySpread leaves out pods that are terminating; only DoNotSchedule is a filter. */
function isSpread(spec: PodSpec, pod: Pod, node: Node, others: readonly Pod[], nodes: readonly Node[]): boolean {
  return (spec.topologySpreadConstraints ?? [])
    .filter(({ whenUnsatisfiable = 'DoNotSchedule' }) => whenUnsatisfiable === 'DoNotSchedule')
    .every((constraint) => {
      const { topologyKey, maxSkew = 1, minDomains = 1 } = constraint;
      const own = node.labels[topologyKey];
      if (own === undefined) return false;
      const eligible = nodes.filter((one) => one.labels[topologyKey] !== undefined && counts(spec, constraint, one));
      const domains = new Map(eligible.map((one) => [one.labels[topologyKey], 0]));
      for (const other of others.filter((one) => !one.terminating && matches(constraint, pod, one))) {
        const domain = labelOf(other, topologyKey, nodes);
        const count = domains.get(domain);
        if (count !== undefined) domains.set(domain, count + 1);
      }
      const least = domains.size < minDomains ? 0 : Math.min(...domains.values());
      return (domains.get(own) ?? 0) + 1 - least <= maxSkew;
    });
}

/** Which nodes make domains: nodeAffinityPolicy is Honor unless told otherwise, nodeTaintsPolicy is Ignore. */
function counts(spec: PodSpec, { nodeAffinityPolicy = 'Honor', nodeTaintsPolicy = 'Ignore' }: Constraint, node: Node): boolean {
  return (nodeAffinityPolicy === 'Ignore' || isWanted(spec, node)) && (nodeTaintsPolicy === 'Ignore' || tolerates(spec, node));
}

function matches({ labelSelector, matchLabelKeys = [] }: Constraint, pod: Pod, other: Pod): boolean {
  return selects(labelSelector, other.labels) && matchLabelKeys.every((key) => other.labels[key] === pod.labels[key]);
}

function labelOf({ node }: Pod, key: string, nodes: readonly Node[]): string | undefined {
  return nodes.find(({ name }) => name === node)?.labels[key];
}
