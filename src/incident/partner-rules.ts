/** The rules about packets: the partner's firewall, the route to it, and the parent proxies. Each first checks whether a cause on our side explains the same. Pure. */
import type { AddressTry, DestinationEvidence, IncidentEvidence, ParentTry, TriedFault } from './evidence.ts';
import {
  byTarget,
  completeFinding,
  type EvidenceLine,
  explainedBy,
  failingSince,
  type IncidentFinding,
  type IncidentRule,
  type NamelessFinding,
  describeTcp,
  isSourceProven,
  linesOfTry,
  outcomeOfTry,
  reachedElsewhere,
  type Symptom,
} from './finding.ts';

interface Bad {
  readonly tries: readonly AddressTry[];
  /** No address of this host and port is left. */
  readonly all: boolean;
  /** Whether it was the only route tried. */
  readonly where: string;
}

/** Tries of each host and port that came to this outcome. */
function bad(destination: DestinationEvidence, is: (one: AddressTry) => boolean): Bad[] {
  return byTarget(destination).flatMap((tries) => {
    const found = tries.filter(is);
    const [first] = found;
    return first === undefined
      ? []
      : [{ tries: found, all: tries.every((one) => is(one) || outcomeOfTry(one) !== 'open'), where: first.where }];
  });
}

/** `both addresses of`, `203.0.113.10, 1 of 2 addresses of`. */
function which(destination: DestinationEvidence, groups: readonly Bad[]): string {
  const addresses = [...addressesOf(groups)];
  const wheres = new Set(groups.map(({ where }) => where));
  const all = new Set(destination.tries.filter(({ where }) => wheres.has(where)).map(({ tcp }) => tcp.address)).size;
  const places = [...wheres].join(' and ');
  if (addresses.length < all) return `${addresses.join(', ')}, ${addresses.length} of ${all} addresses of ${places}`;
  return all === 1 ? `${addresses.join()} (${places})` : all === 2 ? `both addresses of ${places}` : `all ${all} addresses of ${places}`;
}

const stateOfGroups = (groups: readonly Bad[]): 'broken' | 'degraded' => (groups.some(({ all }) => all) ? 'broken' : 'degraded');
const linesOf = (groups: readonly Bad[]): EvidenceLine[] => groups.flatMap(({ tries }) => tries.flatMap(linesOfTry));

function triesBefore({ connections, circuits }: DestinationEvidence, addresses: ReadonlySet<string>): EvidenceLine[] {
  const failed = connections.filter(({ address }) => addresses.has(address)).slice(0, 4);
  return [
    ...failed.map(({ at, address, port, from, reason }) => ({
      at,
      text: `A request met at ${address}:${port}${from === null ? '' : ` from ${from}`}: ${reason}`,
    })),
    ...circuits
      .filter(({ address }) => addresses.has(address))
      .map(({ address, port, since, reason }) => ({ at: since, text: `Requests leave ${address}:${port} alone since then: ${reason}` })),
  ];
}

function sinceOf(destination: DestinationEvidence, groups: readonly Bad[], codes: readonly string[]): number | null {
  const addresses = addressesOf(groups);
  const times = [
    ...destination.connections.filter(({ address }) => addresses.has(address)).map(({ at }) => at),
    ...destination.circuits.filter(({ address }) => addresses.has(address)).map(({ since }) => since),
  ];
  const oldest = times.length === 0 ? null : Math.min(...times);
  const failing = failingSince(destination, codes);
  return oldest === null ? failing : failing === null ? oldest : Math.max(oldest, failing);
}

/** The findings of a rule for destinations that are dialled without a parent. */
export function eachDirect(
  evidence: IncidentEvidence,
  find: (destination: DestinationEvidence) => readonly NamelessFinding[],
): NamelessFinding[] {
  return evidence.destinations.flatMap((destination) => (destination.tries.length === 0 ? [] : find(destination)));
}

