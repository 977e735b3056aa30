/** From the evidence to a verdict: all rules in one table; the first cause that applies is named, with what it rules out. And the verdict in words, for people and for the partner. Pure. */
import { formatMoment } from '../targets/quote.ts';
import { escapeText } from '../telemetry/safe-text.ts';
import { APPLICATION_RULES, TLS_RULES } from './answer-rules.ts';
import { type DestinationEvidence, INCIDENT_PARTS, type IncidentEvidence, type IncidentPart } from './evidence.ts';
import {
  type EvidenceLine,
  type IncidentConfidence,
  type IncidentFinding,
  type IncidentRule,
  hostTried,
  isSourceProven,
  outcomeOfTry,
  reachedElsewhere,
} from './finding.ts';
import { NETWORK_RULES } from './network-rules.ts';
import { PACKET_RULES, PARENT_RULES } from './partner-rules.ts';
import { FLOOD, MINOR_RULES, POLICY_RULES, PROXY_RULES } from './proxy-rules.ts';

/** `ok`: nothing is wrong now. */
export const INCIDENT_STATES = ['ok', 'degraded', 'broken'] as const;

/** The answer. Times are ISO 8601 in UTC. */
export interface IncidentVerdict {
  readonly at: string;
  /** Of the replica that answered; `-`: none did. */
  readonly instance: string;
  /** The destination of the question; null: all. */
  readonly asked: string | null;
  readonly state: (typeof INCIDENT_STATES)[number];
  /** The responsible part; null: nothing is wrong. */
  readonly part: IncidentPart | null;
  readonly confidence: IncidentConfidence | null;
  readonly destination: string | null;
  /** Who, what, since when. */
  readonly sentence: string;
  readonly since: string | null;
  readonly evidence: readonly { readonly at: string | null; readonly text: string }[];
  /** Other possible causes that the evidence does not exclude. */
  readonly alternatives: readonly { readonly part: IncidentPart; readonly why: string }[];
  readonly ruledOut: readonly { readonly part: IncidentPart; readonly why: string }[];
  /** Further causes that were found. */
  readonly also: readonly {
    readonly part: IncidentPart;
    readonly state: 'broken' | 'degraded';
    readonly destination: string | null;
    readonly sentence: string;
  }[];
  readonly next: readonly string[];
  /** The section of the documentation with the remedy. */
  readonly runbook: string;
  /** A letter to the partner; null: it is not likely to be the cause. */
  readonly letter: string | null;
}

/** In the order in which causes are named: ours before the partner's. */
export const INCIDENT_RULES: readonly IncidentRule[] = [
  ...PROXY_RULES,
  ...NETWORK_RULES,
  ...POLICY_RULES,
  ...PACKET_RULES,
  ...TLS_RULES,
  ...PARENT_RULES,
  ...APPLICATION_RULES,
  ...MINOR_RULES,
];

/** The name of each part in sentences. */
const PART_NAMES: Readonly<Record<IncidentPart, string>> = {
  pod: 'The pod (client)',
  proxy: 'The proxy',
  nat: 'The NAT',
  resolver: 'The resolver',
  parent: 'The parent proxy',
  route: 'The route',
  'partner-firewall': "The partner's firewall",
  'partner-tls': "The partner's TLS",
  'partner-application': "The partner's application",
};

const RUNBOOK = 'docs/operations.md#what-the-autopsy-names';
/** Maximum number of lines of evidence: further ones say the same about more addresses. */
const MOST_EVIDENCE = 24;
const SEVERITY = { broken: 0, degraded: 1 } as const;

