import t from 'tap';
import { RareNotice } from '../../src/telemetry/rare-notice.ts';

t.test('the first is logged at once, the next a minute later with how many there were', async (t) => {
  const lines: unknown[] = [];
  let now = 0;
  const rare = new RareNotice({ telemetry: { notice: (...line) => lines.push(line) }, now: () => now });
  const tell = (at: number, message = 'full'): void => {
    now = at;
    rare.notice('warn', message, { who: at });
  };
  for (const at of [0, 1, 59_999]) tell(at);
  tell(59_999, 'other');
  t.strictSame(lines, [['warn', 'full', { who: 0, count: 1 }], ['warn', 'other', { who: 59_999, count: 1 }]]);
  tell(60_000);
  tell(60_001);
  t.strictSame(lines.at(-1), ['warn', 'full', { who: 60_000, count: 3 }]);
  tell(200_000);
  t.strictSame(lines.at(-1), ['warn', 'full', { who: 200_000, count: 2 }]);
  t.equal(lines.length, 4);
});
