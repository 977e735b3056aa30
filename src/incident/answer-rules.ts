/** The rules about what partners answer: their TLS and their application. Each first checks whether a cause on our side explains the same. Pure. */
import { EXPIRED_AUTHORITY } from '../dial/tls-fault.ts';
import { formatMoment } from '../targets/quote.ts';
import type { DestinationEvidence, HttpTry, IncidentEvidence, IncidentPart, RouteTry, TlsTry } from './evidence.ts';
import {
  type EvidenceLine,
  explainedBy,
  failingSince,
  type IncidentFinding,
  type IncidentRule,
  isDateFault,
  isWithin,
  type NamelessFinding,
  linesOfHttp,
  linesOfTls,
  linesOfTry,
  outcomeOfTry,
  RECENT_MS,
  type Symptom,
} from './finding.ts';
import { eachDirect, finding } from './partner-rules.ts';

type Alternative = IncidentFinding['alternatives'][number];

/** From this number of failures, requests show a problem that our own try may not. */
const MANY_UNANSWERED = 3;
const MOMENT_MS = 5_000;
/** An answer to a request without content that takes longer is slow; relative to the connection time, by this factor. */
const SLOW_MS = 900;

const UNANSWERED_CODES: ReadonlySet<string> = new Set(['upstream-silent', 'upstream-cut', 'upstream-malformed']);

/** What was tried above TCP, on a direct route or through parents. */
interface Layer {
  readonly where: string;
  readonly at: number;
  readonly tls: TlsTry | null;
  readonly http: HttpTry | null;
  readonly lines: readonly EvidenceLine[];
}

const layersOf = ({ tries, routes }: DestinationEvidence): Layer[] => [
  ...tries
    .filter((one) => outcomeOfTry(one) === 'open')
    .map((one) => ({ where: one.where, at: one.tcp.at, tls: one.tls, http: one.http, lines: linesOfTry(one) })),
  ...routes
    .filter(({ fault }) => fault === null)
    .map(({ where, at, tls, http }: RouteTry) => ({
      where,
      at,
      tls,
      http,
      lines: [...linesOfTls(tls, where, at), ...linesOfHttp(http, where, at)],
    })),
];

/** Of each host and port: the layers that failed, and whether all have. */
function failedLayers(destination: DestinationEvidence, is: (layer: Layer) => boolean): { failed: Layer[]; state: 'broken' | 'degraded' } {
  const groups = [...Map.groupBy(layersOf(destination), ({ where }) => where).values()];
  const failed = groups.flatMap((layers) => layers.filter(is));
  return { failed, state: groups.some((layers) => layers.length > 0 && layers.every(is)) ? 'broken' : 'degraded' };
}

function findTls({ destinations, proxy, clocks }: IncidentEvidence, earlier: readonly IncidentFinding[]): NamelessFinding[] {
  return destinations.flatMap((destination) => {
    const { failed, state } = failedLayers(destination, ({ tls }) => (tls?.fault ?? null) !== null);
    const [first] = failed;
    const fault = first?.tls?.fault ?? null;
    if (first === undefined || fault === null) return [];
    const symptom: Symptom = isDateFault(fault.detail) ? 'certificate-dates' : 'tls';
    if (explainedBy(earlier, destination.name, symptom) !== undefined) return [];
    const { part, why, alternatives, next } = explainTls(destination, first, proxy.loadedAt, clocks.length > 0);
    return [
      finding(destination, {
        part,
        state,
        confidence: alternatives.length === 0 ? 'certain' : 'likely',
        what: `${why} at ${first.where}`,
        since: failingSince(destination, [fault.code]),
        evidence: failed.flatMap(({ lines }) => lines),
        alternatives,
        next,
        explains: ['tls'],
      }),
    ];
  });
}

