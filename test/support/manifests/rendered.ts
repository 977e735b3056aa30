/** Renders a policy given as text, for tests that look at single objects. */
import { PLACEMENT, type Placement } from '../../../src/manifests/placement.ts';
import { type Overlay, renderManifests, type RenderOptions, type Rendering } from '../../../src/manifests/render.ts';
import { configOf } from '../load-text.ts';
import type { KubeObject } from './kustomize.ts';

export interface Rendered extends Rendering {
  readonly objects: KubeObject[];
  /** All there are. */
  readonly notes: string[];
  /** @throws where there is not exactly one */
  spec: (kind: string, name?: string) => never;
}

export function renderText(overlay: Overlay, text: string, options: Partial<RenderOptions> = {}): Rendered {
  const placement: Placement = options.placement ?? PLACEMENT;
  const rendering = renderManifests(overlay, { config: configOf(text), policyText: text, direct: [], ...options, placement });
  const objects = rendering.files.flatMap(({ manifests }) => structuredClone(manifests) as unknown as KubeObject[]);
  return {
    ...rendering,
    objects,
    notes: rendering.files.flatMap(({ notes }) => notes),
    spec: (kind, name) => {
      const found = objects.filter((object) => object.kind === kind && (name === undefined || object.metadata.name === name));
      if (found.length !== 1) throw new Error(`${found.length} of ${kind} ${name ?? ''}`);
      return found[0]?.spec as never;
    },
  };
}

/** A policy with these destinations, in YAML, and one client who may use them all. */
export function policyWith(destinations: Record<string, string>, more = ''): string {
  const lines = Object.entries(destinations).map(([name, text]) => `  ${name}: ${text}\n`);
  return `version: 1
clients: { dynatrace-sit: { addresses: 10.8.0.0/14 } }
destinations:
${lines.join('')}rules: [{ clients: dynatrace-sit, destinations: [${Object.keys(destinations).join(', ')}] }]
${more}`;
}
