/** The finding of a rule, and checks of evidence that several rules share. Pure. */
import { formatAuthority } from '../targets/host.ts';
import { formatMoment } from '../targets/quote.ts';
import type { AddressTry, DestinationEvidence, HttpTry, IncidentEvidence, IncidentPart, TcpOutcome, TlsTry } from './evidence.ts';

/** `certain`: the evidence excludes other causes. `likely`: another cause is possible, without evidence for it. `unsure`: the evidence is not sufficient. */
export const INCIDENT_CONFIDENCES = ['certain', 'likely', 'unsure'] as const;
/** One of `INCIDENT_CONFIDENCES`. */
export type IncidentConfidence = (typeof INCIDENT_CONFIDENCES)[number];

/** The symptoms of a cause: a cause on our side that explains one is named before the partner. */
export type Symptom = 'name' | 'silent' | 'refused' | 'unreachable' | 'tls' | 'certificate-dates' | 'http';

/** A line of evidence. */
export interface EvidenceLine {
  /** Ms since the epoch; null: it holds now. */
  readonly at: number | null;
  readonly text: string;
}

/** One cause that was found. */
export interface IncidentFinding {
  /** Of the rule. */
  readonly rule: string;
  readonly part: IncidentPart;
  /** `broken`: requests fail because of it. `degraded`: something is wrong, and requests are served nevertheless. */
  readonly state: 'broken' | 'degraded';
  readonly confidence: IncidentConfidence;
  /** Null: it concerns all. */
  readonly destination: string | null;
  /** What is wrong: a sentence without its full stop. */
  readonly what: string;
  readonly since: number | null;
  readonly evidence: readonly EvidenceLine[];
  /** What else it may be. */
  readonly alternatives: readonly { readonly part: IncidentPart; readonly why: string }[];
  readonly next: readonly string[];
  /** Symptoms that it may explain. */
  readonly explains: readonly Symptom[];
}

/** As a rule gives it. */
export type NamelessFinding = Omit<IncidentFinding, 'rule'>;

/** One row of the table of rules. */
export interface IncidentRule {
  readonly name: string;
  /** @param earlier findings of the earlier rules */
  readonly find: (evidence: IncidentEvidence, earlier: readonly IncidentFinding[]) => readonly NamelessFinding[];
}

/** A minute: later events count as now. */
export const RECENT_MS = 60_000;

/** Whether it happened at most `ms` before `now`, or while this was tried. What lies further ahead is older: the clock was set back since. */
export const isWithin = (at: number, now: number, ms: number): boolean => Math.abs(now - at) <= ms;

/** The result of a connection, from both tries: one that was open, and one without an answer, are packets that were lost. */
export function outcomeOfTry({ tcp, again }: AddressTry): TcpOutcome {
  return again === null || (again.outcome === 'silent' && tcp.outcome === 'open') ? tcp.outcome : again.outcome;
}

/** Systems send the first packet of a connection again after a second (RFC 6298 §2). */
const SECOND_SYN_MS = 900;

/** It connected, but not by its first packet each time: one of two tries had no answer, or the only one took a second or more. */
export function isLossy({ tcp, again }: AddressTry): boolean {
  if (again !== null)
    return (tcp.outcome === 'silent' && again.outcome !== 'silent') || (tcp.outcome === 'open' && again.outcome === 'silent');
  return tcp.outcome === 'open' && tcp.ms >= SECOND_SYN_MS;
}

/** From this number, retransmitted segments are more than the usual few. */
const MANY_AGAIN = 10;
const LARGE_SHARE_AGAIN = 0.02;
/** Of so many segments, some are sent again if packets are lost at a rate that a connection's first packet is likely to meet. */
const TELLING_SEGMENTS = 200;
const SMALL_SHARE_AGAIN = 0.005;

/**
 * What the retransmissions on open connections say of lost packets:
 * `everywhere`, on connections of every kind; `not-on-open`, so that a first
 * packet that had no answer was not lost by chance; `unknown`, too few segments,
 * or a system that does not report them.
 */
export function judgeLoss({ proxy: { segments } }: IncidentEvidence): 'everywhere' | 'not-on-open' | 'unknown' {
  if (segments === null) return 'unknown';
  const { sent, again } = segments;
  if (again >= MANY_AGAIN && again >= sent * LARGE_SHARE_AGAIN) return 'everywhere';
  return sent >= TELLING_SEGMENTS && again <= sent * SMALL_SHARE_AGAIN ? 'not-on-open' : 'unknown';
}

/** Tries of one host and port. */
export function byTarget({ tries }: DestinationEvidence): AddressTry[][] {
  return [...Map.groupBy(tries, ({ where }) => where).values()];
}

/** The host that was tried. */
export function hostTried({ where }: AddressTry): string {
  return where.replace(/:\d+$/, '');
}

/** Whether no address of some host and port accepts a connection. */
export function isDown(destination: DestinationEvidence): boolean {
  return byTarget(destination).some((tries) => tries.every((one) => outcomeOfTry(one) !== 'open'));
}

