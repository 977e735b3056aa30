/**
 * Readers of single values: names, numbers, durations, sizes and times. Each
 * returns the value, or what is wrong and what to write.
 */
import { type PortEntry, PortRange } from '../targets/port-range.ts';
import { showValue } from './finding.ts';

/** What is wrong with a text and what to write instead, one sentence each. */
export interface InvalidValue {
  readonly problem: string;
  readonly instead: string;
  /** Its line of the file is not shown: it may have a secret. */
  readonly hidden?: boolean;
}

/** A value, or why there is none. */
export type Read<T> = { readonly value: T } | InvalidValue;

/** The failed half of `Read`. */
export function invalidValue(problem: string, instead: string): InvalidValue {
  return { problem, instead };
}

/** What the readers with bounds accept, for the JSON Schema of the file: numbers, characters of a line, or a text with a unit. */
export type ReaderBounds =
  | { readonly takes: 'integer' | 'line'; readonly least: number; readonly most: number }
  | { readonly takes: 'duration' | 'size' | 'rate' | 'byte-rate' };

/** For each reader with bounds. */
export const READER_BOUNDS = new WeakMap<(value: unknown) => Read<unknown>, ReaderBounds>();

/** Records what a reader accepts. */
export function bounded<T>(bounds: ReaderBounds, read: (value: unknown) => Read<T>): (value: unknown) => Read<T> {
  READER_BOUNDS.set(read, bounds);
  return read;
}

/** Names become metric labels. A letter is required, since JavaScript would reorder keys of digits only. */
const CONFIG_NAME = /^(?=.*[a-z])[a-z0-9][a-z0-9-]{0,62}$/;

/** A name in the configuration: lower-case letters, digits and dashes, with a letter among them, no dash first, at most 63 characters. */
export function readName(value: unknown): Read<string> {
  if (typeof value === 'string' && CONFIG_NAME.test(value)) return { value };
  return invalidValue(
    `${showValue(value)} is not a name.`,
    'Use lower-case letters, digits and dashes, with a letter among them, at most 63, no dash first: eco-sit.',
  );
}

/** RFC 1123 label, as Kubernetes requires for namespaces. */
export function readNamespace(value: unknown): Read<string> {
  if (typeof value === 'string' && /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/.test(value)) return { value };
  return invalidValue(
    `${showValue(value)} is not a namespace.`,
    'Use lower-case letters, digits and dashes, at most 63, no dash first or last: dynatrace-sit.',
  );
}

