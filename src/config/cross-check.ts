/** Faults that no single key shows: names that are not defined, two entries for the same thing, keys that contradict each other. */
import { formatAuthority, isThisMachine } from '../targets/host.ts';
import { parseIp } from '../targets/ip-address.ts';
import { hasPort, mergePorts, type PortEntry, sharedPorts } from '../targets/port-range.ts';
import type { ListenAddress } from './config.ts';
import type { Draft } from './draft.ts';
import { type Complain, formatPath, type Path, quoteValue, suggest } from './finding.ts';
import { readName } from './read-scalar.ts';

/** Reports each contradiction between keys. Takes a draft, so it runs even if other parts of the file are faulty. */
export function crossCheck(draft: Draft, complain: Complain): void {
  checkSharedNames(draft, complain);
  checkIdentities(draft, complain);
  checkRules(draft, complain);
  checkListeners(draft, complain);
  checkOwnNames(draft, complain);
  checkClaims(draft, complain);
  checkUpgrades(draft, complain);
  checkGateways(draft, complain);
  checkWays(draft, complain);
  checkCircuitBreakers(draft, complain);
  checkTracing(draft, complain);
  checkCluster(draft, complain);
}

function checkSharedNames(draft: Draft, complain: Complain): void {
  for (const [section, names] of [
    ['clients', draft.clients.keys()],
    ['destinations', draft.destinations.keys()],
    ['hops', draft.hops.keys()],
  ] as const) {
    for (const name of names) {
      const read = readName(name);
      if ('problem' in read) complain([section, name], read.problem, read.instead, 'key');
    }
  }
}

function checkRules(draft: Draft, complain: Complain): void {
  draft.rules.forEach((rule, index) => {
    for (const section of ['clients', 'destinations'] as const) {
      rule[section]?.forEach((name, place) => {
        if (name !== undefined) checkReference(name, section, draft, ['rules', index, section, place], complain);
      });
    }
    if (rule.from !== undefined && rule.until !== undefined && rule.from >= rule.until) {
      complain(['rules', index, 'until'], 'The rule ends before it begins.', 'Write a moment after from, or take one of the two out.');
    }
  });
}

/** Whether there is an entry of this name; if not, that is reported at `path`. */
function checkReference(
  name: string,
  section: 'clients' | 'destinations' | 'hops',
  draft: Draft,
  path: Path,
  complain: Complain,
  aim?: 'key',
): boolean {
  const entries: ReadonlyMap<string, unknown> = draft[section];
  if (entries.has(name)) return true;
  // The section itself is the mistake, and has been reported.
  if (draft.nameless.has(section)) return false;
  const known = suggest(
    name,
    [...entries.keys()].filter((key) => 'value' in readName(key)),
  );
  // What cannot be the name of an entry, such as *, was not meant as one.
  const add =
    'problem' in readName(name) ? `Name the ${section} one by one.` : `${known === '' ? 'Add' : 'Otherwise add'} it under ${section}.`;
  complain(path, `There is no entry ${quoteValue(name)} under ${section}.`, `${known} ${add}`.trimStart(), aim);
  return false;
}

function checkCircuitBreakers({ circuitBreaker, destinations }: Draft, complain: Complain): void {
  const check = (path: Path, pause: number | undefined, longestPause: number | undefined): void => {
    if (pause !== undefined && longestPause !== undefined && pause > longestPause)
      complain(path, 'The first pause is longer than the longest one.', 'Write a shorter pause, or a longer longestPause.');
  };
  check(['circuitBreaker', 'pause'], circuitBreaker.pause, circuitBreaker.longestPause);
  for (const [name, { circuitBreaker: own }] of destinations) {
    // Faults of values inherited from the common section are reported there.
    if (own?.pause === undefined && own?.longestPause === undefined) continue;
    check(
      ['destinations', name, 'circuitBreaker', own.pause === undefined ? 'longestPause' : 'pause'],
      own.pause ?? circuitBreaker.pause,
      own.longestPause ?? circuitBreaker.longestPause,
    );
  }
}

