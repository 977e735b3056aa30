/**
 * A pool by itself, with real sockets: which connection a waiter gets, when another is dialled, and what ends.
 * Longer than 400 lines: all of it is about one line of waiters.
 */
import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import t, { type Test } from 'tap';
import { Fault } from '../../src/errors.ts';
import { type PoolOptions, UpstreamPool } from '../../src/relay/pool.ts';
import { Pace } from '../../src/relay/reuse.ts';
import type { UpstreamConnection } from '../../src/relay/upstream-connection.ts';
import type { ConnectionWaiter } from '../../src/relay/waiting-line.ts';
import { listen } from '../support/listen.ts';
import { dialLocally, poolOptions } from '../support/pool-options.ts';

interface Harness {
  readonly pool: UpstreamPool;
  /** Sockets the upstream has accepted. */
  readonly accepted: Socket[];
  readonly counts: { active: number; idle: number };
  dials: number;
}

async function start(t: Test, options: Partial<PoolOptions> = {}): Promise<Harness> {
  const accepted: Socket[] = [];
  const port = await listen(t, createServer((socket) => accepted.push(socket)));
  const counts = { active: 0, idle: 0 };
  const harness: Harness = {
    accepted,
    counts,
    dials: 0,
    pool: new UpstreamPool(
      poolOptions(
        (signal) => {
          harness.dials += 1;
          return dialLocally(port, signal);
        },
        {
          origin: `http://127.0.0.1:${port}`,
          onChange: (active, idle) => {
            counts.active += active;
            counts.idle += idle;
          },
          ...options,
        },
      ),
    ),
  };
  t.teardown(() => {
    harness.pool.destroy();
  });
  return harness;
}

class Patient implements ConnectionWaiter {
  readonly client: string;
  readonly careful: boolean;
  readonly #outcome = Promise.withResolvers<UpstreamConnection>();
  readonly connection = this.#outcome.promise;
  constructor(client: string, careful = false) {
    this.client = client;
    this.careful = careful;
    // A refusal nobody asks about is no error of the test.
    this.connection.catch(() => {});
  }
  onConnection(connection: UpstreamConnection): void {
    this.#outcome.resolve(connection);
  }
  onNoConnection(fault: Fault): void {
    this.#outcome.reject(fault);
  }
}

let clients = 0;

/** Waits as this client; by default as one that has asked for nothing before, so that no share is in the way. */
function wait(pool: UpstreamPool, client?: string, careful = false): Patient {
  clients += 1;
  const patient = new Patient(client ?? `client-${clients}`, careful);
  pool.wait(patient);
  return patient;
}

const NEWCOMER = { client: 'newcomer', careful: false };

t.test('the connection used last is used first', async (t) => {
  const { pool, counts } = await start(t);
  const first = await wait(pool).connection;
  const second = await wait(pool).connection;
  t.same(counts, { active: 2, idle: 0 });
  pool.release(first);
  pool.release(second);
  t.same(counts, { active: 0, idle: 2 });
  t.equal(pool.take(NEWCOMER), second);
  t.equal(pool.take({ client: 'another', careful: false }), first);
  t.equal(pool.take({ client: 'a third', careful: false }), null);
  t.equal(first.uses, 1);
});

t.test('a free connection goes to who waits longest, and no more than needed are dialled', async (t) => {
  const h = await start(t, { size: 1 });
  const first = await wait(h.pool).connection;
  const next = wait(h.pool);
  const last = wait(h.pool);
  h.pool.release(first);
  t.equal(await next.connection, first);
  h.pool.release(first);
  t.equal(await last.connection, first);
  t.equal(h.dials, 1);
});

t.test('a connection that is old ends with its exchange, and who waits has another', async (t) => {
  for (const [age, dials] of [
    [0, 2],
    [10_000, 1],
  ] as const) {
    const h = await start(t, { size: 1, age });
    const first = await wait(h.pool).connection;
    const next = wait(h.pool);
    h.pool.release(first);
    t.equal((await next.connection) === first, dials === 1);
    t.equal(h.dials, dials);
    h.pool.release(await next.connection);
    t.same(h.counts, { active: 0, idle: dials === 1 ? 1 : 0 });
  }
});

