/** The content of a checked file as the rest of the program takes it: lists instead of names, nulls instead of gaps, frozen. */
import type { Config, DestinationConfig, UpstreamTlsConfig } from './config.ts';
import type { FileContent } from './schema.ts';

/** `tlsOf` gives the files of a destination, read before. */
export function normalise(content: FileContent, tlsOf: (destination: string) => UpstreamTlsConfig): Config {
  const destinations = Object.entries(content.destinations).map(([name, entry]): DestinationConfig => ({
    name,
    hosts: distinct(entry.hosts),
    ports: distinct(entry.ports),
    addresses: entry.addresses === undefined ? null : distinct(entry.addresses),
    forms: distinct(entry.forms),
    gateway: entry.gateway === undefined ? null : { prefix: entry.gateway.prefix, ...entry.gateway.url },
    methods: entry.http.methods === undefined ? null : distinct(entry.http.methods),
    paths: entry.http.paths === undefined ? null : distinct(entry.http.paths),
    tls: tlsOf(name),
    report: false,
    tunnelSni: 'report',
  }));

  return freeze<Config>({
    mode: 'enforce',
    reload: { watch: true, refuseIfDenies: false, remember: 1000 },
    name: content.name,
    listeners: {
      http: content.listeners.http.map(({ address, forms }) => ({ ...address, forms: distinct(forms), trustedPeers: [], proxyProtocol: 'off', believe: [] })),
      admin: content.listeners.admin,
    },
    clients: Object.entries(content.clients).map(([name, { addresses }]) => ({ name, addresses: distinct(addresses), basic: null, tokens: null, certificates: null })),
    destinations,
    rules: content.rules.map((rule) => ({
      clients: distinct(rule.clients),
      destinations: distinct(rule.destinations),
      methods: null,
      paths: null,
      from: null,
      until: null,
      report: false,
    })),
    dns: { servers: distinct(content.dns.servers ?? []), ttl: content.dns.ttl, staleFor: content.dns.staleFor },
    headers: content.headers,
    limits: content.limits,
    timeouts: content.timeouts,
    log: content.log,
  });
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
