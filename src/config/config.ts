/**
 * The configuration as the rest of the program sees it: loaded, checked, with every default filled in.
 * Durations are milliseconds, sizes are bytes. The schema (schema.ts) creates it from a file.
 * Longer than 400 lines because it is one contract, documented on one page.
 */

import type { PortEntry } from '../targets/port-range.ts';

/** The request forms of docs/architecture.md that an HTTP listener can accept. */
export const HTTP_FORMS = ['connect', 'forward', 'gateway', 'host-routed'] as const;
/** A form of HTTP request. */
export type HttpForm = (typeof HTTP_FORMS)[number];
/** Those, and raw TLS that names its destination in the ClientHello: what a TLS listener can accept. */
export const FORMS = [...HTTP_FORMS, 'sni'] as const;
/** Any form of request; `sni` is raw TLS. */
export type Form = (typeof FORMS)[number];

/**
 * What a warning is about; a label value of `eco_egress_warnings`.
 * - `report-mode`: requests pass that the policy would deny
 * - `open`: every client is accepted, or trusted
 * - `no-effect`: a value is not used, not yet used, or cannot be used
 * - `expired`: it is no longer in effect
 * - `expires-soon`: it is in effect, and soon will not be
 * - `files`: a certificate or key that peers may refuse, or that other users may
 *   read
 * - `capacity`: limits that exceed the available resources
 * - `source-ip`: the source address is not proven
 * - `variable`: an environment variable that looks like ours but is not used
 */
export const WARNING_KINDS = [
  'report-mode',
  'open',
  'no-effect',
  'expired',
  'expires-soon',
  'files',
  'capacity',
  'source-ip',
  'variable',
] as const;
/** One of `WARNING_KINDS`. */
export type WarningKind = (typeof WARNING_KINDS)[number];

/** Where a server listens. */
export interface ListenAddress {
  /** IP literal to bind; never a name. */
  readonly host: string;
  /** 0 lets the system choose. */
  readonly port: number;
}

/** How a trusted peer can name its client. */
export const PEER_HEADERS = ['x-forwarded-for', 'x-forwarded-client-cert'] as const;
/** A header by which a trusted peer can name its client. */
export type PeerHeader = (typeof PEER_HEADERS)[number];

/** A port for clients: an entry of `listeners.http` or `listeners.tls`. */
export interface ListenerConfig extends ListenAddress {
  readonly forms: readonly Form[];
  /** CIDRs of the peers that may name their clients; empty: none. */
  readonly trustedPeers: readonly string[];
  /** `from-trusted`: connections from trusted peers begin with a PROXY protocol header. */
  readonly proxyProtocol: 'off' | 'from-trusted';
  /** Which headers of a trusted peer are used; from other peers they are ignored. */
  readonly believe: readonly PeerHeader[];
}

/** An entry of `listeners.http`, which cannot accept raw TLS. */
export interface HttpListenerConfig extends ListenerConfig {
  readonly forms: readonly HttpForm[];
}

/** `listeners.admin`. */
export interface AdminListenerConfig extends ListenAddress {
  /** Host names under which it may be reached, besides its addresses and names of the cluster; lower case. */
  readonly hosts: readonly string[];
}

/** TLS towards clients, on the TLS listeners: contents of the files, already read. */
export interface TlsServerConfig {
  /** The proxy's own names, canonical: TLS for one of them is terminated here. */
  readonly names: readonly string[];
  readonly cert: string;
  readonly key: string;
  /** Authorities of client certificates. */
  readonly clientCa: string | null;
  /** Lists of client certificates that those authorities have revoked, one for each authority. */
  readonly crl: string | null;
  /** `request`: a client certificate is optional; `require`: it is mandatory. */
  readonly clientCertificate: 'none' | 'request' | 'require';
}

/** A peer is this client when EVERY kind that is not null matches, each by any of its entries. At least one is not null. */
export interface ClientConfig {
  readonly name: string;
  /** CIDRs of the peer address. */
  readonly addresses: readonly string[] | null;
  readonly basic: readonly BasicConfig[] | null;
  readonly tokens: readonly TokenConfig[] | null;
  /** Subject alternative names, `DNS:name` or `URI:uri`, exact or with `*`. */
  readonly certificates: readonly string[] | null;
}

