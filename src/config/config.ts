/**
 * The configuration as the rest of the program sees it: loaded, checked, with every default filled in.
 * Durations are milliseconds, sizes are bytes. The schema (schema.ts) is what turns a file into this.
 * Longer than 300 lines because it is one contract, to be read beside the one page that describes it.
 */

import type { PortEntry } from '../targets/port-range.ts';

/** The request forms of docs/architecture.md that an HTTP listener can take. */
export const HTTP_FORMS = ['connect', 'forward', 'gateway', 'host-routed'] as const;
/** A form of request that comes as HTTP. */
export type HttpForm = (typeof HTTP_FORMS)[number];
/** Those, and raw TLS that names its destination in the ClientHello: what a TLS listener can take. */
export const FORMS = [...HTTP_FORMS, 'sni'] as const;
/** Any form of request; `sni` is raw TLS. */
export type Form = (typeof FORMS)[number];

/**
 * What a warning is about; a label value of `eco_egress_warnings`.
 * - `report-mode`: requests pass that the policy would deny
 * - `open`: everybody is let in, or believed
 * - `no-effect`: something is written that nothing uses, or can use
 * - `expired`: it was in effect, and is not any more
 * - `expires-soon`: it is in effect, and soon is not any more
 * - `files`: a certificate or key that peers may refuse, or that others may read
 * - `capacity`: limits that exceed what there is
 * - `source-ip`: the source address is not proven
 * - `variable`: an environment variable that looks like ours and is not used
 */
export const WARNING_KINDS = ['report-mode', 'open', 'no-effect', 'expired', 'expires-soon', 'files', 'capacity', 'source-ip', 'variable'] as const;
/** One of `WARNING_KINDS`. */
export type WarningKind = (typeof WARNING_KINDS)[number];

/** Where a server listens. */
export interface ListenAddress {
  /** IP literal to bind; never a name. */
  readonly host: string;
  /** 0 lets the system choose. */
  readonly port: number;
}

/** By which a trusted peer can say who stands behind it. */
export const PEER_HEADERS = ['x-forwarded-for', 'x-forwarded-client-cert'] as const;
/** A header by which a trusted peer can say who its client is. */
export type PeerHeader = (typeof PEER_HEADERS)[number];

/** A port for clients: an entry of `listeners.http` or `listeners.tls`. */
export interface ListenerConfig extends ListenAddress {
  readonly forms: readonly Form[];
  /** CIDRs of the peers that may speak for others; empty: nobody. */
  readonly trustedPeers: readonly string[];
  /** `from-trusted`: connections from trusted peers begin with a PROXY protocol header. */
  readonly proxyProtocol: 'off' | 'from-trusted';
  /** What a trusted peer is believed; from anyone else these headers mean nothing. */
  readonly believe: readonly PeerHeader[];
}

/** An entry of `listeners.http`, which cannot take raw TLS. */
export interface HttpListenerConfig extends ListenerConfig {
  readonly forms: readonly HttpForm[];
}

/** `listeners.admin`. */
export interface AdminListenerConfig extends ListenAddress {
  /** Names by which it may be asked, besides its addresses and names of the cluster; lower case. */
  readonly hosts: readonly string[];
}

/** TLS towards clients, on the TLS listeners: contents of the files, already read. */
export interface TlsServerConfig {
  /** Our own names, canonical: TLS that asks for one of them ends here. */
  readonly names: readonly string[];
  readonly cert: string;
  readonly key: string;
  /** Authorities of client certificates. */
  readonly clientCa: string | null;
  /** Lists of client certificates that those authorities have revoked, one for each authority. */
  readonly crl: string | null;
  /** `request`: a client may show none; `require`: it may not. */
  readonly clientCertificate: 'none' | 'request' | 'require';
}

/** A peer is this client when EVERY kind that is not null holds, each by any of its entries. At least one is not null. */
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
  /** Where the keys of the issuer come from; a path is absolute. */
  readonly jwks: JwksConfig;
}

/** The place of a JSON Web Key Set (RFC 7517). */
export type JwksConfig = { readonly kind: 'file'; readonly path: string } | { readonly kind: 'url'; readonly url: string };

