/** Moments, each with the neighbour just outside. */
import t from 'tap';
import { readMoment } from '../../src/config/read-scalar.ts';

t.test('moments', async (t) => {
  const taken: [written: string, iso: string][] = [
    ['2027-03-01T18:00:00Z', '2027-03-01T18:00:00.000Z'],
    ['2027-03-01T18:00Z', '2027-03-01T18:00:00.000Z'],
    ['2027-03-01T18:00:00+01:00', '2027-03-01T17:00:00.000Z'],
    ['2028-02-29T23:59:59-05:30', '2028-03-01T05:29:59.000Z'],
    ['2027-03-01T00:00:00+14:00', '2027-02-28T10:00:00.000Z'],
  ];
  for (const [written, iso] of taken) t.strictSame(readMoment(written), { value: Date.parse(iso) }, written);
});

t.test('what is not valid', async (t) => {
  const refused: [written: unknown, problem: RegExp][] = [
    ['2027-03-01', /a date without a time/],
    ['2027-03-01T18:00:00', /no offset/],
    ['2027-03-01T18:00', /no offset/],
    ['2027-03-01 18:00:00Z', /not a moment/],
    ['2027-03-01t18:00:00z', /not a moment/],
    ['2027-02-29T18:00:00Z', /not a valid date and time/],
    ['2027-04-31T18:00:00Z', /not a valid date and time/],
    ['2027-13-01T18:00:00Z', /not a valid date and time/],
    ['2027-03-01T24:00:00Z', /not a valid date and time/],
    ['2027-03-01T23:60:00Z', /not a valid date and time/],
    ['2027-03-01T18:00:00+15:00', /offset from UTC that does not exist/],
    ['2027-03-01T18:00:00+01', /not a moment/],
    ['tomorrow', /not a moment/],
    [1_800_000_000, /not a moment/],
    ['', /not a moment/],
  ];
  for (const [written, problem] of refused) t.match(readMoment(written), { problem, instead: /2027-03-01T18:00:00Z/ }, JSON.stringify(written));
});