/** Plain HTTP can be read in transit. */
function checkTracing({ tracing: { endpoint, headersFile, tls } }: Draft, complain: Complain): void {
  const url = endpoint === undefined ? null : new URL(endpoint);
  if (url?.protocol !== 'http:') return;
  if (headersFile !== undefined && !isThisMachine(url))
    complain(
      ['tracing', 'headersFile'],
      'The endpoint is plain http, so these headers could be read on the way.',
      'Write an https endpoint. http with headers is only for this machine, like http://127.0.0.1:4318/v1/traces.',
    );
  const used = Object.values(tls ?? {}).some((value) => value !== undefined);
  if (used)
    complain(['tracing', 'tls'], 'The endpoint is plain http, so there is no TLS.', 'Write an https endpoint, or take tls out.', 'key');
}

function checkCluster(draft: Draft, complain: Complain): void {
  for (const section of ['clients', 'destinations', 'hops'] as const) {
    for (const [name, pods] of Object.entries(draft.cluster[section] ?? {})) {
      checkLabels(pods.labels, ['cluster', section, name, 'labels'], complain);
      checkReference(name, section, draft, ['cluster', section, name], complain, 'key');
    }
  }
  checkLabels(draft.cluster.collector?.labels, ['cluster', 'collector', 'labels'], complain);
}

/** Pods have one value of a label: of two, the last would be selected. */
function checkLabels(labels: readonly (readonly [key: string, value: string] | undefined)[] = [], path: Path, complain: Complain): void {
  const seen = new Set<string>();
  labels.forEach((label, index) => {
    if (label !== undefined && seen.has(label[0]))
      complain([...path, index], `The label ${quoteValue(label[0])} has two values, and no pod has both.`, 'Keep one of them.');
    if (label !== undefined) seen.add(label[0]);
  });
}

function checkListeners({ listeners }: Draft, complain: Complain): void {
  const taken = new Map<string, { readonly path: Path; readonly where: string }>();
  const take = (path: Path, { host, port }: ListenAddress) => {
    const { takes, meets } = claimsOf(host);
    const where = formatAuthority(host, port);
    const other = port === 0 ? undefined : meets.map((claim) => taken.get(`${port} ${claim}`)).find((found) => found !== undefined);
    if (other !== undefined)
      complain(path, `${where} is taken by ${formatPath(other.path)} already (${other.where}).`, 'Give each listener a port of its own.');
    for (const key of takes.map((claim) => `${port} ${claim}`)) if (!taken.has(key)) taken.set(key, { path, where });
  };
  for (const kind of ['http', 'tls'] as const) {
    listeners[kind]?.forEach((listener, index) => {
      if (listener !== undefined) take(['listeners', kind, index], listener.address);
    });
  }
  if (listeners.admin !== undefined) take(['listeners', 'admin'], listeners.admin.address);
}

/** What of a port an address takes, and what it collides with, as the operating system treats it: "any address" takes the port on every address, and `::` on IPv4 too. */
function claimsOf(host: string): { readonly takes: readonly string[]; readonly meets: readonly string[] } {
  const address = parseIp(host);
  if (address === null) return { takes: [host], meets: [host] };
  const [one, kind] = [address.toString(), address.kind()];
  if (address.range() !== 'unspecified') return { takes: [one, `some ${kind}`], meets: [one, `all ${kind}`, 'all ipv6'] };
  return { takes: [`some ${kind}`, `all ${kind}`], meets: [`some ${kind}`, kind === 'ipv6' ? 'some ipv4' : 'all ipv6'] };
}

/** TLS for such a name could be meant to be terminated, or to be passed on. */
function checkOwnNames({ tlsServer, destinations }: Draft, complain: Complain): void {
  tlsServer.names?.forEach((own, index) => {
    for (const [name, { hosts = [] }] of destinations) {
      if (own === undefined || !hosts.includes(own)) continue;
      complain(
        ['tlsServer', 'names', index],
        `${quoteValue(own)} is a host of destination ${name}, and cannot be a name of this proxy too.`,
        'Write a name by which clients call the proxy itself, like eco-egress.eco-egress.svc.',
      );
    }
  });
}

