/** Valid configuration that was probably not meant. Longer than 400 lines: most of it is the texts of the warnings. */
import { closestMatch } from 'leven';
import { parseIp, prefixBits } from '../targets/ip-address.ts';
import { allowedMethods } from '../targets/request-target.ts';
import { type Config, type DestinationConfig, type Form, FORMS, type ProbeConfig } from './config.ts';
import { nearest, type Period, type Warn } from './finding.ts';
import type { Environment, Tree } from './read-tree.ts';
import { ENDS_SOON, tellPurpose } from './rule-ends.ts';

/** Forms whose content cannot be checked. */
export const TUNNEL_FORMS: ReadonlySet<Form> = new Set(['connect', 'sni']);

/** All warnings but those of certificates and other files, which are found when these are read. */
export function warnAbout(config: Config, warn: Warn): void {
  warnAboutEmptiness(config, warn);
  warnAboutReport(config, warn);
  warnAboutRules(config, warn);
  warnAboutOrder(config, warn);
  warnAboutPeers(config, warn);
  warnAboutTlsServer(config, warn);
  warnAboutUnused(config, warn);
  warnAboutClients(config, warn);
  warnAboutCertificates(config, warn);
  warnAboutProof(config, warn);
  warnAboutPorts(config, warn);
  warnAboutTracing(config, warn);
  for (const destination of config.destinations) warnAboutDestination(destination, config, warn);
  warnAboutRuleEnds(config, warn);
}

function warnAboutEmptiness({ clients, destinations, rules }: Config, warn: Warn): void {
  const empty = [
    clients.length === 0 ? 'clients' : '',
    destinations.length === 0 ? 'destinations' : '',
    rules.length === 0 ? 'rules' : '',
  ].filter((name) => name !== '');
  if (empty.length > 0)
    warn(
      'no-effect',
      [],
      `There are no ${empty.join(', no ')}: no rule permits a request.`,
      'Name who may call what: clients, destinations, and rules that join them.',
    );
}

function warnAboutUnused({ clients, destinations, rules }: Config, warn: Warn): void {
  if (rules.length === 0) return;
  for (const [section, what, entries] of [
    ['clients', 'client', clients],
    ['destinations', 'destination', destinations],
  ] as const) {
    const used = new Set(rules.flatMap((rule) => rule[section]));
    for (const { name } of entries.filter((entry) => !used.has(entry.name)))
      warn(
        'no-effect',
        [section, name],
        `No rule names ${what} ${name}: none permits a request ${what === 'client' ? 'of' : 'to'} it.`,
        'Add it to a rule, or take it out.',
        'key',
      );
  }
}

function warnAboutReport({ mode, destinations }: Config, warn: Warn): void {
  if (mode === 'report') {
    warn(
      'report-mode',
      ['mode'],
      'Report mode: every peer that reaches the proxy may use any public host; what the policy denies is only logged.',
      'Write mode: enforce once the log shows what you expect.',
    );
    return;
  }
  for (const { name, report } of destinations) {
    if (report)
      warn(
        'report-mode',
        ['destinations', name, 'report'],
        `Report mode: every peer that reaches the proxy may use ${name}; what the policy denies is only logged.`,
        'Take report out once the log shows what you expect.',
      );
  }
}

/** Rules in report mode, and those that have ended or soon will. */
function warnAboutRuleEnds({ mode, rules }: Config, warn: Warn): void {
  rules.forEach((rule, index) => {
    const { report, from, until } = rule;
    const warnOfReport = (kind: 'report-mode' | 'no-effect', start: string, period: Period): void => {
      warn(
        kind,
        ['rules', index, 'report'],
        `Report mode${start}: the clients of this rule may send any request to its destinations; what the policy denies is only logged.`,
        'Take report out once the log shows what you expect.',
        'value',
        period,
      );
    };
    if (report && mode !== 'report') {
      if (from !== null) warnOfReport('no-effect', ` from ${new Date(from).toISOString()} on`, { until: from });
      warnOfReport('report-mode', '', { from, until });
    }
    if (until === null) return;
    const at = new Date(until).toISOString();
    const path = ['rules', index, 'until'];
    warn(
      'expires-soon',
      path,
      `The rule ends at ${at}: from then on it permits nothing, and its tunnels are closed.${tellPurpose(rule)}`,
      'Write a later moment if it is still needed.',
      'value',
      { from: until - ENDS_SOON, until },
    );
    warn(
      'expired',
      path,
      `The rule has ended: it permits nothing since ${at}.${tellPurpose(rule)}`,
      'Write a later moment, or take the rule out.',
      'value',
      { from: until },
    );
  });
}

