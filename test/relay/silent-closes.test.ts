/** How carefully connections are used again, by what the latest ones did. */
import t from 'tap';
import { SilentCloses } from '../../src/relay/reuse.ts';

t.test('at first doubtful; one close is enough for frequent, some fifty without one for neither', async (t) => {
  const closes = new SilentCloses();
  t.equal(closes.areDoubtful, true);
  t.equal(closes.areFrequent, false);
  closes.noteClosed();
  t.equal(closes.areFrequent, true);
  for (let i = 0; i < 50; i += 1) closes.noteKept();
  t.equal(closes.areDoubtful, false);
  closes.noteClosed();
  t.equal(closes.areFrequent, true, 'a partner that changes is noticed at once');
});

t.test('a partner that closes one in ten is never trusted for long', async (t) => {
  const closes = new SilentCloses();
  for (let i = 0; i < 200; i += 1) {
    if (i % 10 === 9) closes.noteClosed();
    else closes.noteKept();
    if (i > 20) t.ok(closes.areDoubtful, `after ${i}`);
  }
});
