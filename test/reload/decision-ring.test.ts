import t from 'tap';
import type { Ask } from '../../src/policy/verdict.ts';
import { DecisionRing } from '../../src/reload/compare.ts';

const ask = (host: string, now: number, path: string | null = '/'): Ask => ({
  form: 'forward',
  peer: { address: '10.8.0.1', user: null, token: null, sans: [], rejected: null },
  now,
  host,
  port: 443,
  method: 'GET',
  path,
});
const hosts = (ring: DecisionRing): string[] => ring.entries().map(({ host }) => host).toSorted();

t.test('the latest are kept, and no more than that', async (t) => {
  const ring = new DecisionRing(2);
  for (const [at, host] of ['a', 'b', 'c'].entries()) ring.remember(ask(host, (at + 1) * 100), true);
  t.strictSame(hosts(ring), ['b', 'c']);
  ring.adopt(2);
  t.strictSame(hosts(ring), ['b', 'c'], 'the same size changes nothing');
  ring.adopt(3);
  t.strictSame(hosts(ring), []);
});

t.test('of what is permitted, as many at once as are kept, then ten a second; every denial', async (t) => {
  const ring = new DecisionRing(3);
  for (const host of ['a', 'b', 'c', 'one-too-many']) ring.remember(ask(host, 1), true);
  t.strictSame(hosts(ring), ['a', 'b', 'c']);
  ring.remember(ask('too-soon', 100), true);
  t.strictSame(hosts(ring), ['a', 'b', 'c']);
  ring.remember(ask('denied', 100), false);
  t.strictSame(hosts(ring), ['b', 'c', 'denied'], 'a denial is kept whatever else has come');
  ring.remember(ask('a-tenth-later', 101), true);
  ring.remember(ask('again-too-soon', 102), true);
  t.strictSame(hosts(ring), ['a-tenth-later', 'c', 'denied']);
  ring.remember(ask('after-a-clock-that-went-back', 50), true);
  ring.remember(ask('after-a-pause', 1_000), true);
  t.strictSame(hosts(ring), ['a-tenth-later', 'after-a-pause', 'denied']);
});

t.test('none, where none are wanted; nor what would be too large', async (t) => {
  const none = new DecisionRing(0);
  none.remember(ask('a', 1), true);
  t.strictSame(none.entries(), []);
  const ring = new DecisionRing(2);
  ring.remember(ask('fits', 1, `/${'p'.repeat(2047)}`), true);
  ring.remember(ask('too-long', 2, `/${'p'.repeat(2048)}`), true);
  ring.remember(ask('no-path', 3, null), true);
  ring.remember({ ...ask('long-method', 4), method: 'M'.repeat(5_000) }, false);
  ring.remember({ ...ask('long-names', 5), peer: { ...ask('', 5).peer, sans: Array.from({ length: 500 }, (_, i) => `DNS:pod-${i}.example`) } }, false);
  t.strictSame(hosts(ring), ['fits', 'no-path']);
});