t.test('an authenticated connection stays with its client, and a pool that retires keeps none', async (t) => {
  const h = await start(t, { size: 1 });
  const kept = await wait(h.pool).connection;
  kept.pinned = true;
  h.pool.release(kept);
  t.same(h.counts, { active: 1, idle: 0 });
  t.equal(kept.uses, 1);
  const next = wait(h.pool);
  h.pool.retire();
  t.not(await next.connection, kept);
  t.notOk(kept.open);
  const last = await next.connection;
  const another = wait(h.pool);
  last.pinned = true;
  h.pool.release(last);
  t.not(await another.connection, last, 'nor one whose exchange ends after that');
});

t.test('a full queue and a long wait are refused with what to raise', async (t) => {
  const h = await start(t, { size: 1, queue: 1, queueTimeout: 20 });
  await wait(h.pool).connection;
  const queued = wait(h.pool);
  const beyond = wait(h.pool);
  const refusal = { code: 'limit-reached', retryAfter: 1, remedy: 'raise limits.upstreamConnections' };
  await t.rejects(beyond.connection, refusal);
  await t.rejects(queued.connection, refusal);
});

t.test('a dial that fails reaches one who waits, and the next is dialled for', async (t) => {
  let failures = 1;
  const h = await start(t, { size: 1 });
  const pool = new UpstreamPool(poolOptions(async () => {
      failures -= 1;
      if (failures >= 0) throw new Fault('connection-refused', 'no');
      return { socket: (await wait(h.pool).connection).dialled.socket, address: '127.0.0.1', via: '', peer: { address: '127.0.0.1', port: 443 }, dnsMs: -1, tcpMs: 0, tlsMs: -1, hopMs: -1, attempts: 1 };
    }, { size: 1, queue: 5 }));
  t.teardown(() => {
    pool.destroy();
  });
  const first = wait(pool);
  const second = wait(pool);
  await t.rejects(first.connection, { code: 'connection-refused' });
  t.equal((await second.connection).dialled.address, '127.0.0.1');
});

t.test('who leaves is not called; the dial goes on, and the next one gets its connection', async (t) => {
  const h = await start(t);
  const [one, other] = [new Patient('one'), new Patient('other')];
  h.pool.wait(one);
  h.pool.wait(other);
  h.pool.leave(one);
  h.pool.leave(other);
  t.equal(h.pool.queued, 0);
  t.ok(await wait(h.pool).connection);
  t.ok(await wait(h.pool).connection);
  t.equal(h.dials, 2);
});

t.test('an idle connection that the upstream closes leaves the pool', async (t) => {
  const h = await start(t);
  const connection = await wait(h.pool).connection;
  h.pool.release(connection);
  const gone = once(connection.dialled.socket, 'close');
  connection.dialled.socket.resume();
  while (h.accepted.length === 0) await new Promise(setImmediate);
  h.accepted[0]?.destroy();
  await gone;
  t.same(h.counts, { active: 0, idle: 0 });
  t.equal(h.pool.take(NEWCOMER), null);
});

t.test('what must not be repeated has no connection whose close a busy process reads late', async (t) => {
  const h = await start(t, { size: 1 });
  const connection = await wait(h.pool).connection;
  while (h.accepted.length === 0) await new Promise(setImmediate);
  h.pool.release(connection);
  const careful = wait(h.pool, undefined, true);
  for (let turn = 0; turn < 4; turn += 1) {
    for (const until = performance.now() + 15; performance.now() < until; ) continue;
    await new Promise(setImmediate);
  }
  h.accepted[0]?.destroy();
  t.not(await careful.connection, connection);
});

t.test('destroying refuses who waits and cuts what is under way', async (t) => {
  const h = await start(t, { size: 2 });
  const [idle, active] = [await wait(h.pool).connection, await wait(h.pool).connection];
  h.pool.release(idle);
  h.pool.destroy();
  t.ok(idle.dialled.socket.destroyed);
  t.ok(active.dialled.socket.destroyed);
  await t.rejects(wait(h.pool).connection, { code: 'draining' });
  h.pool.release(active);
  t.same(h.counts, { active: 0, idle: 0 });
  t.ok(h.pool.empty);
});

