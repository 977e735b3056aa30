/** Turns the permitted content of a configuration into tables that answer in constant time. */
import { createHash } from 'node:crypto';
import type { ClientConfig, Config, DestinationConfig, HttpForm } from '../config/config.ts';
import { buildCidrTable, type CidrTable } from './cidr-table.ts';
import { buildHostTable, type HostTable } from './host-table.ts';
import { compilePaths, type PathPatterns } from './path-match.ts';
import type { Allow } from './verdict.ts';

export type PolicyConfig = Pick<Config, 'mode' | 'clients' | 'destinations' | 'rules'>;

/** What a client may use, by index of the destination. */
export interface CompiledClient {
  readonly config: ClientConfig;
  /** The first rule for each destination; NO_RULE where there is none. Shared by clients that stand in the same rules. */
  readonly rules: Int32Array;
  /**
   * Answers by index of the destination, made when first given and reused from then on:
   * made in advance they would be clients × destinations objects, most of them never used.
   */
  readonly allows: Map<number, Allow>;
}

export interface CompiledDestination {
  readonly config: DestinationConfig;
  readonly ports: ReadonlySet<number>;
  readonly forms: ReadonlySet<HttpForm>;
  readonly methods: ReadonlySet<string> | null;
  readonly paths: PathPatterns | null;
}

/** Immutable; a reload compiles a new one. Only decide.ts looks inside. */
export interface Policy {
  /** Same permitted content, same hash: 16 hexadecimal digits of its SHA-256. */
  readonly hash: string;
  /** Whether a canonical host is in any destination. */
  hasHost(host: string): boolean;
  readonly addresses: CidrTable;
  readonly hosts: HostTable;
  readonly clients: readonly CompiledClient[];
  readonly destinations: readonly CompiledDestination[];
}

export const NO_RULE = -1;

/** @throws {TypeError} when the configuration has not been checked: a CIDR, host or name in it means nothing */
export function compilePolicy(config: PolicyConfig): Policy {
  const hosts = buildHostTable(config.destinations.map((destination) => destination.hosts));
  return {
    hash: hashOf(config),
    hasHost: (host) => hosts.find(host).length > 0,
    addresses: buildCidrTable(config.clients.map((client) => client.addresses ?? [])),
    hosts,
    clients: compileClients(config),
    destinations: config.destinations.map(compileDestination),
  };
}

function compileDestination(config: DestinationConfig): CompiledDestination {
  return {
    config,
    ports: new Set(config.ports),
    forms: new Set(config.forms),
    methods: config.methods === null ? null : allowedMethods(config.methods),
    paths: config.paths === null ? null : compilePaths(config.paths),
  };
}

/** HEAD asks for what GET would answer, without the content (RFC 9110 §9.3.2), so who may GET may HEAD. */
function allowedMethods(methods: readonly string[]): ReadonlySet<string> {
  return new Set(methods.includes('GET') ? [...methods, 'HEAD'] : methods);
}

function compileClients({ clients, destinations, rules }: PolicyConfig): CompiledClient[] {
  const destinationIndexes = new Map(destinations.map(({ name }, index) => [name, index]));
  const rulesOf = new Map<string, number[]>(clients.map(({ name }) => [name, []]));
  const destinationsOf = rules.map((rule, index) => {
    for (const name of new Set(rule.clients)) known(rulesOf.get(name), `clients.${name}`).push(index);
    return rule.destinations.map((name) => known(destinationIndexes.get(name), `destinations.${name}`));
  });

  const rows = new Map<string, Int32Array>();
  return clients.map((config) => {
    const own = rulesOf.get(config.name) ?? [];
    const key = own.join();
    let row = rows.get(key);
    if (row === undefined) {
      row = new Int32Array(destinations.length).fill(NO_RULE);
      // Backwards, so that the first rule in the file has the last word and is the one named.
      for (const rule of own.toReversed()) for (const destination of destinationsOf[rule] ?? []) row[destination] = rule;
      rows.set(key, row);
    }
    return { config, rules: row, allows: new Map<number, Allow>() };
  });
}

function known<T>(found: T | undefined, what: string): T {
  if (found === undefined) throw new TypeError(`A rule names ${what}, which does not exist`);
  return found;
}

/** Over what is permitted only: no key material, nothing about limits or logs; the order inside a list means nothing. */
function hashOf({ clients, destinations, rules }: PolicyConfig): string {
  const content = {
    clients: clients.map(({ name, addresses }) => [name, sorted(addresses)]),
    destinations: destinations.map((destination) => [
      destination.name,
      sorted(destination.hosts),
      sorted(destination.ports.map(String)),
      sorted(destination.addresses),
      sorted(destination.forms),
      gatewayContent(destination),
      sorted(destination.methods),
      sorted(destination.paths),
    ]),
    rules: rules.map((rule) => [sorted(rule.clients), sorted(rule.destinations)]),
  };
  return createHash('sha256').update(JSON.stringify(content)).digest('hex').slice(0, 16);
}

function gatewayContent({ gateway }: DestinationConfig): unknown[] | null {
  return gateway === null ? null : [gateway.prefix, gateway.scheme, gateway.host, gateway.port, gateway.basePath];
}

function sorted(list: readonly string[] | null): string[] | null {
  return list === null ? null : [...list].sort();
}
