/** The state of this replica in one word, with the reasons: the top of the page. Pure. */
import type { AdminInfo, Readiness } from './status-sources.ts';
import type { CodeCount, StatusBand, StatusDestination } from './status-view.ts';

/** From this number of failures in a minute, and this share of its requests, a destination is failing even if its latest request succeeded. */
const MANY_FAILURES = 3;
const LARGE_SHARE = 0.05;

/** The most pressing state that holds, and the reasons of all that hold. @param now ms since the epoch */
export function judgeBand(
  config: AdminInfo['config'],
  isDraining: boolean,
  { reasons, warnings, notes = [] }: Readiness,
  destinations: readonly StatusDestination[],
  now: number,
): StatusBand {
  const troubles = [...(isDraining ? [] : reasons), ...warnings, ...destinations.flatMap(tellShare)];
  const reported = tellReportMode(config, now);
  const all = [...(isDraining ? reasons : []), ...troubles, ...reported];
  const state = isDraining ? 'draining' : troubles.length > 0 ? 'degraded' : reported.length > 0 ? 'report' : 'ok';
  return { state, reasons: all, notes };
}

/** A destination whose latest request failed has a separate warning. */
function tellShare({ name, state, requests, failures, errors }: StatusDestination): string[] {
  if (state !== 'ok') return [];
  const failed = failures.minute.reduce((sum, { count }) => sum + count, 0);
  const of = Math.max(requests, failed);
  const told: string[] = [];
  if (failed >= MANY_FAILURES && failed >= of * LARGE_SHARE)
    told.push(`In the last minute ${failed} of ${of} requests to ${name} failed (${listCodes(failures.minute)}).`);
  if (errors.minute >= MANY_FAILURES && errors.minute >= of * LARGE_SHARE)
    told.push(`In the last minute ${errors.minute} of ${of} requests to ${name} were answered with a status of 5xx.`);
  return told;
}

const listCodes = (counts: readonly CodeCount[]): string => counts.map(({ code, count }) => `${code}: ${count}`).join(', ');

function tellReportMode({ mode, destinations, rules }: AdminInfo['config'], now: number): string[] {
  if (mode === 'report') return ['Report mode: what the policy denies passes, and is only logged.'];
  const keys = [
    ...destinations.flatMap(({ name, report }) => (report ? [`destinations.${name}`] : [])),
    ...rules.flatMap(({ report, from, until }, i) =>
      report && (from === null || from <= now) && (until === null || now < until) ? [`rules[${i}]`] : [],
    ),
  ];
  return keys.length === 0
    ? []
    : [
        `Report mode for ${keys.length > 3 ? `${keys.slice(0, 3).join(', ')} and ${keys.length - 3} more` : keys.join(', ')}: what the policy denies there passes, and is only logged.`,
      ];
}