/** What is rewritten in responses below a gateway prefix. */
export const GATEWAY_REWRITES = ['locations', 'cookies', 'cookie-security'] as const;
/** A response field that is rewritten below a gateway prefix. */
export type GatewayRewrite = (typeof GATEWAY_REWRITES)[number];

/** `destinations.<name>.gateway`: the prefix, and the upstream URL that stands for it. */
export interface GatewayConfig {
  /** Path prefix, canonical: starts with a slash, does not end with one. */
  readonly prefix: string;
  readonly scheme: 'http' | 'https';
  /** Canonical host, as in Destination.hosts. */
  readonly host: string;
  readonly port: number;
  /** Path put before what follows the prefix; '' or '/base', never ending in a slash. */
  readonly basePath: string;
  readonly rewrite: readonly GatewayRewrite[];
  /** Whether `%2F` may stand in a path below the prefix. */
  readonly encodedSlashes: 'allow' | 'refuse';
}

/** TLS towards the partner where we terminate; contents of the files, already read. */
export interface UpstreamTlsConfig {
  readonly ca: string | null;
  readonly cert: string | null;
  readonly key: string | null;
  /** SNI and certificate name to expect, where it differs from the host. */
  readonly serverName: string | null;
}

/** A parent proxy: CONNECT over plain TCP or TLS, or SOCKS5 (RFC 1928). */
export interface ParentConfig {
  readonly scheme: 'http' | 'https' | 'socks5';
  /** Canonical, as in Destination.hosts. */
  readonly host: string;
  readonly port: number;
}

/** What a parent is shown; read from a file, and shown to nobody else. */
export type HopCredentials = { readonly kind: 'basic'; readonly user: string; readonly password: string } | { readonly kind: 'bearer'; readonly token: string };

/** One hop on the way to an upstream: a parent proxy, with others that take its place. */
export interface HopConfig {
  readonly name: string;
  /** At least one, best first. */
  readonly parents: readonly ParentConfig[];
  /** CIDRs that are the only addresses the parents may have; null: any unicast but loopback and link-local. */
  readonly addresses: readonly string[] | null;
  readonly credentials: HopCredentials | null;
  /** Towards https parents. */
  readonly tls: UpstreamTlsConfig;
  /** For each step on this hop: TCP, TLS, its answer. */
  readonly connect: number;
  /** How long a parent that failed is passed over. */
  readonly coolDown: number;
}

/** When the addresses of a destination are left alone because they fail. */
export interface CircuitBreakerConfig {
  /** An address is left alone after so many failures in a row, */
  readonly failures: number;
  /** and only if the first of them is so long ago, ms. */
  readonly over: number;
  /** For so long at first, ms; twice as long after each trial that fails, */
  readonly pause: number;
  /** but no longer than this. */
  readonly longestPause: number;
  /** Answers with these count as failures. */
  readonly statuses: readonly number[];
}

/** `destinations.<name>`: which hosts and ports it has, and how they are reached. */
export interface DestinationConfig {
  readonly name: string;
  /** Canonical: lower case, no trailing dot, A-labels; exact, or `*.suffix` for the names below it. IP literals without brackets. */
  readonly hosts: readonly string[];
  readonly ports: readonly PortEntry[];
  /** CIDRs that are the only addresses the hosts may resolve to; null: public unicast only. */
  readonly addresses: readonly string[] | null;
  /** Forms that may reach this destination. */
  readonly forms: readonly Form[];
  readonly gateway: GatewayConfig | null;
  /** Judged wherever we see the request; null: any. */
  readonly methods: readonly string[] | null;
  /** Exact paths, or prefixes written with a final `*`; null: any. */
  readonly paths: readonly string[] | null;
  readonly tls: UpstreamTlsConfig;
  /** What this destination would refuse passes, and is reported. */
  readonly report: boolean;
  /** Whether the ClientHello inside a tunnel has to name the host that was asked for. */
  readonly tunnelSni: 'require' | 'report' | 'off';
  /** Parents on the way, nearest to us first; empty: none. Those of one name are one object. */
  readonly via: readonly HopConfig[];
  /** Who resolves the host when there are hops: we, and the last parent is asked for a judged address; or that parent. */
  readonly resolve: 'here' | 'parent';
  /** Plain HTTP that is steered here for one of the hosts is sent on over TLS to this port; null: as it is. */
  readonly upgradePlainHttp: number | null;
  /** Header by which each connection tells the upstream whom it is for. */
  readonly proxyProtocol: 'off' | 'v1' | 'v2';
  /** The proxy is not ready while its requests fail. */
  readonly gateReadiness: boolean;
  /** Null: failures lead to no refusal. */
  readonly circuitBreaker: CircuitBreakerConfig | null;
}