/** Who is responsible for TLS. An untrusted authority is the partner's fault only if nothing has changed here since its certificate was last accepted. */
function explainTls(
  { via, lastOk }: DestinationEvidence,
  { tls }: Layer,
  loadedAt: number,
  clockCompared: boolean,
): { part: IncidentPart; why: string; alternatives: Alternative[]; next: string[] } {
  const { code = 'tls-failed', detail = '' } = tls?.fault ?? {};
  const certificate = tls?.certificate ?? null;
  const parent: Alternative[] =
    via.length === 0 ? [] : [{ part: 'parent', why: 'a parent that inspects TLS shows a certificate of its own' }];
  if (isDateFault(detail)) {
    const ours = detail.startsWith(EXPIRED_AUTHORITY);
    const why = detail.startsWith('the ')
      ? detail
      : `the certificate that is shown ${detail.includes('EXPIRED') ? 'has expired' : 'is not valid yet'}${certificate === null ? '' : ` (valid from ${formatMoment(certificate.validFrom)} to ${formatMoment(certificate.validTo)})`}`;
    return {
      part: ours ? 'proxy' : 'partner-tls',
      why,
      alternatives: [
        ...parent,
        ...(clockCompared
          ? []
          : [{ part: 'proxy' as const, why: 'the clock of this host may be off: no other one was seen to compare it with' }]),
      ],
      next: [
        ours
          ? 'Put the renewed certificate of the authority into tls.caFile of the destination.'
          : 'Have the partner renew this certificate.',
      ],
    };
  }
  if (detail.includes('is not for ')) {
    return {
      part: 'partner-tls',
      why: `the certificate that is shown is for another name (${certificate?.names ?? '-'})`,
      alternatives: [...parent, { part: 'resolver', why: 'the name may lead to a server of somebody else' }],
      next: ['Have the partner install the right certificate; check that its addresses are still its own.'],
    };
  }
  if (code === 'tls-certificate' && !detail.includes('not trusted here')) {
    return {
      part: 'partner-tls',
      why: `the certificate that is shown is not acceptable to anyone (${detail})`,
      alternatives: parent,
      next: ['Have the partner install a certificate that is valid for a TLS server.'],
    };
  }
  if (code === 'tls-certificate') {
    const changedHere = lastOk === null || loadedAt > lastOk;
    return changedHere
      ? {
          part: 'proxy',
          why: `its configuration does not trust the authority of the partner's certificate (${certificate?.issuer ?? '-'})`,
          alternatives: [
            { part: 'partner-tls', why: 'the partner may have changed its authority, or does not send its whole chain' },
            ...parent,
          ],
          next: ['Compare the authority with the file in tls.caFile of the destination, and ask the partner which one is right.'],
        }
      : {
          part: 'partner-tls',
          why: `the certificate that is shown is no longer trusted here (of ${certificate?.issuer ?? '-'})`,
          alternatives: [{ part: 'proxy', why: 'the file in tls.caFile may lack a new authority that the partner announced' }, ...parent],
          next: ['Ask the partner whether it has changed its authority; if so, add it to tls.caFile.'],
        };
  }
  if (/refused the handshake|client certificate/.test(detail)) {
    return {
      part: 'proxy',
      why: 'the partner does not accept our client certificate, or asks for one',
      alternatives: [{ part: 'partner-tls', why: 'the partner may accept other clients now' }],
      next: ['Check tls.certFile of the destination and its dates; then ask the partner.'],
    };
  }
  return {
    part: 'partner-tls',
    why: `the TLS handshake fails (${code}: ${detail})`,
    alternatives: [
      {
        part: 'route',
        why:
          code === 'tls-timeout'
            ? 'large packets may be lost on the way, while small ones pass (path MTU)'
            : 'a firewall between that inspects TLS may cut handshakes',
      },
      ...parent,
    ],
    next: ['Ask the partner what its TLS server logs at these times.'],
  };
}

/** The partner's application: shown by our own request, and by those of clients. */
function findHttp({ destinations, at }: IncidentEvidence, earlier: readonly IncidentFinding[]): NamelessFinding[] {
  return destinations.flatMap((destination) => {
    if (
      explainedBy(earlier, destination.name, 'http') !== undefined ||
      earlier.some((one) => one.destination === destination.name && one.state === 'broken' && one.part.startsWith('partner'))
    )
      return [];
    const { failed, state } = failedLayers(destination, ({ http }) => http !== null && (http.fault !== null || http.status >= 500));
    const [first] = failed;
    // Partners may refuse our own request, which no client sends: it counts only if clients see the same.
    const http = first?.http ?? null;
    if (http === null || !failsForClients(destination, at)) return [];
    const { fault, status } = http;
    const behind = destination.via.length > 0 && fault !== null;
    const seen = destination.lastError !== null && isWithin(destination.lastError.at, at, RECENT_MS);
    const before = destination.lastOk === null ? '' : `; the last one that succeeded was at ${formatMoment(destination.lastOk)}`;
    return [
      finding(destination, {
        part: behind ? 'parent' : 'partner-application',
        state,
        confidence: behind ? 'unsure' : fault === null && seen ? 'certain' : 'likely',
        what: behind
          ? `requests by way of ${destination.via.join(', ')} get no valid answer (${fault.code}): the parent, or the partner behind it`
          : fault === null
            ? `requests are answered with status ${status}${before}`
            : (UNANSWERED_WORDS[fault.code] ?? `requests fail (${fault.code})`),
        // When answers with such a status began is not known: there may have been no request for days.
        since: fault === null ? null : failingSince(destination, [fault.code]),
        evidence: [...failed.flatMap(({ lines }) => lines), ...requestLines(destination)],
        alternatives: behind ? [{ part: 'partner-application', why: 'a parent passes on what the partner sends' }] : [],
        next: behind
          ? ['Ask the partner without the parent, from a host that may; or look at the log of the parent.']
          : ['Ask the partner, with the times below: the connection and TLS work.'],
        explains: ['http'],
      }),
    ];
  });
}