/** Never throws for any evidence; equal evidence gives an equal verdict. */
export function judgeIncident(evidence: IncidentEvidence): IncidentVerdict {
  const found: IncidentFinding[] = [];
  for (const { name, find } of INCIDENT_RULES) found.push(...find(evidence, found).map((one) => ({ rule: name, ...one })));
  const [first, ...others] = found.toSorted((one, other) => SEVERITY[one.state] - SEVERITY[other.state]);
  const common = {
    at: new Date(evidence.at).toISOString(),
    instance: evidence.instance,
    asked: evidence.asked,
    also: others.map(({ part, state, destination, what }) => ({ part, state, destination, sentence: `${PART_NAMES[part]}: ${what}.` })),
  };
  const ruledOut = INCIDENT_PARTS.filter(
    (part) => !found.some((one) => one.part === part || one.alternatives.some((other) => other.part === part)),
  ).flatMap((part) => {
    const why = CLEARS[part](evidence);
    return why === null ? [] : [{ part, why }];
  });
  if (first === undefined) {
    const steps = slowOnes(evidence).map(
      ({ name }) =>
        `If requests to ${name} do not take so long by nature, ask the partner: phases.firstByte of the access log has the wait for each answer.`,
    );
    return {
      ...common,
      state: 'ok',
      part: null,
      confidence: null,
      destination: evidence.asked,
      sentence: sayNothingIsWrong(evidence),
      since: null,
      evidence: showLines(linesOfAll(evidence)),
      alternatives: [],
      ruledOut,
      next:
        evidence.leftOut === 0
          ? [
              ...steps,
              'If a client still fails, ask with npx eco-egress doctor --client from its pod: the route from there to the proxy cannot be seen here.',
            ]
          : [...steps, `Not everything was tried (${evidence.leftOut} left out): name a destination.`],
      runbook: RUNBOOK,
      letter: null,
    };
  }
  const { part, state, confidence, destination, what, since, alternatives, next } = first;
  return {
    ...common,
    state,
    part,
    confidence,
    destination,
    sentence: `${sayWho(first)}: ${what}${since === null ? '' : `, since ${formatMoment(since)}`}.`,
    since: since === null ? null : new Date(since).toISOString(),
    evidence: showLines(first.evidence),
    alternatives,
    ruledOut,
    next,
    runbook: RUNBOOK,
    letter: writeLetter(evidence, first),
  };
}

/** The verdict where no proxy answers. @param place its admin port @param reason why there is no answer @param seen findings without it */
export function judgeNoProxy(place: string, reason: string, seen: NoProxyFindings, now: number): IncidentVerdict {
  const findings = seen.checks.flatMap(({ findings: found }) => found);
  const broken = findings.filter(({ state }) => state === 'fail');
  const at = new Date(now).toISOString();
  return {
    at,
    instance: '-',
    asked: null,
    state: 'broken',
    part: 'proxy',
    confidence: 'certain',
    destination: null,
    sentence: `${PART_NAMES.proxy}: none answers at ${place} (${reason}), so requests that come to this replica are not served.`,
    since: null,
    evidence: [
      { at, text: `GET /healthz of ${place}: ${reason}` },
      ...(broken.length > 0 ? broken : findings.filter(({ state }) => state === 'ok'))
        .slice(0, MOST_EVIDENCE)
        .map(({ subject, seen: text }) => ({ at: null, text: subject === '' ? text : `${subject}: ${text}` })),
    ],
    alternatives: [],
    ruledOut: [],
    also: [],
    next: [
      'See why it does not run or answer: kubectl describe pod, kubectl logs --previous, the last line on its standard error.',
      'If it runs elsewhere, ask there, or name its admin port with --admin.',
    ],
    runbook: RUNBOOK,
    letter: null,
  };
}

/** The findings of a doctor's report. */
interface NoProxyFindings {
  readonly checks: readonly { readonly findings: readonly { readonly state: string; readonly subject: string; readonly seen: string }[] }[];
}

function showLines(lines: readonly EvidenceLine[]): { at: string | null; text: string }[] {
  return lines.slice(0, MOST_EVIDENCE).map(({ at, text }) => ({ at: at === null ? null : new Date(at).toISOString(), text }));
}

/** With other possible causes that the evidence does not exclude. */
function sayWho({ part, confidence, alternatives }: IncidentFinding): string {
  const others = alternatives.map((other) => lower(PART_NAMES[other.part]));
  if (confidence === 'certain') return PART_NAMES[part];
  if (confidence === 'likely') return `Most likely ${lower(PART_NAMES[part])}${others.length === 0 ? '' : ` (or ${others.join(', or ')})`}`;
  return `${PART_NAMES[part]}${others.length === 0 ? '' : ` or ${others.join(' or ')}`} (the evidence does not tell)`;
}

const lower = (name: string): string => name.replace(/^T/, 't');

/** As for the alert EcoEgressPartnerSlow, ms. A partner may be slow by nature, so it is no finding; but not what clears the partner. */
const SLOW_EXCHANGES_MS = 5_000;

