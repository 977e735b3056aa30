/** Turns the permitted content of a configuration into tables with constant-time look-up, and says whether a rule of it applies to a request. */
import type { ClientConfig, Config, DestinationConfig, Form, RuleConfig } from '../config/config.ts';
import { canonicalPath, findAmbiguity } from '../targets/path.ts';
import { allowedMethods } from '../targets/request-target.ts';
import { buildClientTable, type ClientTable } from './client-table.ts';
import { compilePaths, matchesPath, type PathPatterns } from './patterns.ts';
import { buildHostTable, compilePorts, type HostTable, type PortSet, tlsPortOf } from './tables.ts';
import type { Allow, Ask } from './verdict.ts';

/** The part of a configuration that decides on requests. */
export type PolicyConfig = Pick<Config, 'mode' | 'clients' | 'destinations' | 'rules'>;

/** What a client may use. */
export interface CompiledClient {
  readonly config: ClientConfig;
  /** By index of the destination: the rules that join the two, in file order; nothing where none does. Shared by clients that are in the same rules. */
  readonly rules: readonly Chain[];
  /**
   * Verdicts by destination and rule, created on first use and reused: created
   * in advance they would be clients × destinations objects, most of them never
   * used.
   */
  readonly allows: Map<number, Allow>;
}

/** Rules that join one client with one destination, in file order; empty where none does. */
export type Chain = readonly CompiledRule[];

/** A rule as used by decisions; methods and paths are null where it takes any. */
export interface CompiledRule {
  readonly config: RuleConfig;
  readonly index: number;
  /** `rules[0]`. */
  readonly name: string;
  /** Ms since the epoch. */
  readonly from: number;
  readonly until: number;
  readonly methods: ReadonlySet<string> | null;
  readonly paths: PathPatterns | null;
}

/** A destination as used by decisions; methods and paths are null where it takes any. */
export interface CompiledDestination {
  readonly config: DestinationConfig;
  readonly index: number;
  readonly ports: PortSet;
  readonly forms: ReadonlySet<Form>;
  readonly methods: ReadonlySet<string> | null;
  readonly paths: PathPatterns | null;
  /** Whether another destination has some of its hosts too: a change of one may then take requests over from the other. */
  readonly shared: boolean;
}

/** The target of a request that a mesh has steered here. */
export interface SteeredOrigin {
  readonly scheme: 'http' | 'https';
  /** Canonical. */
  readonly host: string;
  readonly port: number;
}

/** Immutable; a reload compiles a new one. Its fields are used only by the files in this directory. */
export interface Policy {
  /** Whether a canonical host is in any destination. */
  hasHost(host: string): boolean;
  /** The port for a connection that names only a host, in its ClientHello. */
  tlsPort(host: string): number;
  /** The target of a request steered here by its Host: over TLS, if a destination with this host says so. */
  steered<Origin extends SteeredOrigin>(origin: Origin): Origin;
  readonly mode: Config['mode'];
  /** Whether any destination or rule is in report mode. */
  readonly reportsSome: boolean;
  readonly table: ClientTable;
  readonly hosts: HostTable;
  readonly clients: readonly CompiledClient[];
  readonly destinations: readonly CompiledDestination[];
  readonly rules: readonly CompiledRule[];
}

/** @throws {TypeError} when the configuration has not been checked: a CIDR, host or name in it is invalid */
export function compilePolicy(config: PolicyConfig): Policy {
  const { mode, clients, destinations } = config;
  const hosts = buildHostTable(destinations.map((destination) => destination.hosts));
  const shared = hosts.shared();
  const rules = config.rules.map(compileRule);
  return {
    hasHost: (host) => hosts.find(host).length > 0,
    tlsPort: (host) => tlsPortOf(hosts, destinations, host),
    steered: (origin) => {
      const port =
        origin.scheme === 'https'
          ? null
          : hosts.find(origin.host).reduce<number | null>((found, index) => found ?? destinations[index]?.upgradePlainHttp ?? null, null);
      return port === null ? origin : { ...origin, scheme: 'https', port };
    },
    mode,
    reportsSome: [...destinations, ...config.rules].some(({ report }) => report),
    table: buildClientTable(clients),
    hosts,
    clients: compileClients(config, rules),
    destinations: destinations.map((destination, index) => compileDestination(destination, index, shared.has(index))),
    rules,
  };
}