t.test('a retired pool serves who waits, and keeps no connection after', async (t) => {
  const h = await start(t, { size: 1 });
  const connection = await wait(h.pool).connection;
  const waiting = wait(h.pool);
  h.pool.retire();
  h.pool.release(connection);
  t.equal(await waiting.connection, connection);
  h.pool.release(connection);
  t.ok(connection.dialled.socket.destroyed);
  t.same(h.counts, { active: 0, idle: 0 });
  t.ok(h.pool.empty);
});

t.test('above sixteen connections a new one is for who has waited', async (t) => {
  const h = await start(t, { size: 20, queue: 100 });
  const crowd = Array.from({ length: 20 }, () => wait(h.pool));
  const served = await Promise.all(crowd.slice(0, 16).map(({ connection }) => connection));
  t.equal(h.dials, 16, 'as many as are opened for whoever comes');
  for (const connection of served.slice(0, 4)) h.pool.release(connection);
  t.strictSame(await Promise.all(crowd.slice(16).map(({ connection }) => connection)), served.slice(0, 4), 'who waits gets what comes free');
  t.equal(h.dials, 16);
  await wait(h.pool).connection;
  t.equal(h.dials, 17, 'and who waits long enough, one of its own');
});

t.test('who holds none waits for no connection that another holds many of', async (t) => {
  const one = await start(t, { size: 64 });
  await Promise.all(Array.from({ length: 16 }, () => wait(one.pool, 'greedy').connection));
  wait(one.pool, 'greedy');
  t.equal(one.dials, 16, 'it waits for its own');
  const other = wait(one.pool, 'other');
  t.equal(one.dials, 17);
  const connection = await other.connection;
  wait(one.pool, 'other');
  t.equal(one.dials, 17, 'its next one waits for its own');
  one.pool.release(connection);
  const many = await start(t, { size: 64 });
  for (let i = 0; i < 16; i += 1) await wait(many.pool).connection;
  wait(many.pool);
  t.equal(many.dials, 16, 'where each holds one, they come back');
});

t.test('a connection whose exchange was served meanwhile is kept for the next', async (t) => {
  const h = await start(t, { size: 2 });
  const first = await wait(h.pool).connection;
  const second = wait(h.pool);
  h.pool.release(first);
  t.equal(await second.connection, first, 'the one that came free');
  while (h.counts.idle === 0) await new Promise(setImmediate);
  const spare = h.pool.take(NEWCOMER);
  t.not(spare, first);
  t.equal(spare?.uses, 0);
  t.equal(h.dials, 2, 'no dial was for nothing');
});

t.test('such a connection ends with the upstream’s end, and with its time', async (t) => {
  for (const [what, keepAlive, close] of [
    ['closed by the upstream', 10_000, true],
    ['kept long enough', 50, false],
  ] as const) {
    const h = await start(t, { size: 2, keepAlive });
    const first = await wait(h.pool).connection;
    const second = wait(h.pool);
    h.pool.release(first);
    await second.connection;
    while (h.counts.idle === 0 || h.accepted.length < 2) await new Promise(setImmediate);
    if (close) for (const socket of h.accepted) socket.end();
    while (h.counts.idle > 0) await new Promise((resolve) => setTimeout(resolve, 5));
    t.equal(h.pool.take(NEWCOMER), null, what);
  }
});

t.test('where a limit forbids more connections, what is connected serves', async (t) => {
  let full = false;
  const h = await start(t, { size: 3 });
  const pool = new UpstreamPool(poolOptions(async () => {
      if (full) throw new Fault('limit-reached', 'no NAT port is free', { retryAfter: 7 });
      return (await wait(h.pool).connection).dialled;
    }, { size: 3, queue: 5 }));
  t.teardown(() => {
    pool.destroy();
  });
  const first = await wait(pool).connection;
  full = true;
  const second = wait(pool);
  await new Promise(setImmediate);
  pool.release(first);
  t.equal(await second.connection, first);
  first.dialled.socket.destroy();
  pool.release(first);
  await t.rejects(wait(pool).connection, { code: 'limit-reached', retryAfter: 7 }, 'with nothing connected, there is nothing to wait for');
});

