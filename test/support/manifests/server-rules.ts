/**
 * Rules that API servers and webhooks have beside the schema, for the fields that are rendered or could be: those of the
 * CRDs (`x-kubernetes-validations`), in their own words, and those of istiod's webhook that no CRD says. Each names where
 * it comes from. That the list is whole for what is rendered, test/manifests/crds.test.ts shows where CRDS names a folder.
 */
import type { KubeObject } from './kustomize.ts';

interface ServerRule {
  readonly kinds: readonly string[];
  /** As in errors of the server, `*` for each position or key: `spec.http[*].timeout`; '' is the whole object. */
  readonly field: string;
  readonly holds: (value: never) => boolean;
  readonly message: string;
  readonly source: string;
}

type Fields = Readonly<Record<string, unknown>>;

const ISTIO = 'https://github.com/istio/api/blob/release-1.30';
const GMP = 'https://github.com/GoogleCloudPlatform/prometheus-engine/blob/main/pkg/operator/apis/monitoring/v1';
const WEBHOOK = 'https://github.com/istio/istio/blob/release-1.30/pkg/config/validation/validation.go';

const UNITS = new Map([['ns', 1e-6], ['us', 1e-3], ['µs', 1e-3], ['ms', 1], ['s', 1000], ['m', 60_000], ['h', 3_600_000]]);

/** Milliseconds of Go's time.ParseDuration, which CEL's duration() is; NaN: none. */
function goDuration(text: string): number {
  if (!/^(?:\d+(?:\.\d+)?(?:ns|us|µs|ms|s|m|h))+$/.test(text)) return Number.NaN;
  return [...text.matchAll(/([\d.]+)(ns|us|µs|ms|s|m|h)/g)].reduce((sum, [, amount, unit = '']) => sum + Number(amount) * (UNITS.get(unit) ?? 0), 0);
}

