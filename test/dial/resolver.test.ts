import t from 'tap';
import type { LookupAnswer } from '../../src/dial/lookup.ts';
import { createResolver, KnownNames } from '../../src/dial/resolver.ts';
import type { ResolverOptions } from '../../src/dial/resolver.ts';
import { Fault } from '../../src/errors.ts';

const ANSWER: LookupAnswer = { addresses: ['192.0.2.1', '192.0.2.2'], ttl: 60_000 };
const NEWER: LookupAnswer = { addresses: ['192.0.2.9'], ttl: 60_000 };

const failure = (code: string): Error => Object.assign(new Error(`query ${code}`), { code });

/** A resolver whose look-ups wait for the test, under a clock the test turns. */
function setUp(options: Partial<ResolverOptions> = {}) {
  const lookups: PromiseWithResolvers<LookupAnswer>[] = [];
  const stale: string[] = [];
  const clock = { now: 1_000_000 };
  const resolver = createResolver({
    lookup: () => {
      const lookup = Promise.withResolvers<LookupAnswer>();
      lookups.push(lookup);
      return lookup.promise;
    },
    dns: { ttl: 30_000, staleFor: 600_000 },
    timeout: 5_000,
    now: () => clock.now,
    onStale: (host, error) => stale.push(`${host} ${error.code}`),
    ...options,
  });
  const last = (): PromiseWithResolvers<LookupAnswer> => {
    const lookup = lookups.at(-1);
    if (lookup === undefined) throw new Error('nothing was looked up');
    return lookup;
  };
  /** Resolves a host with this answer, so that it is in the cache. */
  const fill = async (host: string, answer = ANSWER): Promise<void> => {
    const waiting = resolver.resolve(host);
    last().resolve(answer);
    await waiting;
  };
  return { resolver, lookups, last, fill, clock, stale };
}

/** Lets what a settled look-up leads to happen: nobody waits for a refresh in the background. */
const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

t.test('of an answer without measure, no more is used than a dial could try', async (t) => {
  const { resolver, fill } = setUp();
  const addresses = Array.from({ length: 4_000 }, (_, i) => `192.0.${i >> 8}.${i & 255}`);
  await fill('eco', { addresses: addresses.flatMap((address) => [address, address]), ttl: 60_000 });
  t.same(resolver.cached('eco'), addresses.slice(0, 128));
});

t.test('IP literals are never looked up', async (t) => {
  const { resolver, lookups } = setUp();
  for (const address of ['192.0.2.1', '2001:db8::1', '::ffff:127.0.0.1']) {
    t.same(resolver.cached(address), [address]);
    t.same(await resolver.resolve(address), [address]);
  }
  t.equal(lookups.length, 0);
});

t.test('all who wait share one look-up, other names have their own', async (t) => {
  const { resolver, lookups, last } = setUp();
  const waiting = [resolver.resolve('a.test'), resolver.resolve('a.test'), resolver.resolve('a.test')];
  t.equal(lookups.length, 1);
  void resolver.resolve('b.test').catch(() => {});
  t.equal(lookups.length, 2);
  lookups[0]?.resolve({ addresses: ['192.0.2.1', '192.0.2.1', '192.0.2.2'], ttl: null });
  for (const answer of await Promise.all(waiting)) t.same(answer, ['192.0.2.1', '192.0.2.2'], 'each address once');
  last().reject(failure('ENOTFOUND'));
});

t.test('an answer is kept for its time to live, between a second and an hour', async (t) => {
  for (const [ttl, kept] of [
    [60_000, 60_000],
    [0, 1_000],
    [999, 1_000],
    [1_001, 1_001],
    [3_600_001, 3_600_000],
    [null, 30_000],
  ] as const) {
    const { resolver, fill, clock } = setUp();
    await fill('a.test', { addresses: ['192.0.2.1'], ttl });
    clock.now += kept - 1;
    t.same(resolver.cached('a.test'), ['192.0.2.1'], `${ttl}: one before`);
    clock.now += 1;
    t.equal(resolver.cached('a.test'), null, `${ttl}: over`);
  }
});

t.test('an answer used near its end is refreshed without anybody waiting', async (t) => {
  const { resolver, lookups, last, fill, clock } = setUp();
  await fill('a.test');
  clock.now += 44_999;
  resolver.cached('a.test');
  t.equal(lookups.length, 1, 'not before three quarters');
  clock.now += 1;
  t.same(await resolver.resolve('a.test'), ANSWER.addresses, 'the old one meanwhile');
  resolver.cached('a.test');
  t.equal(lookups.length, 2, 'asked once');
  last().resolve(NEWER);
  await settle();
  t.same(resolver.cached('a.test'), NEWER.addresses);
});