const slowOnes = ({ destinations }: IncidentEvidence): readonly DestinationEvidence[] =>
  destinations.filter(({ took }) => took !== null && took.p99 > SLOW_EXCHANGES_MS);

const inSeconds = (ms: number): string => `${Number((ms / 1000).toPrecision(2))} s`;

function saySlow(evidence: IncidentEvidence): string {
  return slowOnes(evidence)
    .map(
      ({ name, took }) =>
        ` But requests to ${name} took long in the last minute: half of them up to ${inSeconds(took?.p50 ?? 0)}, one in a hundred ${inSeconds(took?.p99 ?? 0)} or more.`,
    )
    .join('');
}

function sayNothingIsWrong(evidence: IncidentEvidence): string {
  const { destinations, asked } = evidence;
  const reached = destinations
    .filter(({ tries, routes }) => tries.some((one) => outcomeOfTry(one) === 'open') || routes.some(({ fault }) => fault === null))
    .map(({ name }) => name);
  const whom = asked ?? (reached.length === 0 ? 'no destination could be tried' : reached.join(', '));
  return reached.length === 0
    ? `Nothing is known to be wrong, but ${asked === null ? whom : `${asked} could not be tried`}.`
    : `Nothing is wrong now: ${whom} ${reached.length > 1 && asked === null ? 'answer' : 'answers'} at every address.${saySlow(evidence)}`;
}

function linesOfAll({ destinations }: IncidentEvidence): EvidenceLine[] {
  return destinations.flatMap((destination) => [
    ...destination.tries.map(({ tcp, http, where }) => ({
      at: tcp.at,
      text: `${where} at ${tcp.address}:${tcp.port} from ${tcp.from ?? '-'}: connected in ${tcp.ms} ms${http === null ? '' : `, ${http.asked} answered ${http.status}`}`,
    })),
    ...destination.routes.map(({ at, where }) => ({ at, text: `${where} through ${destination.via.join(', ')}: connected` })),
  ]);
}

const holdsForAll = (destinations: readonly DestinationEvidence[], holds: (destination: DestinationEvidence) => boolean): boolean =>
  destinations.length > 0 && destinations.every(holds);

/** Why a part is not the cause; null: the evidence does not say. */
const CLEARS: Readonly<Record<IncidentPart, (evidence: IncidentEvidence) => string | null>> = {
  pod: ({ denials }) =>
    denials.length === 0
      ? 'no request was refused in the last minute'
      : denials.reduce((sum, { count }) => sum + count, 0) < FLOOD
        ? 'what was refused in the last minute is little'
        : null,
  proxy: ({ proxy: { eventLoopMs, limits, loadedAt } }) =>
    `it answers, its event loop is late by ${Math.round(eventLoopMs)} ms, ${limits.map(({ name, used, limit }) => `${used}${limit === null ? '' : ` of ${limit}`} ${name}`).join(', ')}; configuration in force since ${formatMoment(loadedAt)}`,
  nat: (evidence) =>
    isSourceProven(evidence)
      ? `the echo endpoint ${evidence.source.endpoint ?? '-'} sees ${evidence.source.seen ?? '-'}, as expected`
      : null,
  resolver: ({ destinations }) => {
    const names = destinations.flatMap((destination) => destination.names);
    return names.length > 0 && names.every(({ fault }) => fault === null)
      ? `it answers: ${names
          .slice(0, 4)
          .map(({ host, addresses }) => `${host} is ${addresses.join(', ')}`)
          .join('; ')}`
      : null;
  },
  parent: ({ destinations }) => {
    const behind = destinations.filter(({ via }) => via.length > 0);
    if (behind.length === 0) return 'no parent proxy is on the way';
    return holdsForAll(behind, ({ routes }) => routes.length > 0 && routes.every(({ fault }) => fault === null))
      ? 'it connects us to the partner'
      : null;
  },
  route: ({ source, destinations }) =>
    source.endpoint !== null && source.result !== 'unknown'
      ? `packets reach ${source.endpoint} and come back`
      : holdsForAll(destinations, ({ tries }) => tries.some((one) => outcomeOfTry(one) === 'open'))
        ? 'packets reach the partner and come back'
        : null,
  'partner-firewall': ({ destinations }) =>
    holdsForAll(
      destinations.filter(({ tries }) => tries.length > 0),
      ({ tries }) => tries.every((one) => outcomeOfTry(one) === 'open'),
    )
      ? 'every address accepts connections'
      : null,
  'partner-tls': ({ destinations }) => {
    const shown = destinations.flatMap(({ tries, routes }) => [...tries, ...routes].flatMap(({ tls }) => tls ?? []));
    if (shown.length === 0 || shown.some(({ fault }) => fault !== null)) return null;
    const ends = shown.flatMap(({ certificate }) => certificate?.validTo ?? []);
    return `handshakes are verified${ends.length === 0 ? '' : `, the certificate is valid until ${formatMoment(Math.min(...ends))}`}`;
  },
  'partner-application': (evidence) => {
    const { destinations } = evidence;
    if (slowOnes(evidence).length > 0) return null;
    const answers = destinations.flatMap(({ tries, routes }) => [...tries, ...routes].flatMap(({ http }) => http ?? []));
    return answers.length > 0 && answers.every(({ fault, status }) => fault === null && status < 500)
      ? `it answers: ${[...new Set(answers.map(({ asked, status }) => `${asked} with ${status}`))].join(', ')}`
      : null;
  },
};