/** An entry of `rules`: which clients may use which destinations, and for what. */
export interface RuleConfig {
  readonly clients: readonly string[];
  readonly destinations: readonly string[];
  /** Judged wherever we see the request; null: any. */
  readonly methods: readonly string[] | null;
  readonly paths: readonly string[] | null;
  /** The rule holds while from <= now < until, ms since the epoch; null: without that bound. */
  readonly from: number | null;
  readonly until: number | null;
  /** For people: whose rule it is, why there is one, and where that was agreed. One line each; decides nothing. */
  readonly owner: string | null;
  readonly reason: string | null;
  readonly ticket: string | null;
  /** What this rule would refuse of its clients and destinations passes, and is reported. */
  readonly report: boolean;
  /** How fast and how much, of what this rule permits; null: not limited. */
  readonly rate: RateConfig | null;
}

/** What `rules[].rate` counts: exchanges, tunnels opened, and bytes in each direction. */
export const RATE_KINDS = ['requests', 'tunnels', 'sent', 'received'] as const;
/** One of `RATE_KINDS`. */
export type RateKind = (typeof RATE_KINDS)[number];

/** `rules[].rate`; at least one of the two scopes is there. */
export interface RateConfig {
  /** For each client address by itself. */
  readonly perAddress: RateLimits | null;
  /** For each client by its name, all of its addresses together. */
  readonly perClient: RateLimits | null;
  /** What becomes of requests under way when the bytes are used up. */
  readonly whenExhausted: 'refuse' | 'cut';
}

/** Null: not limited. At least one is not null. */
export type RateLimits = Readonly<Record<RateKind, RateLimit | null>>;

/** A token bucket: full with `burst` tokens, and refilled evenly. */
export interface RateLimit {
  /** Tokens that come back in a millisecond. */
  readonly perMs: number;
  readonly burst: number;
  /** In its shortest form: `50/s burst 100`, `10GiB/day`. */
  readonly text: string;
}

/** Which source address the partner has to see, and how it is proven. */
export interface SourceIpConfig {
  /** Canonical addresses, any of which is right; empty: what is seen is told and not judged. */
  readonly expected: readonly string[];
  readonly probe: ProbeConfig | null;
  /** Not ready while the address is wrong or not known. */
  readonly gateReadiness: boolean;
}

/** An endpoint that answers with the address it saw. */
export interface ProbeConfig {
  readonly scheme: 'http' | 'https';
  /** Canonical, as in Destination.hosts. */
  readonly host: string;
  readonly port: number;
  /** With its query. */
  readonly path: string;
  readonly every: number;
  readonly timeout: number;
  /** Member of the JSON answer that holds the address, `a.b` inside another; null: the answer is the address. */
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
  /** How long a port stays taken after its connection. */
  readonly timeWait: number;
  readonly whenExhausted: 'refuse' | 'queue';
  /** Longest wait for a port, with `queue`. */
  readonly queueFor: number;
}

/** `dns`; times in ms. */
export interface DnsConfig {
  /** `address:port` of DNS servers to ask; empty: the hosts file, then the servers of the system. */
  readonly servers: readonly string[];
  /** How long an answer of the hosts file is fresh. */
  readonly ttl: number;
  /** How long after that an answer may still be used while the resolver fails (RFC 8767). */
  readonly staleFor: number;
}

