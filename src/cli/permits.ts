/** What a configuration permits, one line per rule, client and destination. */
import Table from 'cli-table3';
import type { ClientConfig, Config, DestinationConfig, Form, RuleConfig } from '../config/config.ts';
import { formatAuthority } from '../target/host.ts';
import type { PortEntry } from '../target/port-range.ts';

export interface Permit {
  readonly client: string;
  /** What the client has to show: something of each that is not null. */
  readonly clientAddresses: readonly string[] | null;
  readonly clientUsers: readonly string[] | null;
  readonly clientTokenSubjects: readonly string[] | null;
  readonly clientCertificates: readonly string[] | null;
  readonly destination: string;
  readonly hosts: readonly string[];
  readonly ports: readonly PortEntry[];
  /** Those that can reach it: gateway only where the destination has one, tunnels only where the rule lists no methods or paths. */
  readonly forms: readonly Form[];
  /** `/eco -> https://eco-sit.telus.internal:443`, or null. */
  readonly gateway: string | null;
  /** Null: any. */
  readonly methods: readonly string[] | null;
  readonly paths: readonly string[] | null;
  /** Where rule and destination both list paths, those of the destination: a path has to be in both lists. */
  readonly pathsWithin: readonly string[] | null;
  /** ISO 8601; null: without that bound. */
  readonly from: string | null;
  readonly until: string | null;
  /** Null: public addresses only. */
  readonly addresses: readonly string[] | null;
  /** Hops on the way, nearest to us first. */
  readonly via: readonly string[];
  /** With hops: who resolves the hosts. */
  readonly resolve: 'here' | 'parent';
  /** Version of the header by which the destination is told the client; null: none. */
  readonly proxyProtocol: 'v1' | 'v2' | null;
  readonly rule: string;
}

const TUNNELS: ReadonlySet<Form> = new Set(['connect', 'sni']);

/** In the order of the rules; left out is what an earlier rule permits without limits. */
export function listPermits(config: Config): Permit[] {
  const unlimited = new Set<string>();
  return config.rules.flatMap((rule, index) => {
    const isLimited = [rule.methods, rule.paths, rule.from, rule.until].some((limit) => limit !== null);
    return config.clients
      .filter(({ name }) => rule.clients.includes(name))
      .flatMap((client) =>
        config.destinations
          .filter(({ name }) => rule.destinations.includes(name))
          .flatMap((destination) => {
            const pair = `${client.name} ${destination.name}`;
            if (unlimited.has(pair)) return [];
            if (!isLimited) unlimited.add(pair);
            return [permitOf(client, destination, rule, `rules[${index}]`)];
          }),
      )
      .filter(({ forms }) => forms.length > 0);
  });
}

function permitOf(client: ClientConfig, destination: DestinationConfig, rule: RuleConfig, place: string): Permit {
  const { gateway, name, hosts, ports, addresses, via, resolve, proxyProtocol } = destination;
  const hidden = rule.methods !== null || rule.paths !== null;
  return {
    client: client.name,
    clientAddresses: client.addresses,
    clientUsers: client.basic?.map(({ user }) => user) ?? null,
    clientTokenSubjects: client.tokens?.flatMap(({ subjects }) => subjects) ?? null,
    clientCertificates: client.certificates,
    destination: name,
    hosts,
    ports,
    forms: destination.forms.filter((form) => (form !== 'gateway' || gateway !== null) && !(hidden && TUNNELS.has(form))),
    gateway: gateway === null ? null : `${gateway.prefix} -> ${gateway.scheme}://${formatAuthority(gateway.host, gateway.port)}${gateway.basePath}`,
    methods: rule.methods === null || destination.methods === null ? (rule.methods ?? destination.methods) : common(rule.methods, destination.methods),
    paths: rule.paths ?? destination.paths,
    pathsWithin: rule.paths === null ? null : destination.paths,
    from: iso(rule.from),
    until: iso(rule.until),
    addresses,
    via: via.map((hop) => hop.name),
    resolve,
    proxyProtocol: proxyProtocol === 'off' ? null : proxyProtocol,
    rule: place,
  };
}

function common(one: readonly string[], other: readonly string[]): string[] {
  return one.filter((method) => other.includes(method));
}

function iso(moment: number | null): string | null {
  return moment === null ? null : new Date(moment).toISOString();
}

/** One row per permit, lists one entry per line. Colours only on a terminal. */
export function permitTable(permits: readonly Permit[], stream: NodeJS.WritableStream): string {
  const colours = 'isTTY' in stream && stream.isTTY === true;
  const timed = permits.some(({ from, until }) => from !== null || until !== null);
  const table = new Table({
    head: ['client', 'from', 'may reach', 'hosts', 'ports', 'by', 'methods', 'paths', 'that resolve to', ...(timed ? ['when'] : [])],
    style: colours ? { head: ['bold'], border: ['dim'], compact: false } : { head: [], border: [] },
  });
  for (const permit of permits) {
    const forms = permit.forms.map((form) => (form === 'gateway' ? `gateway ${permit.gateway?.split(' ')[0] ?? ''}` : form));
    const paths = permit.pathsWithin === null ? permit.paths : [...(permit.paths ?? []), 'within', ...permit.pathsWithin];
    table.push([
      permit.client,
      originLines(permit).join('\n'),
      [permit.destination, ...(permit.proxyProtocol === null ? [] : ['told the client', `by PROXY ${permit.proxyProtocol}`])].join('\n'),
      permit.hosts.join('\n'),
      permit.ports.join('\n'),
      forms.join('\n'),
      permit.methods?.join('\n') ?? 'any',
      paths?.join('\n') ?? 'any',
      addressLines(permit).join('\n'),
      ...(timed ? [whenLines(permit).join('\n')] : []),
    ]);
  }
  return table.toString();
}

function originLines({ clientAddresses, clientUsers, clientTokenSubjects, clientCertificates }: Permit): string[] {
  return [
    ...(clientAddresses ?? ['anywhere']),
    ...(clientUsers === null ? [] : ['as user', ...clientUsers]),
    ...(clientTokenSubjects === null ? [] : ['with token of', ...clientTokenSubjects]),
    ...(clientCertificates === null ? [] : ['with certificate', ...clientCertificates]),
  ];
}

function addressLines({ addresses, via, resolve }: Permit): string[] {
  const judged = addresses ?? ['public', 'addresses'];
  if (via.length === 0) return [...judged];
  return [...(resolve === 'parent' ? ['what the', 'parent finds'] : judged), 'by way of', ...via];
}

function whenLines({ from, until }: Permit): string[] {
  if (from === null && until === null) return ['always'];
  return [...(from === null ? [] : [`from ${from.slice(0, 16)}Z`]), ...(until === null ? [] : [`until ${until.slice(0, 16)}Z`])];
}