const atMostOne = (...names: string[]) => (value: Fields): boolean => names.filter((name) => name in value).length <= 1;
const isPort = (value: number): boolean => value > 0 && value <= 65_535;
const DNS_LABEL = /^[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?$/i;

const duration = (kind: string, fields: readonly string[], file: string): ServerRule[] =>
  fields.map((field) => ({ kinds: [kind], field, holds: (value: string) => goDuration(value) >= 1, message: 'must be a valid duration greater than 1ms', source: `${ISTIO}/networking/v1alpha3/${file}` }));

const POOL = ['spec.trafficPolicy', 'spec.subsets[*].trafficPolicy', 'spec.trafficPolicy.portLevelSettings[*]', 'spec.subsets[*].trafficPolicy.portLevelSettings[*]'];

export const SERVER_RULES: readonly ServerRule[] = [
  ...duration('VirtualService', ['spec.http[*].timeout', 'spec.http[*].retries.perTryTimeout', 'spec.http[*].retries.backoff', 'spec.http[*].fault.delay.fixedDelay', 'spec.http[*].corsPolicy.maxAge'], 'virtual_service.proto'),
  ...duration(
    'DestinationRule',
    POOL.flatMap((policy) =>
      ['connectionPool.tcp.connectTimeout', 'connectionPool.tcp.idleTimeout', 'connectionPool.tcp.maxConnectionDuration', 'connectionPool.tcp.tcpKeepalive.time', 'connectionPool.tcp.tcpKeepalive.interval', 'connectionPool.http.idleTimeout', 'outlierDetection.interval', 'outlierDetection.baseEjectionTime'].map((field) => `${policy}.${field}`),
    ),
    'destination_rule.proto',
  ),
  { kinds: ['ServiceEntry'], field: 'spec', holds: atMostOne('workloadSelector', 'endpoints'), message: 'only one of WorkloadSelector or Endpoints can be set', source: `${ISTIO}/networking/v1alpha3/service_entry.proto` },
  {
    kinds: ['ServiceEntry'], field: 'spec', message: 'CIDR addresses are allowed only for NONE/STATIC resolution types', source: `${ISTIO}/networking/v1alpha3/service_entry.proto`,
    holds: ({ addresses = [], resolution = 'NONE' }: { addresses?: string[]; resolution?: string }) => !addresses.some((one) => one.includes('/')) || ['STATIC', 'NONE'].includes(resolution),
  },
  { kinds: ['ServiceEntry'], field: 'spec', holds: ({ resolution = 'NONE', endpoints }: Fields) => resolution !== 'NONE' || endpoints === undefined, message: 'NONE mode cannot set endpoints', source: `${ISTIO}/networking/v1alpha3/service_entry.proto` },
  {
    kinds: ['ServiceEntry'], field: 'spec', message: 'DNS_ROUND_ROBIN mode cannot have multiple endpoints', source: `${ISTIO}/networking/v1alpha3/service_entry.proto`,
    holds: ({ resolution, endpoints = [] }: { resolution?: string; endpoints?: unknown[] }) => resolution !== 'DNS_ROUND_ROBIN' || endpoints.length <= 1,
  },
  { kinds: ['ServiceEntry'], field: 'spec.hosts[*]', holds: (value: string) => value !== '*', message: 'hostname cannot be wildcard', source: `${ISTIO}/networking/v1alpha3/service_entry.proto` },
  { kinds: ['ServiceEntry'], field: 'spec.ports', holds: (value: { number: number }[]) => new Set(value.map(({ number }) => number)).size === value.length, message: 'port number cannot be duplicated', source: `${ISTIO}/networking/v1alpha3/service_entry.proto` },
  { kinds: ['ServiceEntry'], field: 'spec.ports[*].number', holds: isPort, message: 'port must be between 1-65535', source: `${ISTIO}/networking/v1alpha3/service_entry.proto` },
  { kinds: ['ServiceEntry'], field: 'spec.ports[*].name', holds: (value: string) => DNS_LABEL.test(value), message: 'invalid port name', source: `${WEBHOOK} ValidatePortName` },
  {
    kinds: ['ServiceEntry'], field: 'spec.ports', message: 'service entry port name is used twice', source: `${WEBHOOK} ValidateServiceEntry`,
    holds: (value: { name: string }[]) => new Set(value.map(({ name }) => name)).size === value.length,
  },
  {
    kinds: ['ServiceEntry'], field: 'spec', message: 'hosts must be FQDN if no endpoints are provided for resolution mode DNS', source: `${WEBHOOK} ValidateServiceEntry`,
    holds: ({ resolution, endpoints, hosts }: { resolution?: string; endpoints?: unknown; hosts: string[] }) => resolution !== 'DNS' || endpoints !== undefined || !hosts.some((host) => host.includes('*')),
  },
  { kinds: ['DestinationRule'], field: 'spec.subsets[*].name', holds: (value: string) => DNS_LABEL.test(value), message: 'subset name is invalid', source: `${WEBHOOK} validateSubset` },
  { kinds: ['DestinationRule'], field: 'spec.subsets', holds: (value: { name: string }[]) => new Set(value.map(({ name }) => name)).size === value.length, message: 'subset name is used twice', source: `${WEBHOOK} ValidateDestinationRule` },
  { kinds: ['DestinationRule'], field: 'spec.subsets[*].trafficPolicy.tunnel.targetPort', holds: isPort, message: 'tunnel target port is invalid', source: `${WEBHOOK} validateTunnelSettings` },
  {
    kinds: ['VirtualService'], field: 'spec', message: 'SNI host is not a compatible subset of the virtual service hosts', source: `${WEBHOOK} validateTLSMatch`,
    holds: ({ hosts, tls = [] }: { hosts: string[]; tls?: { match: { sniHosts: string[] }[] }[] }) =>
      tls.every(({ match }) => match.every(({ sniHosts }) => sniHosts.every((name) => hosts.some((host) => host === name || (host.startsWith('*.') && name.endsWith(host.slice(1))))))),
  },
  { kinds: ['VirtualService'], field: 'spec', holds: (value: Fields) => ['http', 'tls', 'tcp'].some((kind) => kind in value), message: 'http, tcp or tls must be provided in virtual service', source: `${WEBHOOK} ValidateVirtualService` },
  { kinds: ['AuthorizationPolicy'], field: 'spec', holds: atMostOne('selector', 'targetRef', 'targetRefs'), message: 'only one of targetRefs or selector can be set', source: `${ISTIO}/security/v1beta1/authorization_policy.proto` },
  {
    kinds: ['AuthorizationPolicy'], field: 'spec.rules[*].from[*].source', message: 'Cannot set serviceAccounts with namespaces or principals', source: `${ISTIO}/security/v1beta1/authorization_policy.proto`,
    holds: (value: Fields) => !['serviceAccounts', 'notServiceAccounts'].some((name) => name in value) || !['principals', 'notPrincipals', 'namespaces', 'notNamespaces'].some((name) => name in value),
  },
  { kinds: ['AuthorizationPolicy'], field: 'spec.targetRefs[*].namespace', holds: (value: string) => value === '', message: 'cross namespace referencing is not currently supported', source: `${ISTIO}/type/v1beta1/selector.proto` },
  { kinds: ['AuthorizationPolicy'], field: 'spec.selector.matchLabels[*]', holds: (value: string) => !value.includes('*'), message: 'wildcard not allowed in label value match', source: `${ISTIO}/type/v1beta1/selector.proto` },
  ...['authorization.credentials', 'basicAuth.password', 'tls.ca', 'tls.cert', 'tls.key', 'oauth2.clientSecret'].map((path): ServerRule => ({
    kinds: ['PodMonitoring'], field: `spec.endpoints[*].${path}.secret`, holds: (value: Fields) => !('namespace' in value), message: 'Namespace not allowed on PodMonitoring secret references.', source: `${GMP}/pod_types.go`,
  })),
  {
    kinds: ['PodMonitoring'], field: 'spec.endpoints[*]', message: 'scrape timeout must not be greater than scrape interval', source: `${GMP}/monitoring_types.go`,
    holds: ({ timeout, interval }: { timeout?: string; interval: string }) => timeout === undefined || goDuration(timeout) <= goDuration(interval),
  },
  { kinds: ['PodMonitoring'], field: 'spec.endpoints[*]', holds: atMostOne('authorization', 'basicAuth', 'oauth2'), message: 'only one way of authentication', source: `${GMP}/monitoring_types.go` },
  { kinds: ['PodMonitoring'], field: 'spec.endpoints[*].port', holds: (value: unknown) => value !== 0, message: 'Port is required', source: `${GMP}/monitoring_types.go` },
  { kinds: ['Rules'], field: 'spec.groups[*].rules[*]', holds: (value: Fields) => 'record' in value !== 'alert' in value, message: 'Must set exactly one of Record or Alert', source: `${GMP}/rules_types.go` },
  { kinds: ['Rules'], field: 'spec.groups[*].rules[*]', holds: (value: Fields) => !('annotations' in value) || 'alert' in value, message: 'Annotations are only allowed for alerting rules', source: `${GMP}/rules_types.go` },
];

/** @returns what a server would refuse the object for, in its words */
export function* checkServerRules(object: KubeObject): Generator<string> {
  for (const { kinds, field, holds, message } of SERVER_RULES) {
    if (!kinds.includes(object.kind)) continue;
    for (const { value, path } of select(object, field.split(/\.|(?=\[)/), '')) {
      const shown = typeof value === 'object' ? '' : `${JSON.stringify(value)}: `;
      if (!holds(value as never)) yield `${object.kind} ${object.metadata.name}: ${path}: Invalid value: ${shown}${message}`;
    }
  }
}

function* select(value: unknown, [next, ...rest]: readonly string[], path: string): Generator<{ readonly value: unknown; readonly path: string }> {
  if (value === undefined || value === null) return;
  if (next === undefined || next === '') yield { value, path };
  else if (next === '[*]') {
    for (const [key, item] of Object.entries(value)) yield* select(item, rest, `${path}[${key}]`);
  } else yield* select((value as Record<string, unknown>)[next], rest, path === '' ? next : `${path}.${next}`);
}