/** `app=activegateway`, as Kubernetes labels: the key may have a prefix, the value may be empty. */
export function readLabel(value: unknown): Read<readonly [key: string, value: string]> {
  const match =
    typeof value === 'string'
      ? /^((?:(?=[^/]{1,253}\/)[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*\/)?[A-Za-z0-9](?:[\w.-]{0,61}[A-Za-z0-9])?)=((?:[A-Za-z0-9](?:[\w.-]{0,61}[A-Za-z0-9])?)?)$/.exec(
          value,
        )
      : null;
  const [, key, text] = match ?? [];
  if (key !== undefined && text !== undefined) return { value: [key, text] };
  return invalidValue(`${showValue(value)} is not a label.`, 'Write key=value, as in app.kubernetes.io/name=activegateway.');
}

/** A whole number within bounds, both included. */
export function readInteger(least: number, most: number): (value: unknown) => Read<number> {
  return bounded({ takes: 'integer', least, most }, (value) => {
    const number = typeof value === 'string' && /^\d+$/.test(value) ? Number(value) : value;
    if (typeof number !== 'number' || !Number.isInteger(number) || number < least || number > most)
      return invalidValue(`${showValue(value)} is not possible here.`, `Write a whole number from ${least} to ${most}.`);
    if (number === value) return { value: number };
    return invalidValue(
      `${showValue(value)} is text, not a number.`,
      `Write it without quotes: ${number}. A variable too: \${NAME}, on a line of its own.`,
    );
  });
}

/** 1 to 65535; digits in quotes too, because a variable inside brackets must be quoted. */
export function readPort(value: unknown): Read<number> {
  const port = typeof value === 'string' && /^[1-9]\d{0,4}$/.test(value) ? Number(value) : value;
  if (typeof port === 'number' && Number.isInteger(port) && port >= 1 && port <= 65_535) return { value: port };
  return invalidValue(`${showValue(value)} is not a port.`, 'Write a whole number from 1 to 65535.');
}

/** A port, or the first and last of a range: `8000-8100`. */
export function readPorts(value: unknown): Read<PortEntry> {
  const [, first, last] = typeof value === 'string' ? (/^([1-9]\d{0,4})\s*-\s*([1-9]\d{0,4})$/.exec(value) ?? []) : [];
  if (first === undefined || last === undefined) {
    const read = readPort(value);
    return 'value' in read ? read : invalidValue(read.problem, 'Write a whole number from 1 to 65535, or a range of them: 8000-8100.');
  }
  if (Number(first) > 65_535) return invalidValue(`${showValue(value)} begins beyond the last port.`, 'Write a range within 1-65535.');
  if (Number(last) > 65_535) return invalidValue(`${showValue(value)} goes beyond the last port.`, `Write ${first}-65535.`);
  if (Number(first) > Number(last)) return invalidValue(`${showValue(value)} ends before it begins.`, `Write ${last}-${first}.`);
  return { value: first === last ? Number(first) : new PortRange(Number(first), Number(last)) };
}

/** 0 to 1, both included. */
export function readShare(value: unknown): Read<number> {
  if (typeof value === 'number' && value >= 0 && value <= 1) return { value };
  return invalidValue(`${showValue(value)} is not a share.`, 'Write a number from 0 to 1, without quotes: 0.1 is every tenth.');
}

const UNIT_MS = new Map([
  ['ms', 1],
  ['s', 1000],
  ['m', 60_000],
  ['h', 3_600_000],
]);

/** Ms: timers of the platform hold 31 bits of them, which are 596 hours. */
const LONGEST_DURATION = 576 * 3_600_000;
const AT_MOST = 'Write at most 576h.';

const MORE_THAN_ZERO = 'Write more than zero. A long time such as 24h comes close to none at all.';

/** `500ms`, `30s`, `5m` or `2h`, as milliseconds. */
export function readDuration(least: 'zero' | 'positive'): (value: unknown) => Read<number> {
  return bounded({ takes: 'duration' }, (value) => {
    const digits = typeof value === 'number' || typeof value === 'string' ? String(value) : '';
    if (/^\d+$/.test(digits)) {
      if (Number(digits) === 0 && least === 'positive') return invalidValue(`${digits} would end everything at once.`, MORE_THAN_ZERO);
      const possible = [...UNIT_MS].filter(([, ms]) => Number(digits) * ms <= LONGEST_DURATION).map(([name]) => `${digits}${name}`);
      return invalidValue(
        `${digits} has no unit.`,
        possible.length === 0 ? AT_MOST : `Write a duration with its unit: ${possible.join(', ')}.`,
      );
    }
    const match = typeof value === 'string' ? /^(\d+)(ms|s|m|h)$/.exec(value) : null;
    const unit = UNIT_MS.get(match?.[2] ?? '');
    if (unit === undefined)
      return invalidValue(
        `${showValue(value)} is not a duration.`,
        'Write a whole number and its unit, with nothing between: 500ms, 30s, 5m or 2h.',
      );
    const ms = Number(match?.[1]) * unit;
    if (ms > LONGEST_DURATION) return invalidValue(`${showValue(value)} is too long.`, AT_MOST);
    if (ms === 0 && least === 'positive') return invalidValue(`${showValue(value)} would end everything at once.`, MORE_THAN_ZERO);
    return { value: ms };
  });
}

const readPositive = readDuration('positive');

/** A positive duration, or `off`, which is null. */
export function readEvery(value: unknown): Read<number | null> {
  if (value === 'off') return { value: null };
  const read = readPositive(value);
  return 'value' in read ? read : invalidValue(read.problem, `${read.instead} Never is off.`);
}

const UNIT_BYTES = new Map([
  ['B', 1],
  ['KiB', 1024],
  ['MiB', 1024 * 1024],
]);

/** `4096B`, `64KiB` or `1MiB`, as bytes. Bounds are in KiB. */
export function readSize(leastKiB: number, mostKiB: number): (value: unknown) => Read<number> {
  return bounded({ takes: 'size' }, (value) => {
    if (typeof value === 'number' || (typeof value === 'string' && /^\d+$/.test(value))) {
      return invalidValue(`${value} has no unit.`, 'Write a size with its unit: 4096B, 64KiB or 1MiB.');
    }
    const match = typeof value === 'string' ? /^(\d+)(B|KiB|MiB)$/.exec(value) : null;
    const unit = UNIT_BYTES.get(match?.[2] ?? '');
    if (unit === undefined)
      return invalidValue(
        `${showValue(value)} is not a size.`,
        'Write a whole number and its unit, with nothing between: 4096B, 64KiB or 1MiB.',
      );
    const bytes = Number(match?.[1]) * unit;
    if (bytes >= leastKiB * 1024 && bytes <= mostKiB * 1024) return { value: bytes };
    return invalidValue(`${showValue(value)} is not possible here.`, `Write a size from ${leastKiB}KiB to ${mostKiB}KiB.`);
  });
}

/** Any text that is not empty. */
export function readText(value: unknown): Read<string> {
  if (typeof value === 'string' && value !== '') return { value };
  return invalidValue(`${showValue(value)} is not a text.`, 'Write a text, in quotes if it looks like a number.');
}

/** A line of text for people, such as a reason or the number of a ticket. It contains no terminal controls, and no characters that reorder or hide text. */
export function readOneLine(longest: number): (value: unknown) => Read<string> {
  return bounded({ takes: 'line', least: 1, most: longest }, (value) => {
    if (typeof value !== 'string' || value.trim() === '') return readText(typeof value === 'string' ? '' : value);
    if (value.length > longest) return invalidValue(`${showValue(value)} has ${value.length} characters.`, `Write at most ${longest}.`);
    // A folded text ends with a line break.
    const line = value.trim();
    if (/[\p{C}\p{Zl}\p{Zp}]/u.test(line))
      return invalidValue(`${showValue(value)} has a line break or an invisible character.`, 'Write one line of plain text.');
    return { value: line };
  });
}

// Reader of times: the start and end of a rule.

/** RFC 3339: an ambiguous time is not accepted. */
const MOMENT = /^(\d{4}-\d{2}-\d{2})T(\d{2}:\d{2}(?::\d{2})?)(Z|[+-]\d{2}:\d{2})$/;

/** `2027-03-01T18:00:00Z` or `2027-03-01T18:00+01:00`, as ms since the epoch. */
export function readMoment(value: unknown): Read<number> {
  const example = 'Write date, time and offset: 2027-03-01T18:00:00Z, or 2027-03-01T19:00:00+01:00.';
  if (typeof value !== 'string') return invalidValue(`${showValue(value)} is not a moment.`, example);
  const match = MOMENT.exec(value);
  if (match === null) {
    const found = /^\d{4}-\d{2}-\d{2}$/.test(value)
      ? 'is a date without a time'
      : /^\d{4}-\d{2}-\d{2}T[\d:.]+$/.test(value)
        ? 'has no offset from UTC'
        : 'is not a moment';
    return invalidValue(`${showValue(value)} ${found}.`, example);
  }
  const [, date = '', time = '', offset = ''] = match;
  const utc = Date.parse(`${date}T${time}Z`);
  const ms = Date.parse(value);
  // The platform reads 30 February as 2 March.
  if (Number.isNaN(ms) || !new Date(utc).toISOString().startsWith(`${date}T${time}`))
    return invalidValue(`${showValue(value)} is not a valid date and time.`, example);
  if (offset !== 'Z' && Math.abs(ms - utc) > 14 * 3_600_000)
    return invalidValue(`${showValue(value)} has an offset from UTC that does not exist.`, example);
  return { value: ms };
}