/** An entry of `clients.<name>.basic`: a user of Proxy-Authorization: Basic (RFC 7617). */
export interface BasicConfig {
  readonly user: string;
  /** `$scrypt$ln=15,r=8,p=1$salt$hash`. */
  readonly hash: string;
}

/** An entry of `clients.<name>.tokens`: which signed tokens (RFC 7519) belong to the client. */
export interface TokenConfig {
  readonly issuer: string;
  readonly audience: string;
  /** Exact, or with `*`. */
  readonly subjects: readonly string[];
  /** Where the keys of the issuer are read from; a path is absolute. */
  readonly jwks: JwksConfig;
}

/** The location of a JSON Web Key Set (RFC 7517). */
export type JwksConfig = { readonly kind: 'file'; readonly path: string } | { readonly kind: 'url'; readonly url: string };

/** What is rewritten in responses below a gateway prefix. */
export const GATEWAY_REWRITES = ['locations', 'cookies', 'cookie-security'] as const;
/** A response field that is rewritten below a gateway prefix. */
export type GatewayRewrite = (typeof GATEWAY_REWRITES)[number];

/** `destinations.<name>.gateway`: the prefix, and the upstream URL that it maps to. */
export interface GatewayConfig {
  /** Path prefix, canonical: starts with a slash, does not end with one. */
  readonly prefix: string;
  readonly scheme: 'http' | 'https';
  /** Canonical host, as in Destination.hosts. */
  readonly host: string;
  readonly port: number;
  /** Path put before the rest of the path after the prefix; '' or '/base', never ending in a slash. */
  readonly basePath: string;
  readonly rewrite: readonly GatewayRewrite[];
  /** Whether `%2F` is accepted in a path below the prefix. */
  readonly encodedSlashes: 'allow' | 'refuse';
}

/** TLS towards the partner where we terminate; contents of the files, already read. */
export interface UpstreamTlsConfig {
  readonly ca: string | null;
  readonly cert: string | null;
  readonly key: string | null;
  /** SNI and certificate name to expect, if it differs from the host. */
  readonly serverName: string | null;
}

/** Where nothing is configured: the authorities that Node knows, and no certificate of ours. */
export const NO_TLS: UpstreamTlsConfig = Object.freeze({ ca: null, cert: null, key: null, serverName: null });

/** A parent proxy: CONNECT over plain TCP or TLS, or SOCKS5 (RFC 1928). */
export interface ParentConfig {
  readonly scheme: 'http' | 'https' | 'socks5';
  /** Canonical, as in Destination.hosts. */
  readonly host: string;
  readonly port: number;
}

/** Our credentials for a parent; read from a file, and sent to no other server. */
export type HopCredentials =
  { readonly kind: 'basic'; readonly user: string; readonly password: string } | { readonly kind: 'bearer'; readonly token: string };

/** One hop on the route to an upstream: a parent proxy, with alternatives. */
export interface HopConfig {
  readonly name: string;
  /** At least one, best first. */
  readonly parents: readonly ParentConfig[];
  /** CIDRs of the only addresses that the parents may have; null: any unicast except loopback and link-local. */
  readonly addresses: readonly string[] | null;
  readonly credentials: HopCredentials | null;
  /** Towards https parents. */
  readonly tls: UpstreamTlsConfig;
  /** For each step on this hop: TCP, TLS, its answer. */
  readonly connect: number;
  /** How long a parent that failed is tried after the others. */
  readonly coolDown: number;
}

/** When addresses of a destination are not used because they fail. */
export interface CircuitBreakerConfig {
  /** After how many failures in a row an address is not used, */
  readonly failures: number;
  /** provided that the first of them is at least this long ago, ms. */
  readonly over: number;
  /** How long at first, ms; twice as long after each failed trial, */
  readonly pause: number;
  /** up to this. */
  readonly longestPause: number;
  /** Answers with these statuses count as failures. */
  readonly statuses: readonly number[];
}

