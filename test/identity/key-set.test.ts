/** When keys are read again, and what stays in use meanwhile. */
import t from 'tap';
import { calculateJwkThumbprint, errors, type JSONWebKeySet, type JWK } from 'jose';
import { createKeySet, type KeySet, KeysUnavailable } from '../../src/identity/keys.ts';
import { createClock, createIssuer } from '../support/issuer.ts';

const FRESH = 10_000;
const REST = 1_000;
const KEEP = 100_000;

const one = await createIssuer('one');
const first = one.jwks();
await one.rotate();
const second = one.jwks();
const idOf = async ({ keys: [key] }: { readonly keys: JWK[] }): Promise<string> => calculateJwkThumbprint(key ?? {});
const [ONE, TWO] = await Promise.all([idOf(first), idOf(second)]);

/** A source whose reads are answered one by one, by hand. */
function createSource() {
  const clock = createClock();
  const reads: PromiseWithResolvers<JSONWebKeySet>[] = [];
  const faults: unknown[] = [];
  const signals: AbortSignal[] = [];
  const keys = createKeySet({
    now: clock.now,
    freshFor: FRESH,
    restFor: REST,
    keepFor: KEEP,
    onFault: (error) => faults.push(error),
    load: (signal) => {
      const read = Promise.withResolvers<JSONWebKeySet>();
      reads.push(read);
      signals.push(signal);
      return read.promise;
    },
  });
  return { clock, reads, faults, signals, keys };
}

const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
/** A set that came is taken over within some turns: its keys are digested first. */
async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await settled();
}
const find = (keys: KeySet, kid: string) => keys.find({ alg: 'ES256', kid }, (reading) => reading);

t.test('read at once, and once for all who wait', async (t) => {
  const { keys, reads, faults } = createSource();
  t.equal(reads.length, 1);
  const waiting = [find(keys, 'key-1'), find(keys, 'key-1'), find(keys, 'key-1')];
  reads[0]?.resolve(first);
  for (const found of await Promise.all(waiting)) t.equal(found.id, ONE);
  t.equal(reads.length, 1);
  t.strictSame(faults, []);
});

t.test('read again when no longer fresh, without anybody waiting', async (t) => {
  const { keys, reads, clock } = createSource();
  reads[0]?.resolve(first);
  await find(keys, 'key-1');
  clock.pass(FRESH - 1);
  await find(keys, 'key-1');
  t.equal(reads.length, 1);
  clock.pass(1);
  await find(keys, 'key-1');
  t.equal(reads.length, 2);
  t.ok(keys.has(ONE));
  t.equal(reads.length, 2, 'one read at a time');
  reads[1]?.resolve(first);
  await settled();
  t.ok(keys.has(ONE));
  t.notOk(keys.has(TWO));
  clock.pass(FRESH);
  t.ok(keys.has(ONE), 'until the new set is there');
  reads[2]?.resolve({ keys: [...first.keys, ...second.keys] });
  await until(() => keys.has(TWO));
  t.ok(keys.has(ONE), 'a key that stays is known beside one that came');
  t.match(await find(keys, 'key-2'), { id: TWO });
  clock.pass(FRESH);
  keys.has(ONE);
  reads[3]?.resolve(second);
  await until(() => !keys.has(ONE));
  const gone = find(keys, 'key-1');
  await t.rejects(gone, errors.JWKSNoMatchingKey);
});

t.test('an unknown key has the set read, but not more often than it rests', async (t) => {
  const { keys, reads, clock } = createSource();
  reads[0]?.resolve(first);
  await find(keys, 'key-1');
  await t.rejects(find(keys, 'key-2'), errors.JWKSNoMatchingKey, 'resting');
  t.equal(reads.length, 1);
  clock.pass(REST);
  const rotated = [find(keys, 'key-2'), find(keys, 'key-2')];
  await settled();
  t.equal(reads.length, 2);
  reads[1]?.resolve(second);
  for (const found of await Promise.all(rotated)) t.equal(found.id, TWO);
  let unknown = 0;
  for (let i = 0; i < 10_000; i += 1) await find(keys, `nobody-${i}`).catch(() => (unknown += 1));
  t.equal(unknown, 10_000);
  t.equal(reads.length, 2, 'however many ask');
});

t.test('the last good keys outlive failures, for a time', async (t) => {
  const { keys, reads, clock, faults } = createSource();
  reads[0]?.resolve(first);
  await find(keys, 'key-1');
  clock.pass(FRESH);
  keys.has(ONE);
  reads[1]?.reject(new Error('down'));
  await settled();
  t.match(faults, [{ message: 'down' }]);
  t.match(await find(keys, 'key-1'), { id: ONE });
  clock.pass(KEEP - 1);
  t.match(await find(keys, 'key-1'), { id: ONE });
  reads[2]?.reject(new Error('still down'));
  await settled();
  t.ok(keys.has(ONE));
  clock.pass(1);
  t.notOk(keys.has(ONE), 'nor does it vouch any longer for what it signed');
  await t.rejects(find(keys, 'key-1'), KeysUnavailable);
  t.equal(faults.length, 2);
  clock.pass(REST);
  const found = find(keys, 'key-1');
  reads[3]?.resolve(first);
  t.match(await found, { id: ONE });
});

t.test('no keys yet', async (t) => {
  const { keys, reads, clock, faults } = createSource();
  const waiting = find(keys, 'key-1');
  reads[0]?.reject(new Error('down'));
  await t.rejects(waiting, KeysUnavailable);
  await t.rejects(find(keys, 'key-1'), KeysUnavailable, 'at once while resting');
  t.equal(reads.length, 1);
  clock.pass(REST);
  const again = find(keys, 'key-1');
  reads[1]?.resolve(first);
  t.match(await again, { id: ONE });
  t.equal(faults.length, 1);
});

t.test('a set that cannot be used is a failure like any other', async (t) => {
  const { keys, reads, clock, faults } = createSource();
  reads[0]?.resolve(first);
  await find(keys, 'key-1');
  clock.pass(FRESH);
  keys.has(ONE);
  reads[1]?.resolve({ keys: ['x'] } as unknown as JSONWebKeySet);
  await settled();
  t.match(faults, [{ code: 'ERR_JWKS_INVALID' }]);
  t.match(await find(keys, 'key-1'), { id: ONE });
});

t.test('closed: the read under way ends, none begins, nothing is reported', async (t) => {
  const { keys, reads, signals, clock, faults } = createSource();
  keys.close();
  t.equal(signals[0]?.aborted, true);
  reads[0]?.reject(new Error('aborted'));
  await settled();
  clock.pass(FRESH);
  keys.has(ONE);
  await t.rejects(find(keys, 'key-1'), KeysUnavailable);
  t.equal(reads.length, 1);
  t.strictSame(faults, []);
});

t.test('who waits for a read may be turned away, who does not need to is not', async (t) => {
  const { keys, reads, clock } = createSource();
  const full = (): Promise<void> => Promise.reject(new Error('too many wait'));
  await t.rejects(keys.find({ alg: 'ES256', kid: 'key-1' }, full), /too many wait/);
  reads[0]?.resolve(first);
  await until(() => keys.has(ONE));
  clock.pass(REST);
  t.match(await keys.find({ alg: 'ES256', kid: 'key-1' }, full), { id: ONE });
  await t.rejects(keys.find({ alg: 'ES256', kid: 'key-2' }, full), /too many wait/);
});