/** With the same host and port in two destinations, the order of the file would decide between them. */
function checkClaims(draft: Draft, complain: Complain): void {
  const claims = new Map<string, { owner: string; ports: readonly PortEntry[] }[]>();
  for (const [name, { hosts = [], ports = [] }] of draft.destinations) {
    const own = mergePorts(ports.filter((port) => port !== undefined));
    const seen = new Set<string>();
    hosts.forEach((host, index) => {
      if (host === undefined || seen.has(host)) return;
      seen.add(host);
      const others = claims.get(host) ?? [];
      for (const { owner, ports: theirs } of others) {
        const both = sharedPorts(theirs, own);
        if (both.length === 0) continue;
        complain(
          ['destinations', name, 'hosts', index],
          `${quoteValue(host)} with port ${both.join(' and ')} belongs to destination ${owner} already.`,
          'Keep each host and port in one destination; rules can name it for several clients.',
        );
      }
      // A second claim counts for nothing: of thousands, each pair would be a fault.
      if (others.every(({ ports: theirs }) => sharedPorts(theirs, own).length === 0)) others.push({ owner: name, ports: own });
      claims.set(host, others);
    });
  }
}

function checkUpgrades({ destinations }: Draft, complain: Complain): void {
  for (const [name, { upgradePlainHttp, ports }] of destinations) {
    if (upgradePlainHttp === undefined || !isWhole(ports) || hasPort(ports, upgradePlainHttp)) continue;
    complain(
      ['destinations', name, 'upgradePlainHttp'],
      `Plain HTTP would be sent on to port ${upgradePlainHttp}, which is not among the ports of ${name}.`,
      `Add ${upgradePlainHttp} to destinations.${name}.ports, or use one of: ${ports.join(', ')}.`,
    );
  }
}

function checkGateways(draft: Draft, complain: Complain): void {
  checkPrefixes(draft, complain);
  for (const [name, { gateway, hosts, ports, forms }] of draft.destinations) {
    if (gateway === undefined) continue;
    const path = ['destinations', name, 'gateway'];
    const { url } = gateway;
    if (isWhole(hosts) && !hostMatches(url.host, hosts)) {
      complain(
        [...path, 'url'],
        `Its host ${quoteValue(url.host)} is not among the hosts of ${name}.`,
        `Add it to destinations.${name}.hosts, or use one of: ${hosts.join(', ')}.`,
      );
    }
    if (isWhole(ports) && !hasPort(ports, url.port)) {
      complain(
        [...path, 'url'],
        `Its port ${url.port} is not among the ports of ${name}.`,
        `Add ${url.port} to destinations.${name}.ports, or use one of: ${ports.join(', ')}.`,
      );
    }
    if (isWhole(forms) && !forms.includes('gateway')) {
      complain(
        ['destinations', name, 'forms'],
        `${name} has a gateway, but its forms leave gateway out.`,
        'Add gateway to forms, or take the gateway key out.',
      );
    }
  }
}

/** In order, a prefix comes right before those inside it. */
function checkPrefixes({ destinations }: Draft, complain: Complain): void {
  const entries = [...destinations].flatMap(([name, { gateway }], place) =>
    gateway === undefined ? [] : [{ name, place, prefix: gateway.prefix, start: `${gateway.prefix}/` }],
  );
  let outer: (typeof entries)[number] | undefined;
  for (const entry of entries.toSorted((one, other) => Number(one.start > other.start) - Number(one.start < other.start))) {
    if (outer === undefined || !entry.start.startsWith(outer.start)) {
      outer = entry;
      continue;
    }
    const [first, second] = outer.place < entry.place ? [outer, entry] : [entry, outer];
    const how =
      first.prefix === second.prefix
        ? `is the prefix of destination ${first.name} already`
        : `and the prefix of destination ${first.name} (${first.prefix}) overlap`;
    complain(
      ['destinations', second.name, 'gateway', 'prefix'],
      `${second.prefix} ${how}.`,
      'Give the destinations prefixes that do not contain each other, like /eco and /billing.',
    );
  }
}

/** The missing name may be the faulty item of a list; an empty one has been reported. */
function isWhole<T>(list: readonly (T | undefined)[] | undefined): list is readonly T[] {
  return list !== undefined && list.length > 0 && !list.includes(undefined);
}

function hostMatches(host: string, patterns: readonly string[]): boolean {
  return patterns.some((pattern) => (pattern.startsWith('*.') ? host.endsWith(pattern.slice(1)) : pattern === host));
}

