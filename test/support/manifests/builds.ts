/** What there is to look at: base, every overlay, and two that no overlay is, since their parts are steps of their own. */
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { build, type Builder, type KubeObject, readObjects } from './kustomize.ts';
import { renderText } from './rendered.ts';

export const TREE = join(import.meta.dirname, '../../../deploy/kubernetes');
export const COMPONENTS = readdirSync(join(TREE, 'components'));
export const OVERLAYS = readdirSync(join(TREE, 'overlays'));

/** Directories below TREE that are applied as they are. */
const WHOLE = ['base', ...OVERLAYS.map((name) => `overlays/${name}`)];

/** Text of base and of each overlay, by its directory below TREE. */
export function buildAll(builder: Builder): Map<string, string> {
  return new Map(WHOLE.map((directory) => [directory, build(join(TREE, directory), builder)]));
}

/** Objects of a kustomization in a directory of its own, in which TREE leads to deploy/kubernetes. */
export function buildWith(builder: Builder, directory: string, text: string, files: Readonly<Record<string, string>> = {}): KubeObject[] {
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, 'kustomization.yaml'), text.replaceAll('TREE', relative(directory, TREE)));
  for (const [name, content] of Object.entries(files)) writeFileSync(join(directory, name), content);
  return readObjects(build(directory, builder));
}

/** What `npm run cluster` applies: base, each overlay, and each component on `sidecar`. Built when asked for, which takes a second each. */
export function listBuilds(builder: Builder): { name: string; build: () => KubeObject[] }[] {
  return [
    ...WHOLE.map((name) => ({ name, build: () => readObjects(build(join(TREE, name), builder)) })),
    ...COMPONENTS.map((component) => ({ name: `components/${component}`, build: () => buildOnSidecar(builder, component) })),
  ];
}

function buildOnSidecar(builder: Builder, component: string): KubeObject[] {
  const directory = mkdtempSync(join(import.meta.dirname, '../../.extra-'));
  try {
    return buildWith(builder, directory, `resources: [TREE/overlays/sidecar]\ncomponents: [TREE/components/${component}]\n`);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** `sidecar` with the lock. */
export function buildLocked(builder: Builder): KubeObject[] {
  return buildOnSidecar(builder, 'no-direct-egress');
}

/** Objects with a client outside the cluster, and the load balancer for it. */
export function withOutsideClient(objects: readonly KubeObject[]): KubeObject[] {
  const changed = structuredClone([...objects]);
  const policy = changed.find(({ kind, metadata }) => kind === 'ConfigMap' && metadata.name === 'eco-egress-policy');
  const text = (policy?.data?.['egress.yaml'] ?? '').replace(/^clients:\n/m, 'clients:\n  machines: { addresses: [10.200.0.0/24] }\n');
  if (policy === undefined) throw new Error('no ConfigMap with the policy');
  policy.data = { 'egress.yaml': text };
  const external = renderText('external-service', text).objects;
  const network = renderText('base', text).objects.filter(({ kind }) => kind === 'NetworkPolicy');
  return [...changed.filter(({ kind, metadata }) => kind !== 'NetworkPolicy' || metadata.name !== 'eco-egress'), ...network, ...external];
}
