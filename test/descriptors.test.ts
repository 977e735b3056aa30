/** When file descriptors are few, and how often that is looked at. */
import t from 'tap';
import { descriptorNeeds, Descriptors, type OpenCount } from '../src/descriptors.ts';
import { configOf, MINIMAL } from './support/load-text.ts';

interface Bench {
  readonly descriptors: Descriptors;
  readonly refused: string[];
  open: number;
  counts: number;
  now: number;
  cheap: boolean;
}

function create(limit: number | null, open: number, cheap = true): Bench {
  const refused: string[] = [];
  const bench = { refused, open, counts: 0, now: 0, cheap };
  const count = (): OpenCount => {
    bench.counts += 1;
    return { open: bench.open, cheap: bench.cheap };
  };
  const descriptors = new Descriptors({ limit, count, now: () => bench.now, onRefused: (what, of, most) => refused.push(`${what} ${of} ${most}`) });
  return Object.assign(bench, { descriptors });
}

t.test('each one that is opened counts, and none beyond the reserve', async (t) => {
  const bench = create(1_024, 100);
  let taken = 0;
  while (bench.descriptors.take('connection')) {
    taken += 1;
    bench.open += 1;
  }
  t.equal(taken, 1_024 - 64 - 100);
  t.match(bench.refused, [/^connection \d+ 1024$/]);
  t.ok(bench.counts < 30, `${bench.counts} counts for ${taken} connections`);
  t.equal(bench.descriptors.exhausted(), false, 'an answer can still be given');
  bench.open = 1_024 - 31;
  t.equal(bench.descriptors.take('request'), false);
  t.equal(bench.descriptors.exhausted(), true);
  t.equal(bench.descriptors.tight, false);
  bench.open = 1_024 - 15;
  t.equal(bench.descriptors.tight, true);
  t.match(bench.descriptors.warning(), /^10\d\d of 1024 file descriptors are open/);
  bench.open = 500;
  t.equal(bench.descriptors.take('connection'), true, 'some have closed');
  t.equal(bench.descriptors.warning(), null);
});

t.test('so many that they cannot be counted: all there are', async (t) => {
  const bench = create(1_024, Infinity, false);
  t.equal(bench.descriptors.take('connection'), false);
  t.equal(bench.descriptors.exhausted(), true);
  t.strictSame(bench.refused, ['connection 1024 1024', 'connection 1024 1024']);
  t.match(bench.descriptors.warning(), /^1024 of 1024 file descriptors are open/);
});

t.test('an eighth of few', async (t) => {
  const bench = create(64, 30);
  let taken = 0;
  while (bench.descriptors.take('request')) {
    taken += 1;
    bench.open += 1;
  }
  t.equal(taken, 64 - 8 - 30);
});

t.test('where counting is slow, it is done ten times a second, and meanwhile assumed that none has closed', async (t) => {
  const bench = create(200, 100, false);
  while (bench.descriptors.take('connection')) bench.open += 1;
  const { counts } = bench;
  t.ok(counts <= 2);
  bench.open = 50;
  t.equal(bench.descriptors.take('connection'), false);
  t.equal(bench.counts, counts);
  bench.now += 100;
  t.equal(bench.descriptors.take('connection'), true);
  t.equal(bench.counts, counts + 1);
});

t.test('without a limit nothing is counted', async (t) => {
  const bench = create(null, 1_000_000);
  t.equal(bench.descriptors.take('connection'), true);
  t.equal(bench.descriptors.exhausted(), false);
  t.equal(bench.descriptors.tight, false);
  t.equal(bench.descriptors.warning(), null);
  t.equal(bench.counts, 0);
});

t.test('the system itself is asked', async (t) => {
  const told: [number, number][] = [];
  const descriptors = new Descriptors({ limit: 8, onRefused: (_what, open, limit) => told.push([open, limit]) });
  t.equal(descriptors.take('request'), false, 'Node itself has more than eight open');
  t.ok((told[0]?.[0] ?? 0) > 8 && told[0]?.[1] === 8, told.join());
});

t.test('what the limits of the configuration may need', async (t) => {
  const { limits, destinations } = configOf(MINIMAL);
  const { clients, all } = descriptorNeeds({ limits: { ...limits, connections: 10, tunnels: 20, upstreamConnections: 30 }, destinations });
  t.strictSame([clients, all], [110, 130 + 30 * destinations.length]);
});