/** A finding of one destination. Its confidence is always given: it may accuse a partner. */
export const finding = (
  destination: DestinationEvidence,
  found: Omit<NamelessFinding, 'destination' | 'explains' | 'alternatives' | 'next' | 'evidence'> & Partial<NamelessFinding>,
): NamelessFinding => completeFinding({ destination: destination.name, ...found });

/** The connection is refused: nothing listens there, or a firewall rejects it. */
function findRefused(evidence: IncidentEvidence, earlier: readonly IncidentFinding[]): NamelessFinding[] {
  return eachDirect(evidence, (destination) => {
    const groups = bad(destination, (one) => outcomeOfTry(one) === 'refused');
    if (groups.length === 0 || explainedBy(earlier, destination.name, 'refused') !== undefined) return [];
    const proven = findCompared(evidence, destination) !== null;
    return [
      finding(destination, {
        part: 'partner-application',
        state: stateOfGroups(groups),
        confidence: proven ? 'likely' : 'unsure',
        what: `${which(destination, groups)} refused the connection: nothing listens there, or the partner's firewall rejects us`,
        since: sinceOf(destination, groups, ['connection-refused']),
        evidence: [...linesOf(groups), ...triesBefore(destination, addressesOf(groups))],
        alternatives: [
          { part: 'partner-firewall', why: 'a firewall that rejects answers like a host on which nothing listens' },
          ...(proven
            ? []
            : [{ part: 'route' as const, why: 'a firewall on our side may reject, and nothing else was reached to compare with' }]),
        ],
        next: ['Ask the partner whether the service is up, and whether its firewall still permits our address.'],
        explains: ['refused'],
      }),
    ];
  });
}

/** What is reached from here, to compare with: elsewhere, or of the same destination; null: nothing. */
function findCompared(evidence: IncidentEvidence, { name, tries }: DestinationEvidence): string | null {
  const own = tries.find((one) => outcomeOfTry(one) === 'open');
  return reachedElsewhere(evidence, name) ?? (own === undefined ? null : `${own.tcp.address}:${own.tcp.port}`);
}

const addressesOf = (groups: readonly Bad[]): Set<string> => new Set(groups.flatMap(({ tries }) => tries.map(({ tcp }) => tcp.address)));

/** No packet comes back. The cause depends on what else is reached through the same NAT, and on the source address seen there. */
function findSilent(evidence: IncidentEvidence, earlier: readonly IncidentFinding[]): NamelessFinding[] {
  return eachDirect(evidence, (destination) => {
    const groups = bad(destination, (one) => outcomeOfTry(one) === 'silent' && one.moved === 0);
    if (groups.length === 0 || explainedBy(earlier, destination.name, 'silent') !== undefined) return [];
    const compared = findCompared(evidence, destination);
    // Where another address of the same host and port answers, the partner sees the right address.
    const told = isSourceProven(evidence) || stateOfGroups(groups) === 'degraded';
    const found = {
      state: stateOfGroups(groups),
      since: sinceOf(destination, groups, ['connect-timeout', 'upstream-silent']),
      evidence: [...linesOf(groups), ...triesBefore(destination, addressesOf(groups)), ...sourceLines(evidence)],
      explains: ['silent'] as const,
    };
    if (compared === null || !told) {
      return [
        finding(destination, {
          ...found,
          part: 'route',
          confidence: 'unsure',
          what: `packets get no answer from ${which(destination, groups)}${compared === null ? ', and nothing else was reached to compare with' : `, while ${compared} is reached, but nothing proves that the partner sees the right address`}`,
          alternatives: [
            { part: 'nat', why: 'nothing proves which source address the partner sees' },
            { part: 'partner-firewall', why: 'a firewall that drops gives no answer either' },
          ],
          next: [
            'Configure sourceIp.expected and sourceIp.probe: an echo endpoint outside decides between the NAT and the partner. Until then, run npx eco-egress verify-ip --url with one.',
          ],
        }),
      ];
    }
    return [
      finding(destination, {
        ...found,
        part: 'partner-firewall',
        confidence: 'likely',
        what: `packets get no answer from ${which(destination, groups)}, while ${compared} is reached by the same NAT${isSourceProven(evidence) ? `, and sees ${evidence.source.seen ?? '-'} as it should` : ''}`,
        alternatives: [
          { part: 'route', why: 'a link or router before the partner may drop the packets' },
          ...(evidence.source.result === 'match' ? [] : [{ part: 'nat' as const, why: 'no probe proves the source address' }]),
        ],
        next: [
          'Ask the partner whether its firewall still permits our address, with the times, addresses and ports below.',
          'A trace from the node of the proxy (tcptraceroute) shows how far packets get.',
        ],
      }),
    ];
  });
}