const UNANSWERED_WORDS: Readonly<Record<string, string>> = {
  'upstream-silent': 'requests are accepted and not answered',
  'upstream-cut': 'connections are cut before an answer has come',
  'upstream-malformed': 'answers are not HTTP',
};

function requestLines({ failures, lastError }: DestinationEvidence): EvidenceLine[] {
  return [
    ...failures.slice(0, 4).map(({ at, code, detail }) => ({ at, text: `A request failed with ${code}: ${detail}` })),
    ...(lastError === null ? [] : [{ at: lastError.at, text: `A request was answered with ${lastError.status}` }]),
  ];
}

/** Requests of clients fail with the same answer, or there were none to compare. */
function failsForClients({ last, lastOk, lastError, failures, circuits }: DestinationEvidence, now: number): boolean {
  const recent = (at: number): boolean => isWithin(at, now, RECENT_MS);
  if (last === 'error' || last === 'failed' || circuits.length > 0) return true;
  if (lastError !== null && recent(lastError.at)) return true;
  return failures.some(({ at, code }) => recent(at) && UNANSWERED_CODES.has(code)) || lastOk === null || !recent(lastOk);
}

/** Answers that break in the middle, which a request without content does not show. */
function findRequests({ destinations, at: now }: IncidentEvidence, earlier: readonly IncidentFinding[]): NamelessFinding[] {
  return destinations.flatMap((destination) => {
    const { name, failures, last, via } = destination;
    if (earlier.some((one) => one.destination === name || (one.destination === null && one.explains.length > 0))) return [];
    const unanswered = failures.filter(({ code }) => UNANSWERED_CODES.has(code));
    const fresh = unanswered.filter(({ at }) => isWithin(at, now, MOMENT_MS));
    const [latest] = unanswered;
    const lasting = last === 'failed' && latest === failures[0] && isWithin(latest?.at ?? -Infinity, now, RECENT_MS);
    if (fresh.length < MANY_UNANSWERED && !lasting) return [];
    const code = latest?.code ?? 'upstream-cut';
    const behind = via.length > 0;
    return [
      finding(destination, {
        part: behind ? 'parent' : 'partner-application',
        state: 'broken',
        confidence: behind ? 'unsure' : 'likely',
        what: `answers ${code === 'upstream-cut' ? 'break off' : code === 'upstream-silent' ? 'do not come' : 'are not HTTP'}, although connections are accepted${behind ? `; by way of ${via.join(', ')}` : ''}`,
        since: failingSince(destination, [code]),
        evidence: [...requestLines(destination), ...destination.tries.flatMap(linesOfTry)],
        alternatives: behind
          ? [{ part: 'partner-application', why: 'a parent passes on what the partner sends' }]
          : [{ part: 'route', why: 'a firewall on the way may cut connections that it finds too long or too old' }],
        next: ['Ask the partner what its application logged at these times.'],
      }),
    ];
  });
}

function findSlow(evidence: IncidentEvidence, earlier: readonly IncidentFinding[]): NamelessFinding[] {
  return eachDirect(evidence, (destination) => {
    if (earlier.some(({ destination: name }) => name === destination.name || name === null)) return [];
    const answered = destination.tries.flatMap(({ http, tcp }) => (http?.fault === null ? [{ http, tcp }] : []));
    if (answered.length === 0 || !answered.every(({ http, tcp }) => http.ms >= SLOW_MS && http.ms >= tcp.ms * 4)) return [];
    const least = Math.min(...answered.map(({ http }) => http.ms));
    return [
      finding(destination, {
        part: 'partner-application',
        state: 'degraded',
        confidence: 'likely',
        what: `answers are slow: one without content takes ${least} ms or more, and connecting does not`,
        since: null,
        evidence: destination.tries.flatMap(linesOfTry),
        next: ['Ask the partner, if this is not usual.'],
      }),
    ];
  });
}

/** First of what partners answer. */
export const TLS_RULES: readonly IncidentRule[] = [{ name: 'tls', find: findTls }];

/** Last of all that breaks requests. */
export const APPLICATION_RULES: readonly IncidentRule[] = [
  { name: 'http', find: findHttp },
  { name: 'requests', find: findRequests },
  { name: 'slow', find: findSlow },
];
