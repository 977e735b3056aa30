/** When a figure counts as grown. */
import t from 'tap';
import { findDrifts, type Sample } from './quarters.ts';

const LASTED = 4000;
/** Ten samples in each quarter, around these values. */
function run(...values: readonly number[]): Sample[] {
  return values.flatMap((value, quarter) => Array.from({ length: 10 }, (_, i): Sample => ({ at: quarter * 1000 + i * 100, resident: value * 1000 + (i % 3), descriptors: value })));
}

t.test('from the second quarter to the last', async (t) => {
  const cases: readonly (readonly [what: string, values: readonly number[], figure: 'resident' | 'descriptors', isTooMuch: boolean])[] = [
    ['flat', [100, 100, 100, 100], 'resident', false],
    ['the first quarter does not count', [10, 100, 100, 100], 'resident', false],
    ['5 %', [100, 100, 104, 105], 'resident', false],
    ['more', [100, 100, 104, 106], 'resident', true],
    ['less than before', [100, 100, 50, 50], 'resident', false],
    ['a small count, by five', [20, 20, 20, 25], 'descriptors', false],
    ['by six', [20, 20, 20, 26], 'descriptors', true],
    ['a large one, by 5 %', [200, 200, 200, 210], 'descriptors', false],
    ['by more', [200, 200, 200, 211], 'descriptors', true],
  ];
  for (const [what, values, figure, isTooMuch] of cases) t.match(findDrifts(run(...values), LASTED, [figure]), [{ figure, isTooMuch }], what);
});

t.test('one that comes late does not hide in a median', async (t) => {
  const samples = run(100, 100, 100, 100).map((sample) => (sample.at === 3900 ? { ...sample, resident: 1e9 } : sample));
  t.match(findDrifts(samples, LASTED, ['resident']), [{ isTooMuch: false }], 'a peak of one moment is none');
  t.throws(() => findDrifts(samples, LASTED, ['heap']), /quarter 1 has no heap/);
});