function warnAboutRules({ rules, destinations }: Config, warn: Warn): void {
  const byName = new Map(destinations.map((destination) => [destination.name, destination]));
  rules.forEach(({ methods, paths, destinations: named }, index) => {
    const limits = [methods === null ? '' : 'methods', paths === null ? '' : 'paths'].filter((name) => name !== '');
    const never = limits.length === 0 ? undefined : named.find((name) => byName.get(name)?.forms.every((form) => TUNNEL_FORMS.has(form)));
    if (never !== undefined) {
      warn(
        'no-effect',
        ['rules', index, limits[0] ?? ''],
        `A rule with ${limits.join(' and ')} permits no tunnel, and ${never} takes nothing else.`,
        `Take ${limits.join(' and ')} out, or add forms to destinations.${never}.forms.`,
        'key',
      );
    }
    const own = allowedMethods(methods ?? []);
    const isApart = (theirs: readonly string[] | null = null): boolean => theirs !== null && allowedMethods(theirs).isDisjointFrom(own);
    const apart = methods === null ? undefined : named.find((name) => isApart(byName.get(name)?.methods));
    if (apart !== undefined)
      warn(
        'no-effect',
        ['rules', index, 'methods'],
        `None of these methods is among those of ${apart}: the rule permits no request to it.`,
        `Write methods that destinations.${apart}.http.methods has, or take them out in one of the two places.`,
        'key',
      );
  });
}

/** Rules to which an earlier one without methods, paths and times leaves nothing to do, and rates that count nothing. */
function warnAboutOrder({ rules }: Config, warn: Warn): void {
  const open = new OpenRules();
  const namesOf = (clients: readonly string[], destinations: readonly string[]): string[] => [
    ...clients.map((name) => `client ${name}`),
    ...destinations.map((name) => `destination ${name}`),
  ];
  rules.forEach(({ rate, report, clients, destinations, methods, paths, from, until }, index) => {
    const names = namesOf(clients, destinations);
    const wider = rate !== null || report ? undefined : open.find(names);
    if (wider !== undefined)
      warn(
        'no-effect',
        ['rules', index],
        `rules[${wider}] comes first, and permits all that this rule does.`,
        `Limit rules[${wider}], or take rules[${index}] out.`,
        'key',
      );
    const path = ['rules', index, 'rate'];
    const passed = clients.values().flatMap((client) =>
      destinations.flatMap((name) => {
        const first = open.find(namesOf([client], [name]));
        return first === undefined ? [] : { client, name, first };
      }),
    );
    for (const { client, name, first } of passed.take(rate === null ? 0 : 1)) {
      const [how, instead] =
        (rules[first]?.rate ?? null) === null
          ? ['without limits', 'give that rule a rate']
          : ['at a rate of its own', 'take this rate out'];
      warn(
        'no-effect',
        path,
        `rules[${first}] comes first, and lets ${client} use ${name} ${how}: what it permits is not counted here.`,
        `Put rules[${index}] before it, or ${instead}.`,
        'key',
      );
    }
    const scopes = [rate?.perAddress ?? null, rate?.perClient ?? null].filter((scope) => scope !== null);
    if (rate?.whenExhausted === 'cut' && scopes.every(({ sent, received }) => sent === null && received === null)) {
      warn(
        'no-effect',
        [...path, 'whenExhausted'],
        'The rule limits no bytes, so nothing is cut.',
        'Add sent or received, or take whenExhausted out.',
        'key',
      );
    }
    for (const per of ['perAddress', 'perClient'] as const) {
      if ((rate?.[per]?.tunnels ?? null) !== null && (methods !== null || paths !== null))
        warn(
          'no-effect',
          [...path, per, 'tunnels'],
          'A rule with methods or paths permits no tunnel, so none is counted.',
          'Take tunnels out.',
          'key',
        );
    }
    if (methods !== null || paths !== null || from !== null || until !== null) return;
    open.add(index, names);
  });
}

/** Rules that permit all their clients everything at all their destinations. A look-up takes the shortest list: a file may have thousands of rules of one client. */
class OpenRules {
  /** By each client and destination that the rule names. */
  readonly #known = new Map<string, { readonly place: number; readonly names: ReadonlySet<string> }[]>();

