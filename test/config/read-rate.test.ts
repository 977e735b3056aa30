/** Rates as they are written, each with the neighbour just outside. */
import t from 'tap';
import { readRate } from '../../src/config/read-rate.ts';

const KIB = 1024;

t.test('requests and tunnels', async (t) => {
  const read = readRate('count');
  const table: [written: string, perMs: number, burst: number, text: string][] = [
    ['50/s', 0.05, 50, '50/s'],
    ['1/s', 0.001, 1, '1/s'],
    ['600/m burst 100', 0.01, 100, '600/m burst 100'],
    ['1000/h', 1000 / 3_600_000, 1000, '1000/h'],
    ['5000/day burst 5000', 5000 / 86_400_000, 5000, '5000/day'],
    [' 50 / s  burst  7 ', 0.05, 7, '50/s burst 7'],
    ['1000000/s burst 1000000', 1000, 1_000_000, '1000000/s'],
    ['1/day burst 31', 1 / 86_400_000, 31, '1/day burst 31'],
  ];
  for (const [written, perMs, burst, text] of table) t.strictSame(read(written), { value: { perMs, burst, text } }, written);
});

t.test('bytes', async (t) => {
  const read = readRate('bytes');
  const table: [written: string, perMs: number, burst: number, text: string][] = [
    ['10GiB/day', (10 * KIB ** 3) / 86_400_000, 10 * KIB ** 3, '10GiB/day'],
    ['20MiB/s burst 1GiB', (20 * KIB ** 2) / 1000, KIB ** 3, '20MiB/s burst 1GiB'],
    ['1024KiB/h', KIB ** 2 / 3_600_000, KIB ** 2, '1MiB/h'],
    ['1000B/m', 1000 / 60_000, 1000, '1000B/m'],
    ['1024TiB/day', KIB ** 5 / 86_400_000, KIB ** 5, '1024TiB/day'],
  ];
  for (const [written, perMs, burst, text] of table) t.strictSame(read(written), { value: { perMs, burst, text } }, written);
});

t.test('what is not a rate', async (t) => {
  const table: [of: 'count' | 'bytes', written: unknown, words: RegExp][] = [
    ['count', 50, /^50 does not say in which time\. Write how many in which time: 50\/s/],
    ['count', '50', /^"50" is not a rate\. Write how many/],
    ['count', '', /is not a rate/],
    ['count', '50/', /is not a rate/],
    ['count', '/s', /is not a rate/],
    ['count', '1.5/s', /is not a rate/],
    ['count', '-5/s', /is not a rate/],
    ['count', '50/s burst', /is not a rate/],
    ['count', '50/s, burst 100', /is not a rate/],
    ['count', '50/5s', /is not a rate/],
    ['count', ['50/s'], /is not a rate/],
    ['count', '50/min', /a time that is not known: min\. Did you mean \/m\? Write \/s, \/m, \/h or \/day/],
    ['count', '50/d', /Did you mean \/day\?/],
    ['count', '50/hour', /Did you mean \/h\?/],
    ['count', '50/week', /a time that is not known: week\. Write \/s/],
    ['count', '50/ms', /a time that is not known: ms/],
    ['count', '50MiB/s', /has the unit MiB, and requests and tunnels have none\. Write a number alone/],
    ['count', '50/s burst 10k', /has the unit k,/],
    ['count', '0/s', /would refuse everything\. Write more than zero\./],
    ['count', '5/s burst 0', /would refuse everything/],
    ['count', '1000001/s', /is too much\. Write at most 1000000, or leave it out/],
    ['count', '1/s burst 1000001', /is too much/],
    ['count', '1/day burst 32', /would take 32 days to be full again\. Write a burst that is refilled within 31 days/],
    ['bytes', '10/day', /has no unit\. Write the bytes with their unit/],
    ['bytes', 10, /does not say in which time/],
    ['bytes', '10GiB', /is not a rate/],
    ['bytes', '10GB/day', /a unit that is not known: GB\. Did you mean 10GiB\? Write B, KiB/],
    ['bytes', '10g/day', /Did you mean 10GiB\?/],
    ['bytes', '10Mbit/s', /a unit that is not known: Mbit\. Write B, KiB/],
    ['bytes', '10GiB/day burst 1', /has no unit/],
    ['bytes', '0GiB/day', /would refuse everything/],
    ['bytes', '1025TiB/day', /is too much\. Write at most 1024TiB/],
    ['bytes', '9999999999999999B/day', /is not a rate/],
  ];
  for (const [of, written, words] of table) {
    const result = readRate(of)(written);
    t.match('problem' in result ? `${result.problem} ${result.instead}` : 'was taken', words, JSON.stringify(written));
  }
});
