/** Reader of moments: the start and end of a rule. */
import { show } from './finding.ts';
import { wrong, type Read } from './read-scalar.ts';

/** RFC 3339: what another reader could put into another hour is not taken. */
const MOMENT = /^(\d{4}-\d{2}-\d{2})T(\d{2}:\d{2}(?::\d{2})?)(Z|[+-]\d{2}:\d{2})$/;

/** `2027-03-01T18:00:00Z` or `2027-03-01T18:00+01:00`, as ms since the epoch. */
export function readMoment(value: unknown): Read<number> {
  const example = 'Write date, time and offset: 2027-03-01T18:00:00Z, or 2027-03-01T19:00:00+01:00.';
  if (typeof value !== 'string') return wrong(`${show(value)} is not a moment.`, example);
  const match = MOMENT.exec(value);
  if (match === null) {
    const found = /^\d{4}-\d{2}-\d{2}$/.test(value) ? 'is a date without a time' : /^\d{4}-\d{2}-\d{2}T[\d:.]+$/.test(value) ? 'has no offset from UTC' : 'is not a moment';
    return wrong(`${show(value)} ${found}.`, example);
  }
  const [, date = '', time = '', offset = ''] = match;
  const utc = Date.parse(`${date}T${time}Z`);
  const ms = Date.parse(value);
  // The platform takes 30 February for 2 March.
  if (Number.isNaN(ms) || !new Date(utc).toISOString().startsWith(`${date}T${time}`)) return wrong(`${show(value)} is no day and time of the calendar.`, example);
  if (offset !== 'Z' && Math.abs(ms - utc) > 14 * 3_600_000) return wrong(`${show(value)} has an offset that no place has.`, example);
  return { value: ms };
}
