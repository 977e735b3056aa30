/** What is kept of a request, for how long, and how often it may be sent again. */
import t from 'tap';
import { CHUNKED, NO_CONTENT } from '../../src/http1/body-reader.ts';
import { readBuffer } from '../../src/relay/node-internals.ts';
import { fitsReplay, ReplayBudget, RequestReplay } from '../../src/relay/replay.ts';

const MOST = 65_536;
const bytes = (length: number): Buffer => Buffer.alloc(length, 'x');

t.test('a request that may be repeated is kept whole, with its trailers', async (t) => {
  const budget = new ReplayBudget();
  const replay = new RequestReplay(budget, true);
  t.strictSame([replay.held, replay.trailers, replay.mayRepeat], [[], [], true]);
  const [before, after] = [Buffer.from('a'), Buffer.from('b')];
  replay.keep(before, false);
  replay.noteSent();
  replay.keep(after, true);
  replay.complete(['X-Sum', '1']);
  t.strictSame([replay.held, replay.trailers, replay.mayRepeat, budget.bytes], [[before, after], ['X-Sum', '1'], true, 2]);
  replay.release();
  t.strictSame([replay.held, budget.bytes], [[], 0]);
  replay.release();
  t.equal(budget.bytes, 0, 'once');
});

t.test('what was read into the shared buffer is kept in memory of its own, which is used again after it', async (t) => {
  const budget = new ReplayBudget();
  const memories = new Set<ArrayBufferLike>();
  for (const length of [MOST, 16_384, 16_383, MOST, 40_000, MOST]) {
    const replays = [new RequestReplay(budget, false), new RequestReplay(budget, false)];
    for (const [index, replay] of replays.entries()) {
      readBuffer.fill(97 + index, 0, length);
      replay.keep(readBuffer.subarray(0, length), false);
    }
    readBuffer.fill('-');
    for (const [index, replay] of replays.entries()) {
      const [held = bytes(0)] = replay.held;
      t.ok(held.equals(Buffer.alloc(length, 97 + index)), `${length} bytes`);
      if (length >= 16_384) memories.add(held.buffer);
    }
    for (const replay of replays) replay.release();
  }
  t.equal(memories.size, 2);
  t.equal(budget.bytes, 0);
});

t.test('pieces of any size take no more memory than a few large ones', async (t) => {
  const replay = new RequestReplay(new ReplayBudget(), true);
  const content = Buffer.from(Array.from({ length: MOST }, (_, i) => i & 255));
  const sizes = [1, 1, 4_095, 4_096, 2, 16_384, 1, 3_000, 3_000];
  let at = 0;
  for (const size of sizes) {
    replay.keep(content.subarray(at, at + size), true);
    at += size;
  }
  for (; at < MOST; at += 1) replay.keep(content.subarray(at, at + 1), true);
  t.ok(Buffer.concat(replay.held).equals(content), 'in order');
  t.ok(replay.held.length <= 2 * sizes.length + MOST / 4_096, `${replay.held.length} buffers`);
});

t.test('of one that may not, only what has not been sent', async (t) => {
  const budget = new ReplayBudget();
  const replay = new RequestReplay(budget, false);
  const early = bytes(100_000);
  replay.keep(early, false);
  t.strictSame(replay.held, [early], 'however much');
  t.equal(replay.mayRepeat, false);
  replay.noteSent();
  t.strictSame([replay.held, budget.bytes], [[], 0]);
  replay.keep(bytes(10), true);
  t.strictSame([replay.held, budget.bytes], [[], 0]);
});

t.test('beyond the bound of one request it cannot be repeated, and nothing is kept', async (t) => {
  for (const [first, second, repeats] of [
    [MOST, 0, true],
    [MOST, 1, false],
    [1, MOST - 1, true],
    [1, MOST, false],
  ] as const) {
    const budget = new ReplayBudget();
    const replay = new RequestReplay(budget, true);
    replay.keep(bytes(first), true);
    if (second > 0) replay.keep(bytes(second), true);
    t.equal(replay.mayRepeat, repeats, `${first} and ${second}`);
    t.equal(budget.bytes, repeats ? first + second : 0);
    replay.keep(bytes(1), true);
    t.equal(replay.mayRepeat, repeats && first + second < MOST);
  }
});

t.test('beyond the bound of all requests together, the next one is not kept', async (t) => {
  const budget = new ReplayBudget();
  const all = Array.from({ length: 256 }, () => new RequestReplay(budget, true));
  for (const replay of all) replay.keep(bytes(MOST), true);
  t.equal(budget.bytes, 16 * 1024 * 1024);
  const next = new RequestReplay(budget, true);
  next.keep(bytes(1), true);
  t.strictSame([next.mayRepeat, next.held], [false, []]);
  for (const replay of all) replay.release();
  t.equal(budget.bytes, 0);
  const later = new RequestReplay(budget, true);
  later.keep(bytes(1), true);
  t.equal(later.mayRepeat, true);
});

t.test('once', async (t) => {
  const replay = new RequestReplay(new ReplayBudget(), true);
  t.equal(replay.mayRepeat, true);
  replay.noteRetry();
  t.equal(replay.mayRepeat, false);
});

t.test('whether all of the content is sure to be kept', async (t) => {
  for (const [framing, fits] of [
    [NO_CONTENT, true],
    [{ kind: 'length', length: MOST }, true],
    [{ kind: 'length', length: MOST + 1 }, false],
    [CHUNKED, false],
  ] as const) {
    t.equal(fitsReplay(framing), fits, JSON.stringify(framing));
  }
});

t.test('what comes after an answer has begun is not kept', (t) => {
  const budget = new ReplayBudget();
  const replay = new RequestReplay(budget, true);
  replay.keep(bytes(10), true);
  replay.release();
  replay.keep(bytes(10), true);
  t.strictSame([replay.held, replay.mayRepeat, budget.bytes], [[], false, 0]);
  t.end();
});
