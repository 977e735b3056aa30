/** The content of a checked file in the form for the rest of the program: lists instead of names, nulls instead of gaps, frozen. */
import type {
  CircuitBreakerConfig,
  ClientConfig,
  Config,
  DestinationConfig,
  Form,
  GatewayConfig,
  HopConfig,
  ListenerConfig,
  PodsConfig,
  RateLimits,
  RuleConfig,
  SourceIpConfig,
  TlsServerConfig,
  TokenConfig,
  TracingConfig,
} from './config.ts';
import type { WayFiles } from './key-files.ts';
import type { FileContent } from './schema.ts';

/** The content of other files, and how to find them. */
export interface NormaliseOptions {
  /** For destinations, hops and the probe, read before. */
  readonly files: WayFiles;
  /** Likewise. */
  readonly tlsServer: TlsServerConfig | null;
  /** Makes the path of a file in the configuration absolute. */
  readonly locateFile: (path: string) => string;
}

/** Makes the Config from content that has passed the schema and all checks. */
export function normalise(content: FileContent, { files, tlsServer, locateFile }: NormaliseOptions): Config {
  const hops = new Map(Object.entries(content.hops).map(([name, hop]) => [name, readHop(name, hop, files)]));
  const way = (via: readonly string[] = []): HopConfig[] => via.map((name) => hops.get(name)).filter((hop) => hop !== undefined);
  const destinations = Object.entries(content.destinations).map(([name, entry]): DestinationConfig => ({
    name,
    hosts: distinct(entry.hosts),
    // A range that is written twice is two objects.
    ports: [...new Map(entry.ports.map((port) => [typeof port === 'number' ? port : String(port), port])).values()],
    addresses: orNull(entry.addresses),
    forms: distinct(entry.forms),
    gateway: entry.gateway === undefined ? null : readGateway(entry.gateway),
    methods: orNull(entry.http.methods),
    paths: orNull(entry.http.paths),
    tls: files.tls('destinations', name),
    report: entry.report,
    tunnelSni: entry.tunnelSni,
    upgradePlainHttp: entry.upgradePlainHttp ?? null,
    via: way(entry.via),
    resolve: entry.resolve,
    proxyProtocol: entry.proxyProtocol,
    gateReadiness: entry.gateReadiness,
    circuitBreaker: readCircuitBreaker(content.circuitBreaker, entry.circuitBreaker),
  }));

  return freeze<Config>({
    mode: content.mode,
    reload: content.reload,
    selfTest: content.selfTest,
    name: content.name,
    listeners: {
      http: content.listeners.http.map(readListener),
      tls: content.listeners.tls.map(readListener),
      admin: { ...content.listeners.admin.address, hosts: distinct(content.listeners.admin.hosts ?? []) },
    },
    tlsServer,
    clients: Object.entries(content.clients).map(([name, { addresses, basic, tokens, certificates }]): ClientConfig => ({
      name,
      addresses: orNull(addresses),
      basic: basic ?? null,
      tokens: tokens?.map((token) => normaliseToken(token, locateFile)) ?? null,
      certificates: orNull(certificates),
    })),
    destinations,
    rules: content.rules.map((rule): RuleConfig => ({
      clients: distinct(rule.clients),
      destinations: distinct(rule.destinations),
      methods: orNull(rule.methods),
      paths: orNull(rule.paths),
      from: rule.from ?? null,
      until: rule.until ?? null,
      owner: rule.owner ?? null,
      reason: rule.reason ?? null,
      ticket: rule.ticket ?? null,
      report: rule.report,
      rate:
        rule.rate === undefined
          ? null
          : {
              perAddress: readRateLimits(rule.rate.perAddress),
              perClient: readRateLimits(rule.rate.perClient),
              whenExhausted: rule.rate.whenExhausted,
            },
    })),
    hops: [...hops.values()],
    sourceIp: readSourceIp(content.sourceIp, way, files),
    nat: { ...content.nat, ports: content.nat.ports ?? null },
    dns: { servers: distinct(content.dns.servers ?? []), ttl: content.dns.ttl, staleFor: content.dns.staleFor },
    headers: { ...content.headers, drop: distinct(content.headers.drop ?? []), keep: distinct(content.headers.keep ?? []) },
    limits: content.limits,
    timeouts: content.timeouts,
    log: content.log,
    tracing: readTracing(content.tracing, files),
    cluster: {
      clients: readPods(content.cluster.clients),
      destinations: readPods(content.cluster.destinations),
      hops: readPods(content.cluster.hops),
      collector: content.cluster.collector === undefined ? null : (readPods({ collector: content.cluster.collector })[0] ?? null),
    },
  });
}