function sourceLines({ source }: IncidentEvidence): EvidenceLine[] {
  if (source.result === 'off') return [];
  return [
    {
      at: source.at,
      text:
        source.fault === null
          ? `The echo endpoint ${source.endpoint ?? '-'}, asked from ${source.from ?? '-'}, saw ${source.seen ?? '-'}: ${source.result}`
          : `The echo endpoint: ${source.fault.code}, ${source.fault.detail}`,
    },
  ];
}

/** A router, or the local system, reports no route. */
function findUnreachable(evidence: IncidentEvidence, earlier: readonly IncidentFinding[]): NamelessFinding[] {
  return eachDirect(evidence, (destination) => {
    const groups = bad(destination, (one) => outcomeOfTry(one) === 'unreachable' || outcomeOfTry(one) === 'unsent');
    if (groups.length === 0 || explainedBy(earlier, destination.name, 'unreachable') !== undefined) return [];
    const compared = findCompared(evidence, destination);
    return [
      finding(destination, {
        part: 'route',
        state: stateOfGroups(groups),
        confidence: compared === null ? 'unsure' : 'likely',
        what: `no route leads to ${which(destination, groups)}${compared === null ? '' : `, while ${compared} is reached`}`,
        since: sinceOf(destination, groups, ['unreachable', 'connect-timeout']),
        evidence: [...linesOf(groups), ...sourceLines(evidence)],
        alternatives: [{ part: 'partner-firewall', why: 'a router of the partner, or its firewall, may say so' }],
        next: ['Look at the routes and the network policy of the node of the proxy; then ask the partner whether its network is up.'],
        explains: ['unreachable', 'silent'],
      }),
    ];
  });
}

/** The parent proxies, each separately, and the whole route through them. */
function findParents({ destinations }: IncidentEvidence, earlier: readonly IncidentFinding[]): NamelessFinding[] {
  return destinations.flatMap((destination) => {
    const { name, parents, routes, via } = destination;
    const broken = routes.filter(({ fault }) => fault !== null);
    const state = routes.length > 0 && broken.length === routes.length ? 'broken' : 'degraded';
    const lines = [
      ...parents.flatMap(({ parent, fault, tcp }) => [
        ...tcp.map((one) => ({ at: one.at, text: `Parent ${parent}, ${describeTcp(one)}` })),
        ...(fault === null ? [] : [{ at: null, text: `Parent ${parent}: ${fault.code}, ${fault.detail}` }]),
      ]),
      ...broken.map(({ at, where, fault }) => ({
        at,
        text: `${where} through ${via.join(', ')}: ${fault?.code ?? ''}, ${fault?.detail ?? ''}`,
      })),
    ];
    const lost = parents.filter(({ fault }) => fault !== null);
    const unresolved =
      lost.length === 0 || explainedBy(earlier, name, 'name') !== undefined
        ? []
        : [
            finding(destination, {
              ...explainLost(lost),
              state,
              evidence: lines,
              since: failingSince(destination, ['hop-failed', 'hop-timeout']),
            }),
          ];
    const silent = parents.filter(({ tcp }) => tcp.length > 0 && tcp.every(({ outcome }) => outcome !== 'open'));
    const since = failingSince(destination, ['hop-failed', 'hop-timeout', 'hop-refused', 'hop-credentials', 'hop-upstream-failed']);
    if (silent.length > 0) {
      const refuse = silent.every(({ tcp }) => tcp.some(({ outcome }) => outcome === 'refused'));
      const symptom: Symptom = refuse ? 'refused' : 'silent';
      if (explainedBy(earlier, name, symptom) !== undefined) return unresolved;
      return [
        ...unresolved,
        finding(destination, {
          part: 'parent',
          state,
          confidence: refuse ? 'certain' : 'likely',
          what: `${silent.map(({ parent }) => parent).join(', ')} ${refuse ? `${silent.length === 1 ? 'refuses' : 'refuse'} connections` : 'cannot be reached'}`,
          since,
          evidence: lines,
          alternatives: refuse ? [] : [{ part: 'route', why: 'the route to the parent may be broken' }],
          next: ['Look at the parent: whether it runs, and whether its firewall permits us.'],
          explains: ['http'],
        }),
      ];
    }
    const [first] = broken;
    const fault = first?.fault ?? null;
    if (unresolved.length > 0 || fault === null || explainedBy(earlier, name, 'silent') !== undefined) return unresolved;
    const { part, what, confidence, alternatives, next } = explainParent(fault.code, via.join(', '));
    return [finding(destination, { part, state, confidence, what, since, evidence: lines, alternatives, next, explains: ['http'] })];
  });
}

