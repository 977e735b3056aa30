/**
 * Applies base, every overlay and every component to an API server, server-side and strict, each twice, compares what
 * the server made of it with what was sent, and takes it all away again.
 */
import { CLIENTS, PROXY } from '../support/manifests/cluster.ts';
import type { KubeObject } from '../support/manifests/kustomize.ts';
import { lostOf } from './compare.ts';
import { idOf, type Kubectl } from './kubectl.ts';

export interface Build {
  readonly name: string;
  readonly objects: readonly KubeObject[];
}

export interface Options {
  readonly kubectl: Kubectl;
  readonly builds: readonly Build[];
  /** To be there while this runs; those that were there before stay. */
  readonly crds: readonly KubeObject[];
  /** One line of the report at a time. */
  readonly say: (line: string) => void;
}

/** Every field has one owner: whoever changes it by hand is told, and not overwritten. */
const APPLY = ['apply', '--server-side', '--validate=strict', '--field-manager=eco-egress', '--filename', '-'];
const DELETE = ['delete', '--ignore-not-found', '--wait', '--timeout=180s', '--filename', '-'];

/** @returns faults, one line each. Throws where the server cannot be asked, or has an installation already. */
export async function tryBuilds({ kubectl, builds, crds, say }: Options): Promise<string[]> {
  const namespaces = [...new Set(builds.flatMap(({ objects }) => objects.flatMap(({ metadata }) => metadata.namespace ?? [])))].map(namespaceOf);
  const there = new Set((await kubectl.get(namespaces)).map(({ metadata }) => metadata.name));
  if (there.has(PROXY.namespace)) throw new Error(`the server has the namespace ${PROXY.namespace} already. Nothing was changed: take a cluster without an installation`);

  const before = new Set((await kubectl.get(crds)).map(({ metadata }) => metadata.name));
  const ours = { crds: crds.filter(({ metadata }) => !before.has(metadata.name)), namespaces: namespaces.filter(({ metadata }) => !there.has(metadata.name)) };
  const applied = new Map<string, KubeObject>();
  const faults: string[] = [];
  try {
    if (ours.crds.length > 0) {
      await mustApply(kubectl, ours.crds, 'CRDs');
      const { ok, err } = await kubectl.run(['wait', '--for=condition=Established', '--timeout=60s', ...ours.crds.map(({ metadata }) => `crd/${metadata.name}`)]);
      if (!ok) throw new Error(`the CRDs are not established: ${err}`);
    }
    await mustApply(kubectl, ours.namespaces, 'namespaces');
    const kinds = await kubectl.kinds();
    const unknown = new Set<string>();
    for (const { name, objects } of builds) {
      const known = objects.filter((object) => {
        const kind = `${object.apiVersion}/${object.kind}`;
        if (!kinds.has(kind)) unknown.add(kind);
        return kinds.has(kind);
      });
      for (const object of known) applied.set(idOf(object), object);
      const found = [...(await tryOnce(kubectl, known))].map((fault) => `${name}: ${fault}`);
      faults.push(...found);
      say(`${found.length === 0 ? 'ok  ' : 'FAIL'} ${name}: ${known.length} objects, applied twice${objects.length > known.length ? `, ${objects.length - known.length} left out` : ''}`);
    }
    if (unknown.size > 0) say(`left out, since the server does not know them: ${[...unknown].toSorted().join(', ')}`);
  } finally {
    // What depends on others goes first.
    const rest = [...[...applied.values()].toReversed().filter(({ kind }) => kind !== 'Namespace'), ...ours.namespaces, ...[...applied.values()].filter(({ kind, metadata }) => kind === 'Namespace' && !there.has(metadata.name)), ...ours.crds];
    faults.push(...(await takeAway(kubectl, rest)));
  }
  return faults;
}

const namespaceOf = (name: string): KubeObject => ({ apiVersion: 'v1', kind: 'Namespace', metadata: { name, ...(name === CLIENTS ? { labels: { 'istio-injection': 'enabled' } } : {}) } });

async function mustApply(kubectl: Kubectl, objects: readonly KubeObject[], what: string): Promise<void> {
  if (objects.length === 0) return;
  const { ok, err } = await kubectl.run(APPLY, objects);
  if (!ok) throw new Error(`${what}: ${err}`);
}

async function tryOnce(kubectl: Kubectl, objects: readonly KubeObject[]): Promise<string[]> {
  if (objects.length === 0) return [];
  const first = await kubectl.run(APPLY, objects);
  if (!first.ok) return first.err.split('\n');
  // Warnings are deprecations, and what PodSecurity will refuse of the pods.
  const faults = warningsOf(first.err);
  const kept = byId(await kubectl.get(objects));
  for (const object of objects) {
    const one = kept.get(idOf(object));
    if (one === undefined) faults.push(`${idOf(object)} is not there after it was applied`);
    else faults.push(...lostOf(object, one).map((fault) => `${idOf(object)}: ${fault}`));
  }
  const second = await kubectl.run(APPLY, objects);
  if (!second.ok) return [...faults, ...second.err.split('\n').map((line) => `the second time: ${line}`)];
  // Of what was sent: the rest belongs to controllers, as the number of replicas.
  const later = byId(await kubectl.get(objects));
  for (const object of objects) {
    const first = new Set(lostOf(object, kept.get(idOf(object))));
    faults.push(...lostOf(object, later.get(idOf(object))).filter((fault) => !first.has(fault)).map((fault) => `${idOf(object)} changes when it is applied again: ${fault}`));
  }
  return faults;
}

const byId = (objects: readonly KubeObject[]): Map<string, KubeObject> => new Map(objects.map((object) => [idOf(object), object]));
const warningsOf = (err: string): string[] => err.split('\n').filter((line) => line.startsWith('Warning:'));

async function takeAway(kubectl: Kubectl, objects: readonly KubeObject[]): Promise<string[]> {
  if (objects.length === 0) return [];
  const { ok, err } = await kubectl.run(DELETE, objects);
  if (!ok) return [`not taken away: ${err}`];
  return (await kubectl.get(objects)).map((object) => `${idOf(object)} is still there`);
}