t.test('a failing resolver: the expired answer serves, and no request waits again for a while', async (t) => {
  const { resolver, lookups, last, fill, clock, stale } = setUp();
  await fill('a.test');
  clock.now += 60_000;
  const waiting = [resolver.resolve('a.test'), resolver.resolve('a.test')];
  last().reject(failure('ESERVFAIL'));
  for (const answer of waiting) t.same(await answer, ANSWER.addresses);
  t.same(stale, ['a.test resolver-failed'], 'told once');

  clock.now += 22_499;
  t.same(resolver.cached('a.test'), ANSWER.addresses);
  t.equal(lookups.length, 2, 'not asked again yet');
  clock.now += 1;
  t.same(resolver.cached('a.test'), ANSWER.addresses);
  t.equal(lookups.length, 3, 'asked in the background');
  last().reject(failure('ECONNREFUSED'));
  await settle();
  clock.now += 29_999;
  t.same(resolver.cached('a.test'), ANSWER.addresses, 'held for longer');
  last().resolve(NEWER);
  await settle();
  t.same(resolver.cached('a.test'), NEWER.addresses, 'back to normal');
});

t.test('an expired answer serves no longer than staleFor', async (t) => {
  const { resolver, last, fill, clock } = setUp();
  await fill('a.test');
  clock.now += 60_000 + 599_999;
  const kept = resolver.resolve('a.test');
  last().reject(failure('ESERVFAIL'));
  t.same(await kept, ANSWER.addresses, 'one before the end');
  clock.now += 1;
  t.equal(resolver.cached('a.test'), null, 'the hold ends with it');
  const over = resolver.resolve('a.test');
  last().reject(failure('ESERVFAIL'));
  await t.rejects(over, { code: 'resolver-failed' });
});

t.test('while expired answers are in use, a warning names them, and says until when', async (t) => {
  const names = new KnownNames();
  const dns = { servers: [], ttl: 30_000, staleFor: 600_000 };
  let works = true;
  let time = 0;
  const resolver = createResolver({ lookup: () => (works ? Promise.resolve(ANSWER) : Promise.reject(failure('ESERVFAIL'))), dns, timeout: 1_000, entries: names.of(dns), now: () => time });
  const hosts = ['a.test', 'b.test', 'c.test', 'd.test', 'e.test'];
  for (const host of hosts) await resolver.resolve(host);
  t.same(names.warnings(time), []);
  works = false;
  time = 59_999;
  await resolver.resolve('a.test');
  await settle();
  t.same(names.warnings(time), [], 'not expired');
  time = 60_000;
  for (const host of hosts.slice(0, 2)) await resolver.resolve(host);
  const [warning = ''] = names.warnings(time);
  t.match(warning, /^The resolver fails: the last known addresses of b\.test, a\.test are used, until \d{4}-\d\d-\d\dT\d\d:\d\dZ \(dns\.staleFor\)\.$/);
  t.ok(Math.abs(Date.parse(/until (\S+)/.exec(warning)?.[1] ?? '') - Date.now() - 600_000) <= 60_000, 'ten minutes from now');
  for (const host of hosts) await resolver.resolve(host);
  t.match(names.warnings(time), [/ of e\.test, d\.test, c\.test and 2 others are used, /]);
  t.same(names.warnings(time + 30_000), [], 'they have not been asked for since');
  works = true;
  time += 30_000;
  for (const host of hosts) await resolver.resolve(host);
  t.same(names.warnings(time), [], 'the resolver works again');
});

t.test('where one family fails, what was known of it serves, no longer than staleFor', async (t) => {
  const { resolver, last, fill, clock } = setUp();
  await fill('a.test', { addresses: ['192.0.2.1', '2001:db8::1'], ttl: 60_000 });
  const half = async (address: string, open: 4 | 6): Promise<readonly string[]> => {
    clock.now += 60_000;
    const waiting = resolver.resolve('a.test');
    last().resolve({ addresses: [address], ttl: 60_000, open });
    return waiting;
  };
  t.same(await half('2001:db8::2', 4), ['192.0.2.1', '2001:db8::2'], 'IPv4 first, as ever');
  t.same(await half('192.0.2.2', 6), ['192.0.2.2', '2001:db8::2']);
  for (let minute = 2; minute < 10; minute += 1) t.same(await half('192.0.2.2', 6), ['192.0.2.2', '2001:db8::2'], `${minute}`);
  t.same(await half('192.0.2.2', 6), ['192.0.2.2']);
});