/** Checks across the clients of a file: a client identified by a user or token must have it for itself, and be identified in one way. */
function checkIdentities({ clients }: Draft, complain: Complain): void {
  const users = new Map<string, string>();
  const keysOf = new Map<string, { readonly place: string; readonly client: string }>();
  for (const [name, { basic, tokens }] of clients) {
    // RFC 9110 §11.7.2: a request has one Proxy-Authorization, so it cannot have both.
    if (basic !== undefined && tokens !== undefined) {
      complain(
        ['clients', name, 'tokens'],
        'No request can show a password and a token at once, and a client has to match in every kind it lists.',
        'Make two clients of it; a rule can name both.',
        'key',
      );
    }
    basic?.forEach((entry, index) => {
      if (entry === undefined) return;
      const owner = users.get(entry.user);
      if (owner !== undefined) {
        complain(
          ['clients', name, 'basic', index, 'user'],
          `The user ${quoteValue(entry.user)} belongs to client ${owner} already.`,
          'Give each client users of its own: whose password counts must not depend on the order.',
        );
      }
      users.set(entry.user, owner ?? name);
    });
    tokens?.forEach((entry, index) => {
      if (entry === undefined) return;
      const { issuer, jwksFile, jwksUrl } = entry;
      const path = ['clients', name, 'tokens', index];
      if (jwksFile !== undefined && jwksUrl !== undefined)
        complain([...path, 'jwksUrl'], 'The keys cannot come from a file and from a URL.', 'Keep jwksFile or jwksUrl.', 'key');
      const place = jwksFile ?? jwksUrl ?? '';
      const other = keysOf.get(issuer);
      if (other !== undefined && other.place !== place) {
        complain(
          [...path, jwksFile === undefined ? 'jwksUrl' : 'jwksFile'],
          `The keys of ${quoteValue(issuer)} come from another place for client ${other.client}: ${quoteValue(other.place)}.`,
          'Write the same place: otherwise the keys of one could sign tokens of the other client.',
        );
      }
      if (other === undefined) keysOf.set(issuer, { place, client: name });
    });
  }
}

/** Checks across hops, their users, and the proof of the source address. */
function checkWays(draft: Draft, complain: Complain): void {
  for (const [name, { via, resolve, addresses }] of draft.destinations) {
    const path = ['destinations', name];
    checkVia(via, [...path, 'via'], draft, complain);
    if (resolve !== 'parent') continue;
    if (via === undefined) complain([...path, 'resolve'], 'There is no parent to resolve the hosts.', 'Add via, or take resolve out.');
    // Only the parent would know which address it dials.
    if (addresses !== undefined)
      complain(
        [...path, 'addresses'],
        'The addresses cannot be checked where a parent resolves the hosts.',
        'Write resolve: here, or take addresses out.',
        'key',
      );
  }
  checkVia(draft.probe.via, ['sourceIp', 'probe', 'via'], draft, complain);

  for (const [name, { url, tls }] of draft.hops) {
    const schemes = new Set(url?.map((parent) => parent?.scheme));
    if (
      url !== undefined &&
      tls !== undefined &&
      Object.values(tls).some((value) => value !== undefined) &&
      !schemes.has('https') &&
      !schemes.has(undefined)
    ) {
      complain(['hops', name, 'tls'], 'None of the parents is spoken to over TLS.', 'Write https:// in url, or take tls out.', 'key');
    }
  }
  const { gateReadiness, expected } = draft.sourceIp;
  if (gateReadiness === true && (expected === undefined || draft.probe.url === undefined)) {
    complain(
      ['sourceIp', 'gateReadiness'],
      'Readiness cannot depend on a source address that is not checked.',
      `Add ${expected === undefined ? 'sourceIp.expected' : 'sourceIp.probe.url'}, or write gateReadiness: false.`,
    );
  }
}

function checkVia(via: readonly (string | undefined)[] | undefined, path: Path, draft: Draft, complain: Complain): void {
  via?.forEach((name, index) => {
    if (name === undefined || !checkReference(name, 'hops', draft, [...path, index], complain) || via.indexOf(name) === index) return;
    complain([...path, index], `The route goes through ${quoteValue(name)} twice.`, 'Name each hop once, nearest to the proxy first.');
  });
}
