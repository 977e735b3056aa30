/**
 * From the policy to the files under deploy/kubernetes/ that depend on it, so
 * that the allowlist and what the cluster enforces cannot drift apart.
 */
import { isIP } from 'node:net';
import type { Config, Form } from '../config/config.ts';
import { clientEnvironmentPatch } from './client-environment.ts';
import { externalService } from './external-service.ts';
import { destinationRule, serviceEntries, virtualService, waypoint } from './mesh.ts';
import { clientPolicy, proxyPolicy } from './network-policy.ts';
import { type Manifest, type Placement, PORTS, SERVICE } from './placement.ts';
import { planSteering } from './steering.ts';

/** What can be asked for; each but `base` comes with what `base` has. */
export const OVERLAYS = ['base', 'sidecar', 'sidecar-tunnel', 'ambient', 'no-mesh'] as const;
export type Overlay = (typeof OVERLAYS)[number];

export interface RenderOptions {
  readonly config: Config;
  /** The configuration file as it stands, variables and all. */
  readonly policyText: string;
  readonly placement: Placement;
  /** Public CIDRs that clients may reach without the proxy. */
  readonly direct: readonly string[];
  /** Name of the clients' container that gets the variables. */
  readonly container: string;
}

/** One file of the kustomize tree. */
export interface RenderedFile {
  /** Below deploy/kubernetes/. */
  readonly path: string;
  readonly manifests: readonly Manifest[];
  /** What does not come that way; said at the top of the file. */
  readonly notes: readonly string[];
}

export interface Rendering {
  readonly files: readonly RenderedFile[];
  /** Why the manifests would not work with this policy; empty: they do. */
  readonly problems: readonly string[];
}

export function render(overlay: Overlay, options: RenderOptions): Rendering {
  const needs = NEEDS[overlay];
  const problems = needs.flatMap(({ port, form }) => missingListener(options.config, port, form));
  const files = [...renderBase(options), ...(overlay === 'base' ? [] : renderClients(overlay, options))];
  return { files, problems };
}

const NEEDS: Readonly<Record<Overlay, readonly { readonly port: number; readonly form: Form }[]>> = {
  base: [],
  sidecar: [{ port: PORTS.tls, form: 'sni' }, { port: PORTS.gateway, form: 'host-routed' }],
  'sidecar-tunnel': [{ port: PORTS.proxy, form: 'connect' }, { port: PORTS.gateway, form: 'host-routed' }],
  ambient: [{ port: PORTS.tls, form: 'sni' }, { port: PORTS.gateway, form: 'host-routed' }],
  'no-mesh': [{ port: PORTS.proxy, form: 'connect' }, { port: PORTS.proxy, form: 'forward' }],
};

function missingListener({ listeners }: Config, port: number, form: Form): string[] {
  const there = [...listeners.http, ...listeners.tls].find((listener) => listener.port === port);
  if (there?.forms.includes(form) === true) return [];
  const what = there === undefined ? 'no listener' : `a listener without the form ${form}`;
  return [`Port ${port} of the Service ${SERVICE} leads to ${what}. Let the policy listen on ${port} and take ${form} there.`];
}

function renderBase({ config, policyText, placement }: RenderOptions): RenderedFile[] {
  const external = externalService(config, placement);
  const policyMap: Manifest = {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name: 'eco-egress-policy', namespace: placement.namespace },
    data: { 'egress.yaml': policyText },
  };
  return [
    { path: 'base/policy.yaml', manifests: [policyMap], notes: [] },
    { path: 'base/network-policy.yaml', manifests: [proxyPolicy(config, placement)], notes: clientNotes(config, placement) },
    {
      path: 'base/service-external.yaml',
      manifests: external === null ? [] : [external],
      notes: external === null ? ['No client of the policy has addresses, and a load balancer without source ranges lets in everybody: so there is none.'] : [],
    },
  ];
}

function clientNotes({ clients }: Config, { clientNamespace }: Placement): string[] {
  return clients.flatMap(({ name, addresses, tokens }) => [
    ...(addresses === null ? [`Client ${name} has no addresses. Where it is not the pods of ${clientNamespace}, nothing here lets it in.`] : []),
    ...(addresses !== null && name !== clientNamespace ? [`Client ${name} has not the name of the namespace ${clientNamespace}, so it is taken for callers outside the cluster: ${addresses.join(', ')} is let in from there.`] : []),
    ...(tokens ?? []).flatMap(({ jwks }) => (jwks.kind === 'url' && !isAddress(jwks.url) ? [`The keys at ${jwks.url} are reached at public addresses only. For others use jwksFile, or a NetworkPolicy of your own beside this one.`] : [])),
  ]);
}

function isAddress(url: string): boolean {
  return isIP(new URL(url).hostname.replace(/^\[|\]$/g, '')) !== 0;
}

function renderClients(overlay: Exclude<Overlay, 'base'>, { config, placement, direct, container }: RenderOptions): RenderedFile[] {
  const lock: RenderedFile = { path: 'components/no-direct-egress/network-policy.yaml', manifests: [clientPolicy(config, placement, direct)], notes: lockNotes(config) };
  if (overlay === 'no-mesh') {
    return [lock, { path: 'components/client-environment/environment.yaml', manifests: [clientEnvironmentPatch(placement, container)], notes: [] }];
  }
  const ambient = overlay === 'ambient';
  const { destinations, notes } = planSteering(config, { tunnels: overlay === 'sidecar-tunnel', wildcards: !ambient });
  const manifests = [
    ...destinations.flatMap((destination) => [...serviceEntries(destination, placement, ambient), virtualService(destination, placement)]),
    destinationRule(destinations, placement, config.timeouts.keepAlive),
    ...(ambient ? waypoint(placement) : []),
  ];
  return [lock, { path: `overlays/${overlay}/steering.yaml`, manifests, notes }];
}

function lockNotes({ destinations }: Config): string[] {
  return destinations
    .filter(({ addresses }) => addresses === null)
    .map(({ name, ports }) => `The policy lists no addresses for ${name}, so NO public address is permitted on port ${ports.join(' or ')}. List them there, and everything else is open.`);
}