// The paragraph for the partner: our source address, what was tried and when,
// and the results. Only where its part is the likely cause.

const MOST_QUOTED = 8;

/** Null where the partner is not the likely cause: a partner must not be blamed for a possible fault on our side. */
function writeLetter(whole: IncidentEvidence, { part, confidence, destination, what, since, evidence }: IncidentFinding): string | null {
  const { at, source, destinations } = whole;
  const elsewhere = destination === null ? null : reachedElsewhere(whole, destination);
  if (!part.startsWith('partner') || confidence === 'unsure') return null;
  const hosts = destinations
    .filter(({ name }) => name === destination)
    .flatMap(({ names, tries }) => [...names.map(({ host }) => host), ...tries.map(hostTried)]);
  const from = source.seen ?? (source.expected.length > 0 ? source.expected.join(' or ') : null);
  const proven = source.result === 'match' && source.seen !== null ? ` (seen from outside at ${formatMoment(source.at)})` : '';
  const tried = evidence.filter((line) => line.at !== null).slice(0, MOST_QUOTED);
  return [
    `We connect to ${[...new Set(hosts)].join(', ')} from ${from === null ? 'our source address (not known to this tool: please add it)' : `the source address ${from}${proven}`}. ${since === null ? `At ${formatMoment(at)}` : `Since ${formatMoment(since)}`} we see: ${what}.`,
    'Tried from here (times in UTC; source ports are those before our NAT):',
    ...tried.map((line) => `- ${formatMoment(line.at ?? at)} ${line.text}`),
    `${elsewhere === null ? '' : `From the same network we reach ${elsewhere}. `}Could you please look at your side at these times, and tell us whether something has changed?`,
  ].join('\n');
}

// The verdict as text for people: first the responsible part, then the reason,
// then the remedy.

/** Always one printable text, also with data from partners and clients; ends with a line break. */
export function formatIncident({
  sentence,
  at,
  instance,
  evidence,
  alternatives,
  ruledOut,
  also,
  next,
  runbook,
  letter,
}: IncidentVerdict): string {
  const blocks: string[][] = [[sentence, `Asked at ${at}${instance === '-' ? '' : ` of ${instance}`}.`]];
  const add = (title: string, lines: readonly string[]): void => {
    if (lines.length > 0) blocks.push([title, ...lines]);
  };
  add(
    'What else it may be:',
    alternatives.map(({ part, why }) => `  - ${PART_NAMES[part]}: ${why}`),
  );
  add(
    'Evidence (UTC; source ports are those before the NAT):',
    evidence.map(({ at: when, text }) => `  ${when ?? '-'.padEnd(24)}  ${text}`),
  );
  add(
    'Also found:',
    also.map((one) => `  - ${one.sentence}`),
  );
  add(
    'Ruled out:',
    ruledOut.map(({ part, why }) => `  - ${PART_NAMES[part]}: ${why}`),
  );
  add('What to do:', [...next.map((step) => `  - ${step}`), `  - ${runbook}`]);
  if (letter !== null)
    add(
      'To send to the partner:',
      letter.split('\n').map((line) => `  ${line}`),
    );
  return `${blocks.map((lines) => lines.map((line) => escapeText(line)).join('\n')).join('\n\n')}\n`;
}
