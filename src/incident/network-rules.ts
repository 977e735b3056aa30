/** The rules about causes between the proxy and the partner, on our side: the NAT, the route out, the resolver, the clock of this host. Pure. */
import { isIPv6 } from 'node:net';
import type { DestinationEvidence, IncidentEvidence, NameTry, TcpTry } from './evidence.ts';
import {
  describeTcp,
  failingSince,
  type IncidentFinding,
  type IncidentRule,
  isBroken,
  isDateFault,
  isDown,
  isLossy,
  judgeLoss,
  linesOfTry,
  type NamelessFinding,
  completeFinding,
  hostTried,
  outcomeOfTry,
  type Symptom,
} from './finding.ts';
import type { SentSegments } from './retransmits.ts';

const NETWORK: readonly Symptom[] = ['silent', 'refused', 'unreachable', 'tls', 'http'];
/** A clock that is off by more can refuse certificates that are valid. */
const CLOCK_OFF_MS = 60_000;
/** Our count of ports and the NAT's may differ slightly. */
const ALMOST_ALL_PORTS = 0.9;

/** Requests may still be served over existing connections. */
function findSource(evidence: IncidentEvidence): NamelessFinding[] {
  const { source, destinations } = evidence;
  if (source.result !== 'mismatch') return [];
  return [
    completeFinding({
      part: 'nat',
      state: destinations.some(isBroken) ? 'broken' : 'degraded',
      what: `our connections leave from ${source.seen ?? '-'}, and partners expect ${source.expected.join(' or ')}`,
      since: source.since,
      evidence: [
        { at: source.at, text: `The echo endpoint ${source.endpoint ?? '-'}, asked from ${source.from ?? '-'}, saw ${source.seen ?? '-'}` },
      ],
      next: [
        'Give the NAT the expected address back; npx eco-egress verify-ip names likely causes.',
        'Where the new address is meant, have the partner permit it, and change sourceIp.expected.',
      ],
      explains: NETWORK,
    }),
  ];
}

function findNatPorts({ destinations }: IncidentEvidence): NamelessFinding[] {
  return destinations.flatMap((destination) => {
    const {
      name,
      ports: { used, limit, refused },
    } = destination;
    if (limit === null || used < limit * ALMOST_ALL_PORTS) return [];
    return [
      completeFinding({
        part: 'nat',
        state: isDown(destination) || used >= limit ? 'broken' : 'degraded',
        confidence: 'likely',
        destination: name,
        what: `the ports of the source address are ${used < limit ? 'nearly ' : ''}used up towards ${name}: ${used} of ${limit}`,
        evidence: [
          { at: null, text: `${used} of ${limit} NAT ports in use towards one address, ${refused} dials refused since the start` },
        ],
        next: ['Use the gateway in place of a tunnel for each request, or give the NAT more ports and raise nat.ports.'],
        explains: ['silent'],
      }),
    ];
  });
}

const connectionsTried = ({ tries, parents }: DestinationEvidence): TcpTry[] => [
  ...tries.map(({ tcp }) => tcp),
  ...parents.flatMap(({ tcp }) => tcp),
];

/** For an IPv6 address, the same error means that this host has no IPv6. */
function findLocalPorts({ destinations }: IncidentEvidence): NamelessFinding[] {
  return destinations.flatMap((destination) => {
    const all = connectionsTried(destination);
    const without = all.filter(({ outcome, detail, address }) => outcome === 'unsent' && detail === 'EADDRNOTAVAIL' && !isIPv6(address));
    const [first] = without;
    if (first === undefined) return [];
    return [
      completeFinding({
        part: 'proxy',
        state: isDown(destination) || without.length === all.length ? 'broken' : 'degraded',
        destination: destination.name,
        what: `this host has no local port left towards ${first.address}:${first.port}`,
        evidence: without.map((tcp) => ({ at: tcp.at, text: describeTcp(tcp) })),
        next: [
          'Use the gateway in place of a tunnel for each request, add replicas, or widen net.ipv4.ip_local_port_range. A port is free a minute after its connection has ended (ss -tan state time-wait).',
        ],
        explains: ['unreachable', 'silent'],
      }),
    ];
  });
}