/** Parents whose names lead nowhere: the rule about names is for hosts of partners. */
function explainLost(
  lost: readonly ParentTry[],
): Pick<NamelessFinding, 'part' | 'what' | 'confidence' | 'alternatives' | 'next' | 'explains'> {
  const said = ({ code }: TriedFault): string =>
    /^(?:resolver|name)-/.test(code) ? `is not resolved (${code})` : `is led to where the proxy may not connect (${code})`;
  return {
    part: 'resolver',
    confidence: 'likely',
    what: lost.map(({ parent, fault }) => `${parent}, the parent proxy, ${fault === null ? '' : said(fault)}`).join('; '),
    alternatives: [{ part: 'proxy', why: 'the URL of the hop, or its addresses, may be wrong in the configuration' }],
    next: ['Ask the resolver from the node of the proxy (dig), and those who run it.'],
    explains: ['http'],
  };
}

function explainParent(code: string, via: string): Pick<NamelessFinding, 'part' | 'what' | 'confidence' | 'alternatives' | 'next'> {
  switch (code) {
    case 'hop-credentials':
      return {
        part: 'proxy',
        what: `the parent ${via} does not accept our credentials`,
        confidence: 'likely',
        alternatives: [{ part: 'parent', why: 'it may have lost the account' }],
        next: ['Compare hops.<name>.credentialsFile with what the parent expects.'],
      };
    case 'hop-refused':
      return {
        part: 'parent',
        what: `${via} does not permit the partner`,
        confidence: 'certain',
        alternatives: [],
        next: ['Have the allowlist of the parent permit the host.'],
      };
    case 'hop-upstream-failed':
      return {
        part: 'parent',
        what: `${via} says that it cannot reach the partner`,
        confidence: 'unsure',
        alternatives: [{ part: 'partner-firewall', why: 'the partner may not answer the parent' }],
        next: ['Look at the log of the parent: it has the reason.'],
      };
    default:
      return {
        part: 'parent',
        what: `${via} accepts connections, and does not connect us to the partner (${code})`,
        confidence: 'unsure',
        alternatives: [
          { part: 'partner-firewall', why: 'the parent may be waiting for the partner' },
          { part: 'partner-application', why: 'the partner may refuse the parent' },
        ],
        next: ['Look at the log of the parent, and try the partner from its host.'],
      };
  }
}

/** In the order in which they are tried and named; rules above the packet level come between. */
export const PACKET_RULES: readonly IncidentRule[] = [
  { name: 'refused', find: findRefused },
  { name: 'unreachable', find: findUnreachable },
  { name: 'silent', find: findSilent },
];

/** After the partner's TLS. */
export const PARENT_RULES: readonly IncidentRule[] = [{ name: 'parents', find: findParents }];