/** `destinations.<name>`: which hosts and ports it has, and how they are reached. */
export interface DestinationConfig {
  readonly name: string;
  /** Canonical: lower case, no trailing dot, A-labels; exact, or `*.suffix` for the names below it. IP literals without brackets. */
  readonly hosts: readonly string[];
  readonly ports: readonly PortEntry[];
  /** CIDRs of the only addresses that the hosts may resolve to; null: public unicast only. */
  readonly addresses: readonly string[] | null;
  /** Forms that may reach this destination. */
  readonly forms: readonly Form[];
  readonly gateway: GatewayConfig | null;
  /** Checked where the request is visible; null: any. */
  readonly methods: readonly string[] | null;
  /** Exact paths, or prefixes written with a final `*`; null: any. */
  readonly paths: readonly string[] | null;
  readonly tls: UpstreamTlsConfig;
  /** Requests that this destination would refuse pass, and are reported. */
  readonly report: boolean;
  /** Whether the ClientHello inside a tunnel must name the requested host. */
  readonly tunnelSni: 'require' | 'report' | 'off';
  /** Parent proxies, nearest to us first; empty: none. Those of one name are one object. */
  readonly via: readonly HopConfig[];
  /** Who resolves the host when there are hops: the proxy, which requests a checked address from the last parent; or that parent. */
  readonly resolve: 'here' | 'parent';
  /** Plain HTTP steered here for one of the hosts is forwarded over TLS to this port; null: unchanged. */
  readonly upgradePlainHttp: number | null;
  /** Header by which each connection names its client to the upstream. */
  readonly proxyProtocol: 'off' | 'v1' | 'v2';
  /** The proxy is not ready while requests to it fail. */
  readonly gateReadiness: boolean;
  /** Null: failures lead to no refusal. */
  readonly circuitBreaker: CircuitBreakerConfig | null;
}

/** An entry of `rules`: which clients may use which destinations, and for what. */
export interface RuleConfig {
  readonly clients: readonly string[];
  readonly destinations: readonly string[];
  /** Checked where the request is visible; null: any. */
  readonly methods: readonly string[] | null;
  readonly paths: readonly string[] | null;
  /** The rule is in effect while from <= now < until, ms since the epoch; null: no limit. */
  readonly from: number | null;
  readonly until: number | null;
  /** For people: owner, reason and reference of the rule. One line each; without effect on decisions. */
  readonly owner: string | null;
  readonly reason: string | null;
  readonly ticket: string | null;
  /** Requests of its clients to its destinations that this rule would refuse pass, and are reported. */
  readonly report: boolean;
  /** Rates of the requests that this rule permits; null: not limited. */
  readonly rate: RateConfig | null;
}

/** What `rules[].rate` counts: exchanges, tunnels opened, and bytes in each direction. */
export const RATE_KINDS = ['requests', 'tunnels', 'sent', 'received'] as const;
/** One of `RATE_KINDS`. */
export type RateKind = (typeof RATE_KINDS)[number];

/** `rules[].rate`; at least one of the two scopes is there. */
export interface RateConfig {
  /** For each client address separately. */
  readonly perAddress: RateLimits | null;
  /** For each client by its name, all of its addresses together. */
  readonly perClient: RateLimits | null;
  /** What happens to requests in progress when the bytes are used up. */
  readonly whenExhausted: 'refuse' | 'cut';
}

/** Null: not limited. At least one is not null. */
export type RateLimits = Readonly<Record<RateKind, RateLimit | null>>;

/** A token bucket: starts with `burst` tokens, and is refilled evenly. */
export interface RateLimit {
  /** Tokens added per millisecond. */
  readonly perMs: number;
  readonly burst: number;
  /** In its shortest form: `50/s burst 100`, `10GiB/day`. */
  readonly text: string;
}