type ListenerContent<F extends Form> = Omit<FileContent['listeners']['tls'][number], 'forms'> & { readonly forms: readonly F[] };

function readListener<F extends Form>({
  address,
  forms,
  trustedPeers = [],
  proxyProtocol,
  believe = [],
}: ListenerContent<F>): ListenerConfig & { readonly forms: readonly F[] } {
  return { ...address, forms: distinct(forms), trustedPeers: distinct(trustedPeers), proxyProtocol, believe: distinct(believe) };
}

function readGateway({ url, rewrite, ...rest }: NonNullable<FileContent['destinations'][string]['gateway']>): GatewayConfig {
  return { ...url, ...rest, rewrite: distinct(rewrite) };
}

function readHop(name: string, { url, addresses, connect, coolDown }: FileContent['hops'][string], files: WayFiles): HopConfig {
  return {
    name,
    parents: url,
    addresses: orNull(addresses),
    credentials: files.credentials(name),
    tls: files.tls('hops', name),
    connect,
    coolDown,
  };
}

function readRateLimits(limits: NonNullable<FileContent['rules'][number]['rate']>['perAddress']): RateLimits | null {
  if (limits === undefined) return null;
  const { requests = null, tunnels = null, sent = null, received = null } = limits;
  return { requests, tunnels, sent, received };
}

/** The keys of the destination; missing ones come from the common section. */
function readCircuitBreaker(
  common: FileContent['circuitBreaker'],
  own: FileContent['destinations'][string]['circuitBreaker'],
): CircuitBreakerConfig | null {
  const {
    enabled = common.enabled,
    failures = common.failures,
    over = common.over,
    pause = common.pause,
    longestPause = common.longestPause,
    statuses = [],
  } = own;
  return enabled ? { failures, over, pause, longestPause, statuses: distinct(statuses) } : null;
}

function readPods(
  entries: Readonly<
    Record<string, { namespace: string; labels?: readonly (readonly [string, string])[] | undefined; port?: number | undefined }>
  >,
): PodsConfig[] {
  return Object.entries(entries).map(([name, { namespace, labels = [], port = null }]) => ({
    name,
    namespace,
    labels: Object.fromEntries(labels),
    port,
  }));
}

/** Null without an endpoint, for example while its variable is empty. */
function readTracing({ endpoint, sample, perClient, serviceName }: FileContent['tracing'], files: WayFiles): TracingConfig | null {
  return endpoint === undefined ? null : { endpoint, sample, perClient, serviceName: serviceName ?? null, ...files.tracing };
}

/** Null when the section sets nothing, for example while its variables are empty. */
function readSourceIp(
  { expected, probe, gateReadiness }: FileContent['sourceIp'],
  way: (via?: readonly string[]) => HopConfig[],
  files: WayFiles,
): SourceIpConfig | null {
  const { url, via, addresses, field, every, timeout } = probe;
  if (expected === undefined && url === undefined) return null;
  return {
    expected: distinct(expected ?? []),
    probe:
      url === undefined
        ? null
        : {
            ...url,
            every,
            timeout,
            field: field ?? null,
            via: way(via),
            addresses: orNull(addresses),
            tls: files.tls('sourceIp', 'probe'),
          },
    gateReadiness,
  };
}

type TokenContent = NonNullable<FileContent['clients'][string]['tokens']>[number];

/** The schema ensures that one of file and URL is set. */
function normaliseToken(
  { issuer, audience, subjects, jwksFile, jwksUrl }: TokenContent,
  locateFile: NormaliseOptions['locateFile'],
): TokenConfig {
  const jwks =
    jwksUrl === undefined ? ({ kind: 'file', path: locateFile(jwksFile ?? '') } as const) : ({ kind: 'url', url: jwksUrl } as const);
  return { issuer, audience, subjects: distinct(subjects), jwks };
}

function orNull<T>(items: readonly T[] | undefined): T[] | null {
  return items === undefined ? null : distinct(items);
}

function distinct<T>(items: readonly T[]): T[] {
  return [...new Set(items)];
}

function freeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    Object.values(value).forEach(freeze);
  }
  return value;
}