/** Whether requests to it fail now, as far as the latest one, the tries and the look-ups show. */
export function isBroken(destination: DestinationEvidence): boolean {
  return (
    (destination.last !== null && destination.last !== 'ok') ||
    isDown(destination) ||
    destination.names.some(({ fault, inUse }) => fault !== null && inUse === null) ||
    destination.parents.some(({ tcp }) => tcp.length > 0 && tcp.every(({ outcome }) => outcome !== 'open')) ||
    destination.routes.some(({ fault }) => fault !== null)
  );
}

/** Other destinations that are reached from here, in words; null: none of those tried. */
export function reachedElsewhere({ source, destinations }: IncidentEvidence, than: string): string | null {
  if (source.endpoint !== null && source.result !== 'unknown') return `the echo endpoint ${source.endpoint}`;
  for (const { name, tries } of destinations) {
    const open = name === than ? undefined : tries.find((one) => outcomeOfTry(one) === 'open');
    if (open !== undefined) return `${open.tcp.address}:${open.tcp.port} of ${name}`;
  }
  return null;
}

/** Whether it is proved that partners see the expected source address. */
export function isSourceProven({ source }: IncidentEvidence): boolean {
  return source.result === 'match';
}

/** The cause on our side that may explain a symptom; undefined: none was found. */
export function explainedBy(earlier: readonly IncidentFinding[], destination: string, symptom: Symptom): IncidentFinding | undefined {
  return earlier.find((one) => (one.destination === null || one.destination === destination) && one.explains.includes(symptom));
}

/** A pause that ends a row of failures: its minimum length, ms, and its ratio to the usual pause. */
const LEAST_PAUSE_MS = 10_000;
const LONG_PAUSE = 5;

/** When the latest unbroken row of failures with these codes began, or when the first circuit opened because of them; null: neither is known. */
export function failingSince({ failures, circuits }: DestinationEvidence, codes: readonly string[]): number | null {
  const times = failures.filter(({ code }) => codes.includes(code)).map(({ at }) => at);
  const pauses = times.slice(1).map((at, index) => (times[index] ?? at) - at);
  const usual = pauses.toSorted((one, other) => one - other)[Math.floor(pauses.length / 2)] ?? 0;
  const end = pauses.findIndex((pause) => pause > Math.max(LEAST_PAUSE_MS, usual * LONG_PAUSE));
  const row = end === -1 ? times.at(-1) : times[end];
  const known = [
    ...(row === undefined ? [] : [row]),
    ...circuits.filter(({ reason }) => codes.some((code) => reason.startsWith(code))).map(({ since }) => since),
  ];
  return known.length === 0 ? null : Math.min(...known);
}

/** One try of a connection, for people. */
export function describeTcp({ address, port, from, outcome, detail, ms }: AddressTry['tcp']): string {
  const place = `${formatAuthority(address, port)}${from === null ? '' : ` from ${from}`}`;
  const told = {
    open: `connected in ${ms} ms`,
    refused: `refused (${detail})`,
    silent: `no answer in ${ms} ms`,
    unreachable: `no route to it (${detail})`,
    unsent: `nothing was sent (${detail})`,
  };
  return `TCP to ${place}: ${told[outcome]}`;
}

/** Every step of a try. */
export function linesOfTry({ tcp, again, tls, http, where }: AddressTry): EvidenceLine[] {
  return [
    { at: tcp.at, text: describeTcp(tcp) },
    ...(again === null ? [] : [{ at: again.at, text: `${describeTcp(again)}, second try` }]),
    ...linesOfTls(tls, `${where} at ${tcp.address}`, tcp.at),
    ...linesOfHttp(http, `${where} at ${tcp.address}`, tcp.at),
  ];
}

/** A TLS handshake, for people. */
export function linesOfTls(tls: TlsTry | null, where: string, at: number): EvidenceLine[] {
  if (tls === null) return [];
  const shown =
    tls.certificate === null
      ? ''
      : `; certificate for ${tls.certificate.names}, of ${tls.certificate.issuer}, valid from ${formatMoment(tls.certificate.validFrom)} to ${formatMoment(tls.certificate.validTo)}`;
  return [{ at, text: `TLS with ${where}: ${tls.fault === null ? 'verified' : `${tls.fault.code}, ${tls.fault.detail}`}${shown}` }];
}

/** A request, for people. */
export function linesOfHttp(http: HttpTry | null, where: string, at: number): EvidenceLine[] {
  if (http === null) return [];
  return [
    {
      at,
      text: `${http.asked} to ${where}: ${http.fault === null ? `status ${http.status} in ${http.ms} ms` : `${http.fault.code}, ${http.fault.detail}`}`,
    },
  ];
}

/** A certificate that has expired or is not valid yet, by our clock. */
export function isDateFault(detail: string): boolean {
  return /CERT_HAS_EXPIRED|CERT_NOT_YET_VALID/.test(detail);
}

/** A finding, with the usual values for what is not given. */
export function completeFinding(found: Partial<NamelessFinding> & Pick<NamelessFinding, 'part' | 'what' | 'state'>): NamelessFinding {
  return { confidence: 'certain', destination: null, since: null, evidence: [], alternatives: [], next: [], explains: [], ...found };
}