t.test('a client without a share of the ports: dials for others go on, and its requests take what is connected', async (t) => {
  const h = await start(t, { size: 8 });
  const asked: string[] = [];
  const held: string[] = [];
  const pool = new UpstreamPool(poolOptions(async (_signal, client) => {
      asked.push(client);
      if (client === 'greedy') throw new Fault('limit-reached', 'this client has its share of the NAT ports', { retryAfter: 7 });
      const { dialled } = await wait(h.pool).connection;
      return { ...dialled, lease: { hold: (holder: string) => held.push(holder), admits: () => true } };
    }, { size: 8, queue: 16, queueTimeout: 300 }));
  t.teardown(() => {
    pool.destroy();
  });
  await t.rejects(wait(pool, 'greedy').connection, { code: 'limit-reached', retryAfter: 7 }, 'nothing is connected that could serve it');
  const first = await wait(pool, 'modest').connection;
  const [served, inVain] = [wait(pool, 'greedy'), wait(pool, 'greedy')];
  await new Promise(setImmediate);
  t.ok(await wait(pool, 'modest').connection, 'dialled at once, and not given to who waits longer');
  t.ok(await wait(pool, 'third').connection);
  t.same(asked.filter((client) => client !== 'greedy'), ['modest', 'modest', 'third']);
  pool.release(first);
  t.equal(await served.connection, first);
  await t.rejects(inVain.connection, { code: 'limit-reached', retryAfter: 7 }, 'in vain: the limit is why');
  t.same(held, [], 'they serve all');
  first.abandon();
  pool.release(first);
  t.same(held, ['greedy'], 'ended by it');
});

t.test('a connection that leaves the pool makes room in the share of its client for an idle one', async (t) => {
  const h = await start(t, { size: 4, queue: 8 });
  const [first, second, third] = [await wait(h.pool, 'one').connection, await wait(h.pool, 'one').connection, await wait(h.pool, 'other').connection];
  h.pool.release(third);
  await new Promise((resolve) => setTimeout(resolve, 50));
  t.equal(h.pool.take({ client: 'one', careful: false }), null, 'its share is used up');
  const waits = wait(h.pool, 'one');
  first.detach().destroy();
  h.pool.release(first);
  t.equal(await waits.connection, third);
  t.equal(h.dials, 3);
  h.pool.release(second);
});

t.test('a client that has its share of the line is refused for that, and not because the line is full', async (t) => {
  const h = await start(t, { size: 1, queue: 4 });
  await wait(h.pool).connection;
  for (let i = 0; i < 2; i += 1) wait(h.pool, 'one');
  await t.rejects(wait(h.pool, 'one').connection, { code: 'limit-reached', message: /one has its share \(2\) of at most 4 requests that may wait for one$/ });
  for (const other of ['two', 'three']) wait(h.pool, other);
  await t.rejects(wait(h.pool, 'four').connection, { message: /are busy, and 4 requests may wait for one$/ });
});

t.test('a request that waits in vain while a limit forbids more connections is refused with that limit', async (t) => {
  const limit = new Fault('limit-reached', 'no NAT port is free', { retryAfter: 1, remedy: 'raise nat.ports' });
  const h = await start(t);
  const first = (await wait(h.pool).connection).dialled;
  let dials = 0;
  const pool = new UpstreamPool(poolOptions(async () => {
      dials += 1;
      if (dials > 1) throw limit;
      return first;
    }, { size: 8, queue: 8, queueTimeout: 100 }));
  t.teardown(() => {
    pool.destroy();
  });
  await wait(pool).connection;
  await t.rejects(wait(pool).connection, { message: limit.message, remedy: limit.remedy });
});

t.test('a request that waits longer than a dial should take is refused because the connection is still being opened, not because others are busy', async (t) => {
  for (const held of [0, 1]) {
    const h = await start(t);
    const { dialled } = await wait(h.pool).connection;
    let dials = 0;
    const never = Promise.withResolvers<never>();
    const pool = new UpstreamPool(poolOptions(() => {
        dials += 1;
        return dials > held ? never.promise : Promise.resolve(dialled);
      }, { size: 8, queue: 8, queueTimeout: 30 }));
    t.teardown(() => {
      pool.destroy();
    });
    if (held > 0) await wait(pool, 'one').connection;
    await t.rejects(wait(pool, 'one').connection, { code: 'connect-timeout', message: 'the connection to http://x.example was still being opened after 30 ms' });
  }
});

