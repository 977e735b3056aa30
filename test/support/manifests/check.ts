/** Everything that can be said of the objects of one build without a cluster. */
import { CLIENTS, type Cluster, readCluster } from './cluster.ts';
import type { KubeObject } from './kustomize.ts';
import { checkMesh } from './mesh.ts';
import { checkBlocks, checkNetwork } from './network.ts';
import { checkSchema } from './schemas.ts';
import { checkServerRules } from './server-rules.ts';
import { checkWorkload } from './workload.ts';

/** Whoever is locked in needs a way out first. */
function* checkLock({ all, find }: Cluster): Generator<string> {
  if (find('NetworkPolicy', 'no-direct-egress', CLIENTS) === undefined || all('VirtualService').length > 0) return;
  const workloads = ['Deployment', 'StatefulSet', 'DaemonSet', 'Job', 'CronJob'].flatMap((kind) => all(kind)).filter(({ metadata }) => metadata.namespace === CLIENTS);
  if (!workloads.some(({ spec }) => JSON.stringify(spec).includes('"HTTPS_PROXY"'))) yield 'the clients are locked in, and nothing leads them to the proxy';
}

const CLUSTER_WIDE = ['Namespace'];

/** @returns faults, one line each; empty: none */
export function checkManifests(objects: readonly KubeObject[]): string[] {
  const faults = objects.flatMap((object) => [...checkSchema(object), ...checkServerRules(object)]);
  const seen = new Set<string>();
  for (const { apiVersion, kind, metadata } of objects) {
    const id = `${apiVersion} ${kind} ${metadata.namespace ?? ''}/${metadata.name}`;
    if (seen.has(id)) faults.push(`${id} is there twice`);
    seen.add(id);
    if ((metadata.namespace === undefined) !== CLUSTER_WIDE.includes(kind)) faults.push(`${id} has the wrong place`);
  }
  try {
    const cluster = readCluster(objects);
    faults.push(...checkWorkload(cluster), ...checkLock(cluster), ...checkBlocks(cluster), ...checkNetwork(cluster), ...checkMesh(cluster));
  } catch (error) {
    faults.push(String(error));
  }
  return faults;
}