function compileDestination(config: DestinationConfig, index: number, shared: boolean): CompiledDestination {
  return { config, index, shared, ports: compilePorts(config.ports), forms: new Set(config.forms), ...compileContent(config) };
}

function compileRule(config: RuleConfig, index: number): CompiledRule {
  return {
    config,
    index,
    name: `rules[${index}]`,
    from: config.from ?? -Infinity,
    until: config.until ?? Infinity,
    ...compileContent(config),
  };
}

function compileContent({ methods, paths }: Pick<RuleConfig, 'methods' | 'paths'>): Pick<CompiledRule, 'methods' | 'paths'> {
  return { methods: methods === null ? null : allowedMethods(methods), paths: paths === null ? null : compilePaths(paths) };
}

/** Where no rule joins a client and a destination. */
export const NO_RULE: Chain = [];

function compileClients({ clients, destinations }: PolicyConfig, rules: readonly CompiledRule[]): CompiledClient[] {
  const destinationIndexes = new Map(destinations.map(({ name }, index) => [name, index]));
  const rulesOf = new Map<string, CompiledRule[]>(clients.map(({ name }) => [name, []]));
  const destinationsOf = rules.map((rule) => {
    for (const name of new Set(rule.config.clients)) requireFound(rulesOf.get(name), `clients.${name}`).push(rule);
    return [...new Set(rule.config.destinations)].map((name) => requireFound(destinationIndexes.get(name), `destinations.${name}`));
  });

  const rows = new Map<string, readonly Chain[]>();
  return clients.map((config) => {
    const own = rulesOf.get(config.name) ?? [];
    const key = own.map(({ index }) => index).join();
    let row = rows.get(key);
    if (row === undefined) {
      const chains: CompiledRule[][] = [];
      for (const rule of own) for (const destination of destinationsOf[rule.index] ?? []) (chains[destination] ??= []).push(rule);
      rows.set(key, chains);
      row = chains;
    }
    return { config, rules: row, allows: new Map<number, Allow>() };
  });
}

function requireFound<T>(found: T | undefined, what: string): T {
  if (found === undefined) throw new TypeError(`A rule names ${what}, which does not exist`);
  return found;
}

// Whether a rule applies to a request: its time, its methods and its paths.

/** Why a rule does not apply, in the order of the checks. */
export type Miss = 'early' | 'late' | 'hidden' | 'method' | 'path' | 'ambiguous';

/** How far a rule got before it failed: the rule that almost applied is blamed. */
export const REACH: Readonly<Record<Miss, number>> = { early: 1, late: 1, hidden: 2, method: 3, path: 4, ambiguous: 5 };

/** The rule that almost applied: the first of those that got furthest; null when one applies or there are none. */
export function furthestMiss(
  rules: readonly CompiledRule[],
  ask: Ask,
  destination: DestinationConfig,
): { readonly rule: CompiledRule; readonly miss: Miss } | null {
  let furthest: { rule: CompiledRule; miss: Miss } | null = null;
  for (const rule of rules) {
    const miss = missOf(rule, ask, destination);
    if (miss === null) return null;
    if (furthest === null || REACH[miss] > REACH[furthest.miss]) furthest = { rule, miss };
  }
  return furthest;
}

/**
 * Null when the rule applies. A rule that lists methods or paths permits only
 * these, so it permits nothing where they are hidden, as inside a tunnel.
 */
export function missOf(rule: CompiledRule, ask: Ask, destination: DestinationConfig): Miss | null {
  if (ask.now < rule.from) return 'early';
  if (ask.now >= rule.until) return 'late';
  const { methods, paths } = rule;
  if (methods === null && paths === null) return null;
  const tunnel = ask.form === 'connect';
  if (methods !== null) {
    if (tunnel || ask.method === null) return 'hidden';
    if (!methods.has(ask.method)) return 'method';
  }
  if (paths === null) return null;
  if (tunnel || ask.path === null) return 'hidden';
  if (ambiguityOf(ask.path, ask, destination) !== null) return 'ambiguous';
  return matchesPath(paths, canonicalPath(ask.path)) ? null : 'path';
}

/** Why the path is ambiguous, given what the destination permits (null: none is known); null when it is not. */
export function ambiguityOf(path: string, { form }: Pick<Ask, 'form'>, destination: DestinationConfig | null): string | null {
  return findAmbiguity(path, form === 'gateway' ? destination?.gateway?.encodedSlashes : 'refuse');
}
