/** The memory of failed connections and of changed DNS answers: bounded, and fed by the dialler. */
import t from 'tap';
import { createDialler } from '../../src/dial/dialler.ts';
import { DialHistory } from '../../src/dial/dial-history.ts';
import { createResolver } from '../../src/dial/resolver.ts';
import { findUnusedPort } from '../support/unused-port.ts';
import { startFullListener } from '../support/full-listener.ts';

const resolver = createResolver({ lookup: async () => ({ addresses: ['127.0.0.1'], ttl: null }), dns: { ttl: 60_000, staleFor: 0 }, timeout: 1_000 });

t.test('connections that fail, the latest first; what never answered with our port', async (t) => {
  let now = 0;
  const history = new DialHistory(() => (now += 1));
  const dialler = createDialler({ resolver, timeouts: { connect: 100, tls: 100 }, history });
  const dial = (port: number): Promise<unknown> => dialler.dial({ host: 'eco.example', port, tls: null, destination: 'eco' }, () => null, new AbortController().signal);
  const [nobody, full] = [await findUnusedPort(), await startFullListener(t)];
  await t.rejects(dial(nobody), { code: 'connection-refused' });
  await t.rejects(dial(full), { code: 'connect-timeout' });
  t.match(history.failedTo('eco'), [
    { at: 2, address: '127.0.0.1', port: full, from: /^127\.0\.0\.1:\d+$/, reason: 'no answer in 100 ms' },
    { at: 1, address: '127.0.0.1', port: nobody, from: null, reason: 'ECONNREFUSED' },
  ]);
  t.strictSame(history.failedTo('other'), []);
});

t.test('answers are kept where they change, whatever their order', async (t) => {
  let now = 0;
  const history = new DialHistory(() => (now += 1));
  for (const addresses of [['a', 'b'], ['b', 'a'], ['c'], ['c']]) history.answered('eco.example', addresses, null);
  history.answered('eco.example', [], 'name-not-found');
  history.answered('other.example', ['d'], null);
  t.strictSame(history.answersFor('eco.example').map(({ addresses, code }) => [addresses, code]), [[[], 'name-not-found'], [['c'], null], [['a', 'b'], null]]);
});

t.test('the resolver tells of each look-up that ended', async (t) => {
  const told: unknown[] = [];
  const asked = createResolver({ lookup: async (host) => {
    if (host === 'none.example') throw Object.assign(new Error('x'), { code: 'ENOTFOUND' });
    return { addresses: ['192.0.2.1'], ttl: null };
  }, dns: { ttl: 60_000, staleFor: 0 }, timeout: 1_000, onAnswer: (...answer) => told.push(answer) });
  await asked.resolve('eco.example');
  await asked.resolve('eco.example');
  await t.rejects(asked.resolve('none.example'), { code: 'name-not-found' });
  t.strictSame(told, [['eco.example', ['192.0.2.1'], null], ['none.example', [], 'name-not-found']]);
});

t.test('neither grows without bound', async (t) => {
  const history = new DialHistory(() => 0);
  for (let number = 0; number < 1_000; number += 1) {
    history.failed({ destination: 'eco', address: String(number), port: 1, from: null, reason: 'x' });
    history.answered('eco.example', [String(number)], null);
  }
  t.equal(history.failedTo('eco').length, 128);
  t.equal(history.answersFor('eco.example').length, 256);
  t.equal(history.failedTo('eco')[0]?.address, '999');
});