/** The source address that the partner has to see, and how it is verified. */
export interface SourceIpConfig {
  /** Canonical addresses, any of which is right; empty: the address is reported and not checked. */
  readonly expected: readonly string[];
  readonly probe: ProbeConfig | null;
  /** Not ready while the address is wrong or unknown. */
  readonly gateReadiness: boolean;
}

/** An endpoint that answers with the source address it sees. */
export interface ProbeConfig {
  readonly scheme: 'http' | 'https';
  /** Canonical, as in Destination.hosts. */
  readonly host: string;
  readonly port: number;
  /** With its query. */
  readonly path: string;
  readonly every: number;
  readonly timeout: number;
  /** Member of the JSON answer with the address, `a.b` if nested; null: the whole answer is the address. */
  readonly field: string | null;
  /** As for a destination. */
  readonly via: readonly HopConfig[];
  readonly addresses: readonly string[] | null;
  readonly tls: UpstreamTlsConfig;
}

/** Ports of the one source address that the NAT has for connections to one upstream address and port. */
export interface NatConfig {
  /** Of a node; null: counted, not limited. */
  readonly ports: number | null;
  /** Replicas that share them. */
  readonly replicasPerNode: number;
  /** How long a port stays in use after its connection. */
  readonly timeWait: number;
  readonly whenExhausted: 'refuse' | 'queue';
  /** Longest wait for a port, with `queue`. */
  readonly queueFor: number;
}

/** `dns`; times in ms. */
export interface DnsConfig {
  /** `address:port` of the DNS servers to use; empty: the hosts file, then the servers of the system. */
  readonly servers: readonly string[];
  /** How long an answer of the hosts file is fresh. */
  readonly ttl: number;
  /** How long after that an answer may still be used while the resolver fails (RFC 8767). */
  readonly staleFor: number;
}

/** `headers`: what is added to, and removed from, the header section of requests. */
export interface HeadersConfig {
  /** Add the proxy to `Via` (RFC 9110 §7.6.3). */
  readonly via: boolean;
  /** `Forwarded` (RFC 7239): off removes it, pass keeps the client's, append adds the client's address. */
  readonly forwarded: 'off' | 'pass' | 'append';
  /** `X-Forwarded-For`, `-Proto`, `-Host` and `-Port`, likewise. */
  readonly xForwarded: 'off' | 'pass' | 'append';
  /** Request fields that are removed, besides those of claim-fields.ts: lower case with `-` for `_`, exact or with a final `*`. */
  readonly drop: readonly string[];
  /** Fields of claim-fields.ts that are still forwarded, written likewise. */
  readonly keep: readonly string[];
}

/** `limits`; anything above one is refused with `limit-reached`, or with the code for headers that are too large. */
export interface LimitsConfig {
  /** Client connections open at once, all listeners together. */
  readonly connections: number;
  /** Of those, from one address; trusted peers are not counted. */
  readonly connectionsPerClient: number;
  readonly tunnels: number;
  readonly tunnelsPerClient: number;
  readonly exchanges: number;
  readonly exchangesPerClient: number;
  /** Request header section, bytes. */
  readonly headerBytes: number;
  /** Header fields in a request. */
  readonly headerFields: number;
  /** Pooled connections to one destination origin. */
  readonly upstreamConnections: number;
  /** Exchanges that may wait for one of them. */
  readonly upstreamQueue: number;
  /** Longest turn of the event loop, and longest wait in the accept queue, ms, that may last before new requests and connections are refused; 0: none are. */
  readonly loopDelay: number;
  /** Of the memory that there is: beyond it new requests are refused; 100: none are. */
  readonly memoryPercent: number;
}

/** `timeouts`, all in ms. */
export interface TimeoutsConfig {
  readonly resolve: number;
  readonly connect: number;
  readonly tls: number;
  /** A request header section must be complete within this. */
  readonly requestHeaders: number;
  /** The upstream must begin its response within this. */
  readonly responseHeaders: number;
  /** Longest pause inside a body. */
  readonly body: number;
  /** How long an idle client connection is kept. */
  readonly keepAlive: number;
  /** How long a pooled upstream connection is kept while idle, and its maximum age. */
  readonly upstreamKeepAlive: number;
  readonly upstreamAge: number;
  readonly tunnelIdle: number;
  readonly tunnelAge: number;
  /** Time between "not ready" and the end of accepting. */
  readonly drainDelay: number;
  /** Time after that for requests in progress. */
  readonly drain: number;
}

