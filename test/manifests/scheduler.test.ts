/** Where the replicas of deploy/kubernetes/base land, and during what: by a model of the scheduler that takes the worst of what is possible. */
import t from 'tap';
import { readFileSync } from 'node:fs';
import { parse } from 'yaml';
import type { DeploymentSpec, Typed } from '../support/manifests/cluster.ts';
import { countByNode, newPod, type Node, type Pod, rollOut, schedule } from '../support/manifests/scheduler.ts';

const read = (file: string): string => readFileSync(new URL(`../../deploy/${file}`, import.meta.url), 'utf8');
const { spec } = parse(read('kubernetes/base/deployment.yaml')) as Typed<DeploymentSpec>;
const { spec: scale } = parse(read('kubernetes/base/horizontal-pod-autoscaler.yaml')) as Typed<{ minReplicas: number; maxReplicas: number }>;
const preset = (name: string): number => Number(new RegExp(`variable "${name}" \\{[^}]*?default += (\\d+)`).exec(read('terraform/variables.tf'))?.[1]);

type Constraints = Pick<DeploymentSpec['template']['spec'], 'affinity' | 'topologySpreadConstraints'>;

/** The same Deployment, kept apart in another way. */
const apart = (constraints: Constraints): DeploymentSpec => {
  const pod = Object.fromEntries(Object.entries(spec.template.spec).filter(([key]) => !['affinity', 'topologySpreadConstraints'].includes(key)));
  return { ...spec, template: { ...spec.template, spec: { ...pod, containers: spec.template.spec.containers, ...constraints } } };
};
const labelSelector = { matchLabels: spec.template.metadata.labels };
const SPREAD = { topologyKey: 'kubernetes.io/hostname', maxSkew: 1, whenUnsatisfiable: 'DoNotSchedule', labelSelector } as const;

const nodes = (count: number, more: Partial<Node> = {}): Node[] =>
  Array.from({ length: count }, (_, index) => ({ name: `n${index}`, labels: { 'kubernetes.io/hostname': `n${index}`, 'topology.kubernetes.io/zone': `z${index % 3}` }, ...(index === 0 ? more : {}) }));

function land(deployment: DeploymentSpec, replicas: number, on: readonly Node[]): { counts: number[]; pending: number; pods: Pod[] } {
  const pods = Array.from({ length: replicas }, () => newPod(deployment, 'old'));
  schedule(deployment, pods, on);
  return { counts: countByNode(pods, on), pending: pods.filter(({ node }) => node === null).length, pods };
}

t.test('six replicas on two, three, six and seven nodes: one to a node, the others wait', async (t) => {
  for (const [count, pending] of [[2, 4], [3, 3], [6, 0], [7, 0]] as const) {
    const landed = land(spec, 6, nodes(count));
    t.equal(Math.max(...landed.counts), 1, `${count} nodes`);
    t.equal(landed.pending, pending, `${count} nodes`);
  }
});

t.test('a cordoned or tainted node takes none, and keeps none from the others', async (t) => {
  for (const more of [{ unschedulable: true }, { taints: [{ key: 'upgrade', effect: 'NoSchedule' }] }] as const) {
    const landed = land(spec, 3, nodes(4, more));
    t.strictSame(landed.counts, [0, 1, 1, 1]);
    t.equal(landed.pending, 0);
  }
});

t.test('a node that is drained: its replica goes to the one that the upgrade added', async (t) => {
  const three = nodes(3);
  const { pods } = land(spec, 3, three);
  const [gone] = three;
  const upgraded = [{ ...gone, unschedulable: true } as Node, ...three.slice(1), { name: 'surge', labels: { 'kubernetes.io/hostname': 'surge', 'topology.kubernetes.io/zone': 'z0' } }];
  const evicted = pods.find(({ node }) => node === gone?.name);
  if (evicted === undefined) throw new Error('no replica on the first node');
  evicted.terminating = true;
  const all = [...pods, newPod(spec, 'old')];
  schedule(spec, all, upgraded);
  t.strictSame(countByNode(all, upgraded), [1, 1, 1, 1]);
});

t.test('a rollout needs one node more than there are replicas, which autoscaler and Terraform leave it', async (t) => {
  const surge = spec.strategy?.rollingUpdate?.maxSurge ?? 0;
  t.equal(preset('nodes_max'), scale.maxReplicas + surge);
  t.ok((preset('nodes_max') + preset('nodes_surge')) * preset('ports_per_node') <= 64_512);
  for (const replicas of [scale.minReplicas, 3, scale.maxReplicas]) {
    const on = nodes(replicas + surge);
    const { pods } = land(spec, replicas, on);
    const steps = [...rollOut(spec, replicas, pods, on)];
    for (const step of steps) t.equal(Math.max(...countByNode(step, on)), 1, `${replicas}: never two on a node, those that drain included`);
    t.equal(steps.at(-1)?.filter(({ revision, terminating, node }) => revision === 'new' && !terminating && node !== null).length, replicas, `${replicas}: all are new in the end`);
    const ready = steps.map((step) => step.filter(({ terminating, node }) => !terminating && node !== null).length);
    t.ok(Math.min(...ready) >= replicas, `${replicas}: never fewer than before`);
  }
});

t.test('without that node the new replica waits, and every old one keeps serving', async (t) => {
  const on = nodes(2);
  const { pods } = land(spec, 2, on);
  const last = [...rollOut(spec, 2, pods, on)].at(-1);
  t.equal(last?.filter(({ revision, terminating }) => revision === 'old' && !terminating).length, 2);
  t.equal(last?.filter(({ node }) => node === null).length, 1);
});

t.test('the model knows what went wrong before: a spread bounds a difference, not a number', async (t) => {
  t.strictSame(land(apart({ topologySpreadConstraints: [SPREAD] }), 6, nodes(2)).counts, [3, 3], 'maxSkew alone');
  t.strictSame(land(apart({ topologySpreadConstraints: [{ ...SPREAD, minDomains: 7 }] }), 6, nodes(2)).counts, [1, 1], 'minDomains');
  // kubernetes#107464: a node that takes no pods counts as one where replicas are missing.
  const tainted = nodes(3, { taints: [{ key: 'upgrade', effect: 'NoSchedule' }] });
  t.equal(land(apart({ topologySpreadConstraints: [SPREAD] }), 4, tainted).pending, 2);
  t.equal(land(apart({ topologySpreadConstraints: [{ ...SPREAD, nodeTaintsPolicy: 'Honor' }] }), 4, tainted).pending, 0);

  // minDomains counts one revision, or leaves out what drains: during a rollout two share a node.
  for (const more of [{ matchLabelKeys: ['pod-template-hash'] }, {}]) {
    const deployment = apart({ topologySpreadConstraints: [{ ...SPREAD, minDomains: 7, ...more }] });
    const on = nodes(3);
    const { pods } = land(deployment, 2, on);
    const most = [...rollOut(deployment, 2, pods, on)].map((step) => Math.max(...countByNode(step, on)));
    t.equal(Math.max(...most), 2);
  }
});