/** New connections get no answer, or a late one, while open connections work: the NAT has no port, or a firewall passes only known connections. */
function findDeadNewConnections(evidence: IncidentEvidence): NamelessFinding[] {
  const { segments } = evidence.proxy;
  const loss = judgeLoss(evidence);
  return evidence.destinations.flatMap((destination) => {
    const odd = destination.tries.filter(
      (one) => (one.moved > 0 && outcomeOfTry(one) === 'silent') || (isLossy(one) && loss === 'not-on-open'),
    );
    const [first] = odd;
    if (first === undefined) return [];
    return [
      completeFinding({
        part: 'nat',
        state: isDown(destination) ? 'broken' : 'degraded',
        confidence: 'unsure',
        destination: destination.name,
        what: `new connections to ${first.tcp.address}:${first.tcp.port} ${odd.some(({ tcp, again }) => (again ?? tcp).outcome === 'silent') ? 'get no answer' : 'have to wait'}, while connections that were open before work: the NAT is probably out of ports`,
        since: failingSince(destination, ['connect-timeout']),
        evidence: [
          ...odd.flatMap(linesOfTry),
          ...(first.moved > 0
            ? [{ at: null, text: `${first.moved} bytes came from ${first.tcp.address} over open connections during these tries` }]
            : []),
          ...(segments === null ? [] : [segmentsLine(segments)]),
        ],
        alternatives: [{ part: 'partner-firewall', why: 'a firewall may let only connections through that it knows' }],
        next: [
          "Look at the NAT's dropped packets (OUT_OF_RESOURCES in Cloud NAT): they decide it.",
          'Set nat.ports, so that the proxy counts them.',
        ],
        explains: ['silent'],
      }),
    ];
  });
}

/** The same towards a parent: one connection is accepted, the next has no answer. */
function findParentByTurns({ destinations }: IncidentEvidence): NamelessFinding[] {
  return destinations.flatMap(({ name, parents, routes }) => {
    const accepted = parents.flatMap(({ tcp }) => tcp).find(({ outcome }) => outcome === 'open');
    const failed = routes.find(({ fault }) => fault?.connecting === true);
    if (accepted === undefined || failed === undefined) return [];
    return [
      completeFinding({
        part: 'nat',
        state: 'degraded',
        confidence: 'unsure',
        destination: name,
        what: `of two connections to the parent proxy at ${accepted.address}:${accepted.port} one was accepted and one had no answer: the NAT is probably out of ports`,
        evidence: [
          { at: accepted.at, text: describeTcp(accepted) },
          { at: failed.at, text: `The next connection: ${failed.fault?.code ?? ''}, ${failed.fault?.detail ?? ''}` },
        ],
        alternatives: [
          { part: 'route', why: 'packets may be lost' },
          { part: 'parent', why: 'it may accept no more connections' },
        ],
        next: ["Look at the NAT's dropped packets: they decide it."],
        explains: ['silent'],
      }),
    ];
  });
}

/** Nothing outside answers: neither partners nor the independent endpoint. */
function findNoWayOut({ source, destinations }: IncidentEvidence, earlier: readonly IncidentFinding[]): NamelessFinding[] {
  if (earlier.some(({ rule }) => rule === 'local-ports')) return [];
  const firsts = destinations.flatMap(({ tries, parents }) => [
    ...tries.map(outcomeOfTry),
    ...parents.flatMap(({ tcp }) => tcp.map(({ outcome }) => outcome)),
  ]);
  const noRoute = firsts.length > 0 && firsts.every((outcome) => outcome === 'unsent' || outcome === 'unreachable');
  const unsent = firsts.length > 0 && firsts.every((outcome) => outcome === 'unsent');
  const nothing = firsts.every((outcome) => outcome !== 'open' && outcome !== 'refused');
  const names = destinations.flatMap((destination) => destination.names);
  const failedNames = names.filter(({ fault }) => fault !== null && fault.code !== 'name-not-found');
  if (!nothing || (firsts.length === 0 && failedNames.length === 0)) return [];
  const [least] = destinations.flatMap(connectionsTried);
  const alone = source.result === 'off';
  if (source.result !== 'unknown' && !(unsent && alone)) return [];
  if (source.fault !== null && !['connect-timeout', 'unreachable', 'resolver-timeout', 'resolver-failed'].includes(source.fault.code))
    return [];
  return [
    completeFinding({
      part: 'route',
      state: 'broken',
      confidence: noRoute ? 'certain' : 'likely',
      what: alone
        ? 'nothing leaves this host: its system refuses every connection that was tried'
        : 'nothing outside answers: no partner, and not the echo endpoint either',
      since: source.since,
      evidence: [
        ...(source.fault === null ? [] : [{ at: source.at, text: `The echo endpoint: ${source.fault.code}, ${source.fault.detail}` }]),
        ...(least === undefined ? [] : [{ at: least.at, text: describeTcp(least) }]),
        ...failedNames.map(nameLine),
      ],
      alternatives: alone ? [] : [{ part: 'nat', why: 'a NAT that is gone or out of ports looks the same' }],
      next: [
        alone
          ? 'Look at the error above, and at the link, the routes and the firewall of the node.'
          : 'Look at the link and the routes of the node, the network policy, and the NAT: the route out is broken for every partner.',
      ],
      explains: [...NETWORK, 'name'],
    }),
  ];
}

