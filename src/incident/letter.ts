/** The paragraph for the partner: our source address, what was tried and when, and the results. Only where its part is the likely cause. Pure. */
import type { IncidentEvidence } from './evidence.ts';
import { type IncidentFinding, reachedElsewhere, utc } from './finding.ts';

const MOST_QUOTED = 8;

/** Null where the partner is not the likely cause: a partner must not be blamed for a possible fault on our side. */
export function writeLetter(whole: IncidentEvidence, { part, confidence, destination, what, since, evidence }: IncidentFinding): string | null {
  const { at, source, destinations } = whole;
  const elsewhere = destination === null ? null : reachedElsewhere(whole, destination);
  if (!part.startsWith('partner') || confidence === 'unsure') return null;
  const hosts = destinations.filter(({ name }) => name === destination).flatMap(({ names, tries }) => [...names.map(({ host }) => host), ...tries.map(({ where }) => where.replace(/:\d+$/, ''))]);
  const from = source.seen ?? (source.expected.length > 0 ? source.expected.join(' or ') : null);
  const proven = source.result === 'match' && source.seen !== null ? ` (seen from outside at ${utc(source.at)})` : '';
  const tried = evidence.filter((line) => line.at !== null).slice(0, MOST_QUOTED);
  return [
    `We connect to ${[...new Set(hosts)].join(', ')} from ${from === null ? 'our source address (not known to this tool: please add it)' : `the source address ${from}${proven}`}. ${since === null ? `At ${utc(at)}` : `Since ${utc(since)}`} we see: ${what}.`,
    'Tried from here (times in UTC; source ports are those before our NAT):',
    ...tried.map((line) => `- ${utc(line.at ?? at)} ${line.text}`),
    `${elsewhere === null ? '' : `From the same network we reach ${elsewhere}. `}Could you please look at your side at these times, and tell us whether something has changed?`,
  ].join('\n');
}