  add(place: number, names: readonly string[]): void {
    const rule = { place, names: new Set(names) };
    for (const name of names) (this.#known.get(name) ?? this.#known.set(name, []).get(name))?.push(rule);
  }

  /** The place of the first that names all of these; undefined: none. */
  find(names: readonly string[]): number | undefined {
    const [shortest] = names.map((name) => this.#known.get(name) ?? []).sort((one, other) => one.length - other.length);
    return shortest?.find((rule) => names.every((name) => rule.names.has(name)))?.place;
  }
}

function warnAboutPeers({ listeners }: Config, warn: Warn): void {
  const all = (['http', 'tls'] as const).flatMap((kind) =>
    listeners[kind].map((listener, index) => ({ ...listener, path: ['listeners', kind, index, 'trustedPeers'] })),
  );
  all.forEach(({ trustedPeers, proxyProtocol, believe, path }) => {
    if (trustedPeers.length > 0 && proxyProtocol === 'off' && believe.length === 0)
      warn(
        'no-effect',
        path,
        'trustedPeers has no effect without proxyProtocol or believe.',
        'Add proxyProtocol: from-trusted, or believe: [x-forwarded-for].',
        'key',
      );
    const everybody = trustedPeers.find((cidr) => cidr.endsWith('/0'));
    if (everybody !== undefined)
      warn('open', path, `${everybody} lets every peer claim any client address.`, 'Write the addresses of the load balancer.');
  });
}

function warnAboutTlsServer({ listeners, tlsServer }: Config, warn: Warn): void {
  if (tlsServer === null || listeners.tls.some(({ forms }) => forms.some((form) => form !== 'sni'))) return;
  const none = listeners.tls.length === 0 ? 'There is no TLS listener' : 'No TLS listener takes anything but sni';
  warn(
    'no-effect',
    ['tlsServer'],
    `${none}: no TLS ends here.`,
    'Add a listener under listeners.tls, or forms to one, or take tlsServer out.',
    'key',
  );
}

function warnAboutCertificates({ listeners, tlsServer, clients }: Config, warn: Warn): void {
  const asked = tlsServer !== null && tlsServer.clientCertificate !== 'none';
  if (asked || [...listeners.http, ...listeners.tls].some(({ believe }) => believe.includes('x-forwarded-client-cert'))) return;
  for (const { name, certificates } of clients) {
    if (certificates === null) continue;
    const instead =
      'Write tlsServer.clientCertificate: request, or believe: [x-forwarded-client-cert] for the trusted peers of a listener.';
    warn(
      'no-effect',
      ['clients', name, 'certificates'],
      `No listener receives client certificates: no request matches client ${name}.`,
      instead,
      'key',
    );
  }
}

function warnAboutProof({ sourceIp, destinations }: Config, warn: Warn): void {
  if (sourceIp === null) return;
  if (sourceIp.probe === null)
    warn(
      'source-ip',
      ['sourceIp', 'expected'],
      'No probe is configured, so the address is not proven.',
      'Add sourceIp.probe.url: an endpoint that answers with the address it saw.',
    );
  else if (sourceIp.expected.length === 0)
    warn(
      'source-ip',
      ['sourceIp', 'probe'],
      'The address that is seen is reported, and compared with nothing.',
      'Add sourceIp.expected.',
      'key',
    );
  const wayOf = ({ via }: Pick<ProbeConfig, 'via'>): string => via.map(({ name }) => name).join(', ');
  const { probe } = sourceIp;
  if (probe === null || destinations.some((destination) => wayOf(destination) === wayOf(probe))) return;
  warn(
    'source-ip',
    ['sourceIp', 'probe'],
    'The probe takes another route than every destination, so it checks the address of another route.',
    'Write the via of the destination under sourceIp.probe, too.',
    'key',
  );
}

function warnAboutPorts({ nat, limits }: Config, warn: Warn): void {
  const { ports, replicasPerNode } = nat;
  if (ports === null) return;
  const own = Math.floor(ports / replicasPerNode);
  if (own === 0) {
    warn(
      'capacity',
      ['nat', 'replicasPerNode'],
      `${replicasPerNode} replicas cannot share ${ports} ports: each gets none, and every connection is refused.`,
      'Raise nat.ports, or write how many replicas a node runs.',
    );
    return;
  }
  const wanted = limits.tunnels + limits.upstreamConnections;
  if (wanted <= own) return;
  const share = replicasPerNode > 1 ? 'a replica has' : own === 1 ? 'there is' : 'there are';
  warn(
    'capacity',
    ['nat', 'ports'],
    `${limits.tunnels} tunnels and ${limits.upstreamConnections} pooled connections may be open towards one address, and ${share} ${own} ${own === 1 ? 'port' : 'ports'}: what exceeds them is refused.`,
    `Lower limits.tunnels${limits.upstreamConnections < own ? '' : ' and limits.upstreamConnections'}, so that pooled connections always find a port, or give the node more ports.`,
  );
}

/** The first matching client wins, so a range inside an earlier one is never reached. */
function warnAboutClients({ clients }: Config, warn: Warn): void {
  const earlier = new EarlierRanges();
  for (const { name, addresses, basic, tokens, certificates } of clients) {
    const byAddressAlone = basic === null && tokens === null && certificates === null;
    addresses?.forEach((cidr, index) => {
      const path = ['clients', name, 'addresses', index];
      if (byAddressAlone && cidr.endsWith('/0'))
        warn('open', path, `${cidr} makes every address the client ${name}.`, 'Write the ranges of the pods that should call.');
      const cover = earlier.firstCover(cidr);
      if (cover !== undefined) {
        warn(
          'no-effect',
          path,
          `${cidr} lies inside ${cover.cidr} of client ${cover.name}, which comes first: the first match wins.`,
          `Put ${name} before ${cover.name}, or make the ranges distinct.`,
        );
      }
    });
    if (byAddressAlone) for (const cidr of addresses ?? []) earlier.add(name, cidr);
  }
}

interface EarlierRange {
  readonly name: string;
  readonly cidr: string;
  readonly order: number;
}

/** Ranges of clients, found from ranges inside them: a look-up takes one step for each prefix length in use, however many ranges there are. */
class EarlierRanges {
  /** By the common prefix of its addresses. */
  readonly #byBits = new Map<string, EarlierRange>();
  readonly #lengths = new Set<number>();

  add(name: string, cidr: string): void {
    const bits = prefixBits(cidr);
    if (this.#byBits.has(bits)) return;
    this.#lengths.add(bits.length);
    this.#byBits.set(bits, { name, cidr, order: this.#byBits.size });
  }

  /** The first one that contains the whole of this range; undefined: none. */
  firstCover(cidr: string): EarlierRange | undefined {
    const bits = prefixBits(cidr);
    let first: EarlierRange | undefined;
    for (const length of this.#lengths) {
      const found = length > bits.length ? undefined : this.#byBits.get(bits.slice(0, length));
      if (found !== undefined && (first === undefined || found.order < first.order)) first = found;
    }
    return first;
  }
}

function warnAboutTracing({ tracing, cluster }: Config, warn: Warn): void {
  if (tracing === null && cluster.collector !== null)
    warn(
      'no-effect',
      ['cluster', 'collector'],
      'No request is traced, so no collector is called.',
      'Add tracing.endpoint, or take cluster.collector out.',
      'key',
    );
}

function warnAboutDestination(destination: DestinationConfig, config: Config, warn: Warn): void {
  const path = ['destinations', destination.name];
  const judged = [destination.methods === null ? '' : 'methods', destination.paths === null ? '' : 'paths'].filter((name) => name !== '');
  const tunnels = destination.forms.filter((form) => TUNNEL_FORMS.has(form));
  const forms = destination.forms.filter((form) => form !== 'gateway' || destination.gateway !== null);
  if (judged.length > 0 && tunnels.length > 0) {
    const others = forms.filter((form) => !TUNNEL_FORMS.has(form));
    const what = `${upperFirst(judged.join(' and '))} of ${destination.name} are not checked inside a tunnel, and ${tunnels.join(' and ')} ${tunnels.length === 1 ? 'is' : 'are'} among its forms.`;
    warn(
      'no-effect',
      [...path, 'http'],
      what,
      `Write forms: [${others.length === 0 ? 'forward, host-routed' : others.join(', ')}] under ${destination.name} to hold every request to them.`,
    );
  }
  const unreachable = destination.addresses === null && destination.resolve === 'here' ? destination.hosts.find(isInternal) : undefined;
  if (unreachable !== undefined) {
    warn(
      'no-effect',
      [...path, 'hosts', destination.hosts.indexOf(unreachable)],
      `${unreachable} is not a public address, and others have to be permitted: it cannot be reached.`,
      `Write addresses under ${destination.name}: all that its hosts may have, ${unreachable} among them.`,
    );
  }
  const taken = formsTaken(config);
  if (forms.length === 0) {
    warn(
      'no-effect',
      [...path, 'forms'],
      `${destination.name} accepts only the form gateway, and has no gateway: it cannot be reached.`,
      `Add destinations.${destination.name}.gateway, or other forms.`,
    );
  } else if (!forms.some((form) => taken.has(form))) {
    warn(
      'no-effect',
      [...path, 'forms'],
      `No listener takes a form that ${destination.name} accepts: it cannot be reached.`,
      'Add one of its forms to a listener under listeners.',
    );
  } else if (destination.gateway !== null && !taken.has('gateway')) {
    warn(
      'no-effect',
      [...path, 'gateway'],
      `No listener takes the gateway form: ${destination.gateway.prefix} is not served.`,
      'Add gateway to the forms of a listener under listeners.',
    );
  } else if (forms.length < destination.forms.length && destination.forms.length < FORMS.length) {
    // Without forms, all of them are accepted.
    warn(
      'no-effect',
      [...path, 'forms'],
      `${destination.name} accepts the form gateway, and has no gateway.`,
      `Add destinations.${destination.name}.gateway, or take gateway out of forms.`,
    );
  }
}

/** Ranges of which policy/address-guard.ts permits none without `addresses`. Those of rarer kinds are left out. */
const INTERNAL: ReadonlySet<string> = new Set(['private', 'uniqueLocal', 'loopback', 'linkLocal', 'carrierGradeNat']);

/** Whether a host is itself an address, and not a public one. */
function isInternal(host: string): boolean {
  return INTERNAL.has(parseIp(host)?.range() ?? '');
}

/** On all listeners together. The requests inside TLS are visible only where it is terminated. */
function formsTaken({ listeners, tlsServer }: Config): ReadonlySet<Form> {
  const inTls = listeners.tls.flatMap(({ forms }) => forms).filter((form) => form === 'sni' || tlsServer !== null);
  return new Set([...listeners.http.flatMap(({ forms }) => forms), ...inTls]);
}

function upperFirst(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

// Environment variables that look like those of the configuration, but are not read: most of them are misspelt.

/** Read by commands, or by the health check of the image, not by a file. */
const OF_COMMANDS = ['ECO_EGRESS_ADMIN', 'ECO_EGRESS_CONFIG', 'ECO_EGRESS_DEBUG'];
/** How many letters may differ if the prefix is not ours: an environment has many names, and some are similar by chance. */
const MAX_TYPOS = 2;

/** @param variables that the file uses */
export function warnAboutVariables(variables: Tree['variables'], env: Environment, warn: Warn): void {
  const used = [...variables].sort();
  const known = [...used, ...OF_COMMANDS];
  const prefixes = new Set(known.map(prefixOf).filter((prefix) => prefix !== null));
  const ofServices = serviceLinks(env);
  for (const name of Object.keys(env).sort()) {
    if (known.includes(name) || ofServices.some((start) => name.startsWith(start))) continue;
    const ours = prefixes.has(prefixOf(name) ?? '');
    const meant = ours
      ? nearest(name, known)
      : (closestMatch(
          name,
          known.filter(({ length }) => length > 3 * MAX_TYPOS),
          { maxDistance: MAX_TYPOS },
        ) ?? null);
    if (!ours && meant === null) continue;
    const instead =
      meant === null
        ? `The file uses ${used.join(', ') || 'no variable'}.`
        : `Did you mean ${meant}${(env[meant] ?? '') === '' ? '' : ', which is set too'}?`;
    warn('variable', [], `The environment variable ${name} is set, and nothing uses it.`, instead);
  }
}

/** `ECO_SIT_` of ECO_SIT_ADDRESSES; null for a name of one or two words, whose first word is not specific enough. */
function prefixOf(name: string): string | null {
  const words = name.split('_');
  return words.length < 3 ? null : `${words[0] ?? ''}_${words[1] ?? ''}_`;
}

/** Prefixes of the names that Kubernetes sets for each Service of a namespace: ECO_EGRESS_SERVICE_PORT, ECO_EGRESS_PORT_8080_TCP and so on. */
function serviceLinks(env: Environment): string[] {
  const services = Object.keys(env).flatMap((name) => /^(.+)_SERVICE_HOST$/.exec(name)?.[1] ?? []);
  return services.flatMap((service) => [`${service}_SERVICE_`, `${service}_PORT`]);
}