/** `log`. */
export interface LogConfig {
  readonly level: 'debug' | 'info' | 'warn' | 'error';
  readonly format: 'json' | 'text';
  /** JSON lines also have the fields of Google's Cloud Logging, or Dynatrace. */
  readonly profile: 'plain' | 'google' | 'dynatrace';
}

/** `tracing`: which requests are reported to a collector as spans, and its address. */
export interface TracingConfig {
  /** Whole URL for POST requests of OTLP over HTTP. */
  readonly endpoint: string;
  /** Header fields for the collector; read from a file, and sent to no other server. */
  readonly headers: readonly (readonly [name: string, value: string])[];
  /** Share of the requests without a valid `traceparent`, 0 to 1. */
  readonly sample: number;
  /** Limit of traced requests for one client, also if a `traceparent` requests them. */
  readonly perClient: RateLimit;
  /** `service.name`; null: the name of the proxy. */
  readonly serviceName: string | null;
  /** Towards an https endpoint. */
  readonly tls: UpstreamTlsConfig;
}

/** `reload`. */
export interface ReloadConfig {
  /** Reload when the file changes; SIGHUP reloads in any case. */
  readonly watch: boolean;
  /** Refuse a new policy that would deny requests permitted before. */
  readonly refuseIfDenies: boolean;
  /** How many decisions are kept to be replayed with a new policy. */
  readonly remember: number;
}

/** `selfTest`. */
export interface SelfTestConfig {
  /** Ms between two runs; null: off. */
  readonly every: number | null;
}

/** Pods of the cluster that belong to an entry of the configuration. Used only by rendered manifests. */
export interface PodsConfig {
  /** Of the entry. */
  readonly name: string;
  readonly namespace: string;
  /** All of them; empty: every pod of the namespace. */
  readonly labels: Readonly<Record<string, string>>;
  /** Of the container, if a Service maps it; null: as requested. */
  readonly port: number | null;
}

/** `cluster`: where pods of clients, destinations, hops and the collector of traces run; only rendered manifests depend on it. */
export interface ClusterConfig {
  readonly clients: readonly PodsConfig[];
  readonly destinations: readonly PodsConfig[];
  readonly hops: readonly PodsConfig[];
  /** Of `tracing.endpoint`; null: it is outside the cluster. */
  readonly collector: PodsConfig | null;
}

/** A whole configuration, deeply frozen. A reload creates another one. */
export interface Config {
  /** `report`: requests that the policy would refuse pass, and are reported. */
  readonly mode: 'enforce' | 'report';
  readonly reload: ReloadConfig;
  readonly selfTest: SelfTestConfig;
  /** Our pseudonym in `Via` and `Proxy-Status`. */
  readonly name: string;
  readonly listeners: {
    readonly http: readonly HttpListenerConfig[];
    readonly tls: readonly ListenerConfig[];
    readonly admin: AdminListenerConfig;
  };
  /** Null: TLS listeners terminate no TLS, they only pass it on by its server name. */
  readonly tlsServer: TlsServerConfig | null;
  /** In order: the first match wins. */
  readonly clients: readonly ClientConfig[];
  readonly destinations: readonly DestinationConfig[];
  readonly rules: readonly RuleConfig[];
  readonly hops: readonly HopConfig[];
  /** Null: no address is expected and no probe is configured. */
  readonly sourceIp: SourceIpConfig | null;
  readonly nat: NatConfig;
  readonly dns: DnsConfig;
  readonly headers: HeadersConfig;
  readonly limits: LimitsConfig;
  readonly timeouts: TimeoutsConfig;
  readonly log: LogConfig;
  /** Null: no request is traced. */
  readonly tracing: TracingConfig | null;
  readonly cluster: ClusterConfig;
}
