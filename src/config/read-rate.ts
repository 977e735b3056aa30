/** Reader of `rules[].rate`: an amount per time, and a burst. */
import type { RateLimit } from './config.ts';
import { showValue } from './finding.ts';
import { bounded, invalidValue, type Read } from './read-scalar.ts';

const PERIOD_MS = new Map([
  ['s', 1000],
  ['m', 60_000],
  ['h', 3_600_000],
  ['day', 86_400_000],
]);
/** Common mistakes. */
const OTHER_PERIODS = new Map([
  ['sec', 's'],
  ['second', 's'],
  ['min', 'm'],
  ['minute', 'm'],
  ['hour', 'h'],
  ['hr', 'h'],
  ['d', 'day'],
  ['days', 'day'],
]);
const BYTES_OF = new Map([
  ['B', 1],
  ['KiB', 1024],
  ['MiB', 1024 ** 2],
  ['GiB', 1024 ** 3],
  ['TiB', 1024 ** 4],
]);
/** Likewise: powers of ten, bits, and other letters. */
const OTHER_UNITS = new Map([
  ['K', 'KiB'],
  ['KB', 'KiB'],
  ['M', 'MiB'],
  ['MB', 'MiB'],
  ['G', 'GiB'],
  ['GB', 'GiB'],
  ['T', 'TiB'],
  ['TB', 'TiB'],
]);

const RATE = /^(\d{1,15})\s*([a-z]*)\s*\/\s*([a-z]+)(?:\s+burst\s+(\d{1,15})\s*([a-z]*))?$/i;

const MOST_COUNTED = 1_000_000;
const MOST_BYTES = 1024 ** 5;
/** How long an empty bucket may take to be full again, days. */
const LONGEST_REFILL = 31;

const RATE_EXAMPLES = { count: '50/s, 600/m burst 100, 1000/h or 5000/day', bytes: '20MiB/s, 20MiB/s burst 1GiB, 1GiB/h or 10GiB/day' };

/** `50/s`, `600/m burst 100`; for bytes `10GiB/day`. Without `burst`, the burst is the amount of the given time. */
export function readRate(of: 'count' | 'bytes'): (value: unknown) => Read<RateLimit> {
  const example = `Write how many in which time: ${RATE_EXAMPLES[of]}.`;
  return bounded({ takes: of === 'count' ? 'rate' : 'byte-rate' }, (value) => {
    const shown = showValue(value);
    if (typeof value === 'number') return invalidValue(`${shown} does not say in which time.`, example);
    const match = typeof value === 'string' ? RATE.exec(value.trim()) : null;
    if (match === null) return invalidValue(`${shown} is not a rate.`, example);
    const [, number = '', unit = '', period = '', most, burstUnit = ''] = match;
    const ms = PERIOD_MS.get(period);
    if (ms === undefined)
      return invalidValue(
        `${shown} has a time that is not known: ${period}.`,
        suggestFor(period, OTHER_PERIODS, 'Write /s, /m, /h or /day.', '/'),
      );
    const amount = amountOf(of, number, unit, shown);
    if ('problem' in amount) return amount;
    const burst = most === undefined ? amount : amountOf(of, most, burstUnit, shown);
    if ('problem' in burst) return burst;
    const perMs = amount.value / ms;
    const days = burst.value / perMs / 86_400_000;
    if (days > LONGEST_REFILL)
      return invalidValue(
        `${shown} would take ${Math.ceil(days)} days to be full again.`,
        `Write a burst that is refilled within ${LONGEST_REFILL} days.`,
      );
    const text = `${formatAmount(of, amount.value)}/${period}`;
    return {
      value: { perMs, burst: burst.value, text: burst.value === amount.value ? text : `${text} burst ${formatAmount(of, burst.value)}` },
    };
  });
}

function amountOf(of: 'count' | 'bytes', number: string, unit: string, shown: string): Read<number> {
  const size = of === 'count' ? (unit === '' ? 1 : undefined) : BYTES_OF.get(unit);
  if (of === 'count' && size === undefined)
    return invalidValue(
      `${shown} has the unit ${unit}, and requests and tunnels have none.`,
      `Write a number alone: ${RATE_EXAMPLES.count}.`,
    );
  if (size === undefined) {
    if (unit === '') return invalidValue(`${shown} has no unit.`, `Write the bytes with their unit: ${RATE_EXAMPLES.bytes}.`);
    return invalidValue(
      `${shown} has a unit that is not known: ${unit}.`,
      suggestFor(unit.toUpperCase(), OTHER_UNITS, 'Write B, KiB, MiB, GiB or TiB.', number),
    );
  }
  const value = Number(number) * size;
  if (value === 0) return invalidValue(`${shown} would refuse everything.`, 'Write more than zero.');
  const most = of === 'count' ? MOST_COUNTED : MOST_BYTES;
  return value <= most
    ? { value }
    : invalidValue(`${shown} is too much.`, `Write at most ${formatAmount(of, most)}, or leave it out: then it is not limited.`);
}

function suggestFor(written: string, known: ReadonlyMap<string, string>, all: string, before: string): string {
  const meant = known.get(written);
  return meant === undefined ? all : `Did you mean ${before}${meant}? ${all}`;
}

function formatAmount(of: 'count' | 'bytes', value: number): string {
  if (of === 'count') return String(value);
  const [name, size] = [...BYTES_OF].findLast(([, bytes]) => value % bytes === 0) ?? ['B', 1];
  return `${value / size}${name}`;
}
