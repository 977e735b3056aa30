/** Which pools are kept, and what becomes of those that are not. */
import { createServer } from 'node:net';
import t, { type Test } from 'tap';
import { UpstreamPool } from '../../src/relay/pool.ts';
import { UpstreamPools } from '../../src/relay/pools.ts';
import type { UpstreamConnection } from '../../src/relay/upstream-connection.ts';
import { listen } from '../support/listen.ts';
import { dialLocally, poolOptions } from '../support/pool-options.ts';
import { makeDestination } from '../support/policy.ts';

const ECO = makeDestination('eco', ['eco.example']);
const OTHER = makeDestination('other', ['other.example']);

interface Lab {
  readonly pools: UpstreamPools;
  /** The pool of a key; idle connections in all pools. */
  readonly get: (key: string, destination?: typeof ECO) => UpstreamPool;
  readonly open: (pool: UpstreamPool) => Promise<UpstreamConnection>;
  readonly idle: () => number;
}

async function start(t: Test, most: number): Promise<Lab> {
  const port = await listen(t, createServer());
  let idle = 0;
  let clients = 0;
  const create = (): UpstreamPool =>
    new UpstreamPool(
      poolOptions((signal) => dialLocally(port, signal), {
        origin: `http://127.0.0.1:${port}`,
        onChange: (_active, change) => {
          idle += change;
        },
      }),
    );
  const pools = new UpstreamPools(create, most);
  t.teardown(() => {
    pools.destroy();
  });
  return {
    pools,
    get: (key, destination = ECO) => pools.get({ destination, scheme: 'https', host: key, port: 443, client: '' }),
    open: (pool) =>
      new Promise((resolve, reject) => {
        // Each for a client of its own: none has to share.
        clients += 1;
        pool.wait({ client: `client-${clients}`, careful: false, onConnection: resolve, onNoConnection: reject });
      }),
    idle: () => idle,
  };
}

t.test('one for each key', async (t) => {
  const { pools, get } = await start(t, 10);
  const one = get('a');
  t.equal(get('a'), one);
  t.not(get('b'), one);
  t.equal(get('a'), one);
  t.equal(pools.size, 2);
  const key = { destination: ECO, scheme: 'https', host: 'a', port: 443, client: '' } as const;
  const all = [{}, { destination: OTHER }, { scheme: 'http' }, { host: 'aa' }, { port: 80 }, { client: '10.8.0.1' }] as const;
  const pooled = all.map((other) => pools.get({ ...key, ...other }));
  t.equal(pooled[0], one);
  t.equal(new Set(pooled).size, all.length);
  t.strictSame(all.map((other) => pools.get({ ...key, ...other })), pooled);
});

t.test('beyond the bound the empty ones go first, then the one longest out of use; what is in use stays', async (t) => {
  const { pools, get, open, idle } = await start(t, 3);
  const [a, b, c] = [get('a'), get('b'), get('c')];
  const busy = await open(a);
  for (const pool of [b, c]) pool.release(await open(pool));
  t.equal(idle(), 2);
  t.equal(get('b'), b, 'used after c');
  get('d');
  t.equal(pools.size, 3);
  t.equal(idle(), 1, 'the connection of c has closed');
  t.equal(get('a'), a);
  t.equal(get('b'), b);
  t.not(get('c'), c, 'and d, which was empty, went for it');
  t.equal(pools.size, 3);
  t.equal(idle(), 1);

  const busyToo = [await open(b), await open(get('c'))];
  for (const key of ['e', 'f']) await open(get(key));
  t.equal(pools.size, 5, 'requests under way are not refused for it');
  a.release(busy);
  for (const connection of busyToo) t.ok(connection.open);
});

t.test('a pool that was forgotten between being found and being used keeps nothing afterwards, and is cut with the others', async (t) => {
  const { pools, get, open, idle } = await start(t, 1);
  const found = get('a');
  get('b');
  const connection = await open(found);
  const other = await open(found);
  found.release(connection);
  t.equal(idle(), 0);
  t.notOk(connection.open);
  pools.destroy();
  t.notOk(other.open);
});

t.test('what a reload changed is put out of use, and the rest stays', async (t) => {
  const { pools, get, open, idle } = await start(t, 10);
  const [changed, same] = [get('a'), get('b', OTHER)];
  const busy = await open(changed);
  changed.release(await open(changed));
  same.release(await open(same));
  t.equal(idle(), 2);
  t.equal(get('a'), changed);
  pools.sift(({ name }) => name === 'other');
  t.equal(idle(), 1);
  t.ok(busy.open, 'who uses it is served');
  t.equal(get('b', OTHER), same);
  t.not(get('a'), changed);
  pools.retire();
  t.equal(idle(), 0);
});

t.test('who waits for a connection is counted, also in a pool that a reload has put out of use', async (t) => {
  const { pools, get, open } = await start(t, 10);
  const changed = get('a');
  const busy = [await open(changed), await open(changed)];
  const waiting = open(changed);
  t.strictSame([...pools.queued()], [['eco', 1]]);
  pools.sift(() => false);
  t.strictSame([...pools.queued()], [['eco', 1]]);
  for (const connection of busy) changed.release(connection);
  await waiting;
  t.strictSame([...pools.queued()], []);
});