const nameLine = ({ host, at, fault, addresses }: NameTry): { at: number; text: string } => ({
  at,
  text: fault === null ? `${host} resolves to ${addresses.join(', ')}` : `Look-up of ${host}: ${fault.code}, ${fault.detail}`,
});

/** The latest answers before. */
const earlierLines = ({ host, history }: NameTry): { at: number; text: string }[] =>
  history.slice(0, 4).map(({ at, addresses, code }) => ({
    at,
    text: code === null ? `${host} resolved to ${addresses.join(', ')}` : `Look-up of ${host}: ${code}`,
  }));

function findNames({ destinations }: IncidentEvidence, earlier: readonly IncidentFinding[]): NamelessFinding[] {
  return destinations.flatMap((destination) => {
    const bad = destination.names.filter(
      ({ fault, addresses, refused }) => fault !== null || (addresses.length > 0 && refused.length === addresses.length),
    );
    if (earlier.some(({ explains }) => explains.includes('name'))) return [];
    return bad.map((name) => (name.fault === null ? findWrongAddress(destination, name) : findNoAnswer(destination, name)));
  });
}

function findWrongAddress(destination: DestinationEvidence, name: NameTry): NamelessFinding {
  const { host, addresses, refused, history } = name;
  const before = history.find((answer) => answer.addresses.some((address) => !addresses.includes(address)));
  return completeFinding({
    part: 'resolver',
    state: 'broken',
    confidence: before === undefined ? 'unsure' : 'likely',
    destination: destination.name,
    what: `${host} is led to ${addresses.join(', ')}, where the proxy may not connect`,
    since: failingSince(destination, ['address-not-allowed']),
    evidence: [nameLine(name), ...refused.map(({ detail }) => ({ at: null, text: detail })), ...earlierLines(name)],
    alternatives: [{ part: 'proxy', why: `if the partner has moved there, destinations.${destination.name}.addresses has to be changed` }],
    next: ['Ask those who run the resolver why the name leads there.', 'If the partner says that it has moved, list its new range.'],
    explains: ['name'],
  });
}

function findNoAnswer(destination: DestinationEvidence, name: NameTry): NamelessFinding {
  const { host, fault, inUse } = name;
  const code = fault?.code ?? 'resolver-failed';
  const missing = code === 'name-not-found';
  const broken = inUse === null || missing || isDown({ ...destination, tries: destination.tries.filter((one) => hostTried(one) === host) });
  const lost = new Set(destination.names.flatMap((one) => (one.fault === null ? [] : [one.host])));
  const tail = inUse === null || missing ? '' : `; ${inUse.join(', ')} is used, as known before`;
  return completeFinding({
    part: 'resolver',
    state: broken ? 'broken' : 'degraded',
    confidence: missing ? 'likely' : 'certain',
    destination: destination.name,
    what: missing ? `${host} does not exist, it says` : `there is no answer for ${host} (${code})${tail}`,
    since: failingSince(destination, [code]) ?? null,
    evidence: [nameLine(name), ...earlierLines(name)],
    alternatives: missing
      ? [{ part: 'proxy', why: 'the name in the configuration may be misspelt, if it never resolved' }]
      : [{ part: 'route', why: 'the route to the resolver may be broken' }],
    next: [
      'Ask the resolver from the node of the proxy (dig), and those who run it.',
      ...(missing ? ['If it has never resolved, check the spelling; otherwise ask the partner whether it still has the name.'] : []),
    ],
    // What a host meets whose name is known has another cause.
    explains: destination.tries.every((one) => outcomeOfTry(one) === 'open' || lost.has(hostTried(one)))
      ? ['name', 'silent', 'refused']
      : ['name'],
  });
}