t.test('a connection whose idle time is over is not used again, though it has not been closed yet', async (t) => {
  const h = await start(t);
  const first = await wait(h.pool).connection;
  first.keepFor = 5;
  h.pool.release(first);
  t.equal(first.open, true);
  const began = performance.now();
  while (performance.now() - began < 10);
  t.equal(h.pool.take(NEWCOMER), null);
  t.equal(first.open, false);
  t.same(h.counts, { active: 0, idle: 0 });
});

t.test('a pause of the process is no time in which a request waits', async (t) => {
  const h = await start(t, { queueTimeout: 1000 });
  const waiting = wait(h.pool);
  await Promise.resolve();
  const began = performance.now();
  while (performance.now() - began < 2200);
  t.ok(await waiting.connection);
});

t.test('who accepts only a connection that was never used gets one, whatever lies above it', async (t) => {
  const h = await start(t);
  const opened = await Promise.all([wait(h.pool).connection, wait(h.pool).connection]);
  const dials = [...opened.map(({ dialled }) => Promise.resolve(dialled))];
  const late = Promise.withResolvers<Awaited<(typeof dials)[number]>>();
  const spare = (await start(t)).pool;
  const third = (await wait(spare).connection).dialled;
  dials.push(late.promise);
  const pool = new UpstreamPool(poolOptions(() => dials.shift() ?? Promise.reject(new Fault('limit-reached', 'no port')), { size: 8, queue: 8 }));
  t.teardown(() => {
    pool.destroy();
  });
  const first = await wait(pool).connection;
  const second = await wait(pool).connection;
  const served = wait(pool);
  pool.release(first);
  t.equal(await served.connection, first);
  late.resolve(third);
  await late.promise;
  pool.release(second);
  // Long enough that it would be given to any other.
  await new Promise((resolve) => setTimeout(resolve, 50));
  const waiting = new Patient('newcomer', true);
  pool.wait(waiting, true);
  t.equal((await waiting.connection).dialled, third);
});

t.test('who asks for a connection that was never used gets a used one where no other may be opened', async (t) => {
  for (const size of [8, 2]) {
    const h = await start(t);
    const dials = (await Promise.all([wait(h.pool).connection, wait(h.pool).connection])).map(({ dialled }) => dialled);
    const pool = new UpstreamPool(poolOptions(async () => dials.shift() ?? Promise.reject(new Fault('limit-reached', 'no port')), { size, queue: 8, queueTimeout: 1_000 }));
    t.teardown(() => {
      pool.destroy();
    });
    const first = await wait(pool).connection;
    const second = await wait(pool).connection;
    // Closes are rare: a full pool does not close idle connections for new ones.
    for (let i = 0; i < 16; i += 1) {
      pool.release(first);
      pool.take({ client: first.client, careful: false });
      await new Promise((resolve) => setTimeout(resolve, 15));
    }
    pool.release(second);
    // Long enough that it would be given to any other.
    await new Promise((resolve) => setTimeout(resolve, 50));
    const again = new Patient('newcomer');
    pool.wait(again, true);
    t.equal(await again.connection, second);
  }
});

t.test('a request does not wait in vain for a connection that could have been opened', async (t) => {
  const h = await start(t, { size: 64, queueTimeout: 400 });
  await Promise.all(Array.from({ length: 16 }, () => wait(h.pool, 'one').connection));
  t.equal((await wait(h.pool, 'one').connection).uses, 0);
});

t.test('the life of a connection that a client kept is no time that an exchange took', async (t) => {
  const h = await start(t);
  const [first, second] = [await wait(h.pool).connection, await wait(h.pool).connection];
  second.pinned = true;
  let notes = 0;
  t.intercept(Pace.prototype, 'note', { value: () => (notes += 1) });
  h.pool.release(first);
  second.destroy();
  h.pool.release(second);
  t.equal(notes, 1);
});