t.test('"no such name" replaces what was known, and is believed for two seconds', async (t) => {
  const { resolver, lookups, last, fill, clock, stale } = setUp();
  await fill('a.test');
  clock.now += 60_000;
  const waiting = resolver.resolve('a.test');
  last().reject(failure('ENOTFOUND'));
  await t.rejects(waiting, { code: 'name-not-found' });
  clock.now += 1_999;
  await t.rejects(resolver.resolve('a.test'), { code: 'name-not-found' });
  t.equal(lookups.length, 2);
  clock.now += 1;
  const again = resolver.resolve('a.test');
  t.equal(lookups.length, 3);
  last().reject(failure('ESERVFAIL'));
  await t.rejects(again, { code: 'resolver-failed' }, 'the old answer is gone');
  t.same(stale, []);
});

t.test('the same when it comes to a refresh in the background', async (t) => {
  const { resolver, last, fill, clock } = setUp();
  await fill('a.test');
  clock.now += 50_000;
  resolver.cached('a.test');
  last().reject(failure('ENODATA'));
  await settle();
  t.equal(resolver.cached('a.test'), null);
  await t.rejects(resolver.resolve('a.test'), { code: 'name-not-found' });
});

t.test('what errors mean', async (t) => {
  for (const [error, code] of [
    ['ENOTFOUND', 'name-not-found'],
    ['ENODATA', 'name-not-found'],
    ['ETIMEOUT', 'resolver-timeout'],
    ['EAI_AGAIN', 'resolver-failed'],
    ['ESERVFAIL', 'resolver-failed'],
    ['EREFUSED', 'resolver-failed'],
  ] as const) {
    const { resolver, last } = setUp();
    const waiting = resolver.resolve('a.test');
    last().reject(failure(error));
    const fault = await waiting.then(() => null, (reason: unknown) => reason);
    t.ok(fault instanceof Fault && fault.code === code && fault.message.includes('a.test'), error);
  }
  const { resolver, last } = setUp();
  const waiting = resolver.resolve('a.test');
  last().resolve({ addresses: [], ttl: null });
  await t.rejects(waiting, { code: 'name-not-found' }, 'an empty answer');
  const throwing = createResolver({
    lookup: () => {
      throw new Error('broken');
    },
    dns: { ttl: 1, staleFor: 1 },
    timeout: 1_000,
  });
  await t.rejects(throwing.resolve('a.test'), { code: 'resolver-failed' }, 'a look-up that throws');
});

t.test('a failure with nothing to fall back on is believed for a second', async (t) => {
  const { resolver, lookups, last, clock } = setUp();
  const waiting = resolver.resolve('a.test');
  last().reject(failure('ESERVFAIL'));
  await t.rejects(waiting, { code: 'resolver-failed' });
  clock.now += 999;
  await t.rejects(resolver.resolve('a.test'), { code: 'resolver-failed' });
  t.equal(lookups.length, 1);
  clock.now += 1;
  void resolver.resolve('a.test').catch(() => {});
  t.equal(lookups.length, 2);
  last().resolve(ANSWER);
});

t.test('a look-up that hangs: each waits its own time, and takes the expired answer if there is one', async (t) => {
  const { resolver, lookups, last, fill, clock, stale } = setUp({ timeout: 20 });
  await t.rejects(resolver.resolve('a.test'), { code: 'resolver-timeout' });
  await t.rejects(resolver.resolve('a.test'), { code: 'resolver-timeout' });
  t.equal(lookups.length, 1, 'the second joined the first look-up');
  clock.now += 30_000;
  await t.rejects(resolver.resolve('a.test'), { code: 'resolver-timeout' });
  t.equal(lookups.length, 2, 'after half a minute it is taken for lost');
  last().resolve(NEWER);
  await settle();
  lookups[0]?.resolve(ANSWER);
  await settle();
  t.same(resolver.cached('a.test'), NEWER.addresses, 'a late answer does not undo a newer one');

  await fill('b.test');
  clock.now += 60_000;
  t.same(await resolver.resolve('b.test'), ANSWER.addresses);
  t.same(stale, ['b.test resolver-timeout']);
  t.same(resolver.cached('b.test'), ANSWER.addresses, 'the next one does not wait');
});

t.test('a caller that leaves is let go at once', async (t) => {
  const { resolver, lookups, last } = setUp();
  const leaving = new AbortController();
  const left = resolver.resolve('a.test', leaving.signal);
  const staying = resolver.resolve('a.test');
  leaving.abort();
  await t.rejects(left, { code: 'client-closed' });
  last().resolve(ANSWER);
  t.same(await staying, ANSWER.addresses, 'others are not disturbed');
  t.equal(lookups.length, 1);
  await t.rejects(resolver.resolve('b.test', AbortSignal.abort(new Fault('draining', 'shutting down'))), { code: 'draining' });
});

t.test('the cache is bounded', async (t) => {
  const { resolver, fill } = setUp();
  for (let i = 0; i <= 10_000; i++) await fill(`${i}.test`);
  t.equal(resolver.cached('0.test'), null, 'the oldest made room');
  t.same(resolver.cached('10000.test'), ANSWER.addresses);
});
