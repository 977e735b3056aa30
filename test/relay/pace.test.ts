import t from 'tap';
import { Pace } from '../../src/relay/reuse.ts';

function paced(...times: readonly [count: number, ms: number][]): Pace {
  const pace = new Pace();
  for (const [count, ms] of times) for (let i = 0; i < count; i += 1) pace.note(ms);
  return pace;
}

t.test('how long to wait for a connection', async (t) => {
  for (const [what, pace, patience] of [
    ['nothing is known yet', paced(), 1000],
    ['too little is known', paced([63, 100]), 1000],
    ['just enough is known', paced([64, 100]), 50],
    ['every exchange takes 2 ms: it is the way', paced([64, 2]), 50],
    ['one took less: it is not', paced([1, 1.9], [1000, 100]), 800],
    ['quick, and so is its turn', paced([64, 1]), 400],
    ['16 connections share 200 exchanges a second', paced([64, 1.5], [1000, 80]), 640],
    ['never longer than a second', paced([64, 1.5], [1000, 900]), 1000],
    ['what was quick long ago does not count', paced([64, 1], [8192, 100]), 50],
    ['and of late it does', paced([64, 1], [4000, 100]), 800],
  ] as const) {
    t.equal(Math.round(pace.patience), Math.round(patience), what);
  }
});