/** `headers`: what is added to, and removed from, the header section of requests. */
export interface HeadersConfig {
  /** Add ourselves to `Via` (RFC 9110 §7.6.3). */
  readonly via: boolean;
  /** `Forwarded` (RFC 7239): off removes it, pass leaves the client's, append adds the client's address. */
  readonly forwarded: 'off' | 'pass' | 'append';
  /** `X-Forwarded-For`, `-Proto`, `-Host` and `-Port`, likewise. */
  readonly xForwarded: 'off' | 'pass' | 'append';
  /** Request fields that do not cross, besides those of claim-fields.ts: lower case with `-` for `_`, exact or with a final `*`. */
  readonly drop: readonly string[];
  /** Fields of claim-fields.ts that cross all the same, written likewise. */
  readonly keep: readonly string[];
}

/** `limits`; what is above one is refused with `limit-reached`, or with the code for headers that are too large. */
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
  /** Longest silence inside a body. */
  readonly body: number;
  /** An idle client connection is kept this long. */
  readonly keepAlive: number;
  /** A pooled upstream connection is kept this long while idle, and this long at all. */
  readonly upstreamKeepAlive: number;
  readonly upstreamAge: number;
  readonly tunnelIdle: number;
  readonly tunnelAge: number;
  /** Between "not ready" and the end of accepting. */
  readonly drainDelay: number;
  /** From then on, for what is in flight. */
  readonly drain: number;
}

/** `log`. */
export interface LogConfig {
  readonly level: 'debug' | 'info' | 'warn' | 'error';
  readonly format: 'json' | 'text';
  /** JSON lines also have the fields by which Google's Cloud Logging, or Dynatrace, knows them. */
  readonly profile: 'plain' | 'google' | 'dynatrace';
}

/** `tracing`: which requests are told to a collector as spans, and where it is. */
export interface TracingConfig {
  /** Whole URL of OTLP over HTTP, as it is posted to. */
  readonly endpoint: string;
  /** What the collector is shown; read from a file, and shown to nobody else. */
  readonly headers: readonly (readonly [name: string, value: string])[];
  /** Share of the requests without a valid `traceparent`, 0 to 1. */
  readonly sample: number;
  /** Requests of one client that are traced at most, whoever asks for it. */
  readonly perClient: RateLimit;
  /** `service.name`. */
  readonly serviceName: string;
  /** Towards an https endpoint. */
  readonly tls: UpstreamTlsConfig;
}

/** `reload`. */
export interface ReloadConfig {
  /** Reload when the file changes; SIGHUP reloads in any case. */
  readonly watch: boolean;
  /** Refuse a new policy that would deny what a remembered decision permitted. */
  readonly refuseIfDenies: boolean;
  /** Decisions kept to be replayed through a new policy. */
  readonly remember: number;
}

/** `selfTest`. */
export interface SelfTestConfig {
  /** Ms between two rounds; null: off. */
  readonly every: number | null;
}

/** Pods of the cluster that an entry of the configuration stands for. Only what is rendered for a cluster reads it. */
export interface PodsConfig {
  /** Of the entry. */
  readonly name: string;
  readonly namespace: string;
  /** All of them; empty: every pod of the namespace. */
  readonly labels: Readonly<Record<string, string>>;
  /** Of the container, where a Service gives it another one; null: as asked for. */
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

/** A whole configuration, deeply frozen. A reload makes another one. */
export interface Config {
  /** `report`: what the policy would refuse passes, and is reported. */
  readonly mode: 'enforce' | 'report';
  readonly reload: ReloadConfig;
  readonly selfTest: SelfTestConfig;
  /** Our pseudonym in `Via` and `Proxy-Status`. */
  readonly name: string;
  readonly listeners: { readonly http: readonly HttpListenerConfig[]; readonly tls: readonly ListenerConfig[]; readonly admin: AdminListenerConfig };
  /** Null: TLS listeners end no TLS, they only pass it on by its server name. */
  readonly tlsServer: TlsServerConfig | null;
  /** In order: the first match wins. */
  readonly clients: readonly ClientConfig[];
  readonly destinations: readonly DestinationConfig[];
  readonly rules: readonly RuleConfig[];
  readonly hops: readonly HopConfig[];
  /** Null: nothing is expected and nothing is asked. */
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