function findClock({ clocks, destinations }: IncidentEvidence): NamelessFinding[] {
  // One of them may be off: the one closest to ours counts, as for doctor.
  const nearest = clocks.toSorted((one, other) => Math.abs(one.ahead) - Math.abs(other.ahead))[0];
  if (nearest === undefined || Math.abs(nearest.ahead) <= CLOCK_OFF_MS) return [];
  const dates = destinations.some(({ tries, routes }) =>
    [...tries, ...routes].some(({ tls }) => tls !== null && isDateFault(tls.fault?.detail ?? '')),
  );
  return [
    completeFinding({
      part: 'proxy',
      state: dates ? 'broken' : 'degraded',
      confidence: 'likely',
      what: `the clock of this host is ${nearest.ahead > 0 ? 'behind' : 'ahead'} by ${Math.round(Math.abs(nearest.ahead) / 1000)} s`,
      evidence: clocks.map(({ where, ahead }) => ({
        at: null,
        text: `The Date of ${where} is ${Math.round(Math.abs(ahead) / 1000)} s ${ahead < 0 ? 'behind' : 'ahead of'} our clock`,
      })),
      alternatives:
        new Set(clocks.map(({ where }) => where)).size > 1
          ? []
          : [{ part: 'partner-application', why: 'only one other clock was seen, and it may be that one' }],
      next: ['Set the clock (NTP, chrony) of the node.'],
      explains: ['certificate-dates'],
    }),
  ];
}

/** Some packets are lost. Retransmissions to an address that never answers are no sign of that. */
function findLoss(evidence: IncidentEvidence, earlier: readonly IncidentFinding[]): NamelessFinding[] {
  const { segments } = evidence.proxy;
  const tries = evidence.destinations.flatMap((destination) => destination.tries);
  const lossy = tries.filter(isLossy);
  const shown = judgeLoss(evidence) === 'everywhere' && (lossy.length > 0 || tries.every((one) => outcomeOfTry(one) === 'open'));
  if (!shown && (lossy.length === 0 || earlier.some(({ rule }) => rule === 'new-connections-alone'))) return [];
  const counted = segments === null ? '' : describeSegments(segments);
  return [
    completeFinding({
      part: 'route',
      state: 'degraded',
      confidence: shown ? 'likely' : 'unsure',
      what: shown
        ? `packets are lost: ${counted} in some seconds`
        : lossy.every(({ again }) => again?.outcome === 'silent')
          ? 'packets are lost: of two connections, the second had no answer'
          : 'packets are lost: connections had no answer at first, and one when tried again',
      evidence: [...(segments === null ? [] : [segmentsLine(segments)]), ...lossy.flatMap(linesOfTry)],
      alternatives: [{ part: 'nat', why: 'a NAT that is nearly out of ports drops some connections and lets others through' }],
      next: ['Compare with the packets that the NAT and the node drop, and with retransmissions (ss -ti).'],
      explains: ['silent'],
    }),
  ];
}

const describeSegments = ({ again, sent }: SentSegments): string => `${again} of ${sent} segments were sent again`;

const segmentsLine = (segments: SentSegments): { at: null; text: string } => ({
  at: null,
  text: `TCP of this host while this was tried: ${describeSegments(segments)}, and ${segments.synAgain} first packets of connections`,
});

/** In the order in which they are tried and named. */
export const NETWORK_RULES: readonly IncidentRule[] = [
  { name: 'source-address', find: findSource },
  { name: 'local-ports', find: findLocalPorts },
  { name: 'no-way-out', find: findNoWayOut },
  { name: 'nat-ports', find: findNatPorts },
  { name: 'new-connections-alone', find: findDeadNewConnections },
  { name: 'parent-by-turns', find: findParentByTurns },
  { name: 'names', find: findNames },
  { name: 'clock', find: findClock },
  { name: 'packet-loss', find: findLoss },
];
