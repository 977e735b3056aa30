/** What is remembered of credentials, how long, and how much at most. */
import t from 'tap';
import { CredentialCache } from '../../src/identity/authenticator.ts';

function createClock() {
  let time = 1_000;
  return { now: () => time, pass: (ms: number) => (time += ms) };
}

const ALWAYS = (): boolean => true;

t.test('until its time, not after', async (t) => {
  const clock = createClock();
  const cache = new CredentialCache<string>({ now: clock.now, mostAccepted: 10, mostRefused: 10 });
  const key = cache.keyOf('Basic abc');
  cache.accept(key, 'yes', 1_100, ALWAYS);
  cache.refuse(cache.keyOf('Basic abd'), 'no', 1_050);
  clock.pass(49);
  t.equal(cache.find(cache.keyOf('Basic abc')), 'yes');
  t.equal(cache.find(cache.keyOf('Basic abd')), 'no');
  t.equal(cache.find(cache.keyOf('basic abc')), undefined);
  clock.pass(1);
  t.equal(cache.find(cache.keyOf('Basic abd')), undefined);
  t.equal(cache.find(key), 'yes');
  clock.pass(50);
  t.equal(cache.find(key), undefined);
  t.equal(cache.size, 0, 'nothing is kept that cannot be found');
});

t.test('while it holds', async (t) => {
  const cache = new CredentialCache<string>({ now: () => 0, mostAccepted: 10, mostRefused: 10 });
  let holds = true;
  cache.accept('key', 'yes', 1, () => holds);
  t.equal(cache.find('key'), 'yes');
  holds = false;
  t.equal(cache.find('key'), undefined);
  holds = true;
  t.equal(cache.find('key'), undefined, 'once gone, gone');
});

t.test('10,000 refused ones push nothing accepted out, and are not all kept', async (t) => {
  const cache = new CredentialCache<string>({ now: () => 0, mostAccepted: 3, mostRefused: 100 });
  for (const name of ['a', 'b', 'c']) cache.accept(name, name, 1, ALWAYS);
  for (let i = 0; i < 10_000; i += 1) cache.refuse(cache.keyOf(String(i)), 'no', 1);
  t.equal(cache.size, 103);
  for (const name of ['a', 'b', 'c']) t.equal(cache.find(name), name);
  cache.accept('d', 'd', 1, ALWAYS);
  t.equal(cache.find('a'), undefined, 'the one used longest ago makes room');
  cache.forgetRefused();
  t.equal(cache.size, 3);
});

t.test('accepted after having been refused', async (t) => {
  const cache = new CredentialCache<string>({ now: () => 0, mostAccepted: 3, mostRefused: 3 });
  cache.refuse('key', 'no', 1);
  cache.accept('key', 'yes', 1, ALWAYS);
  t.equal(cache.find('key'), 'yes');
  t.equal(cache.size, 1);
});

t.test('keys say nothing outside this process', async (t) => {
  const [one, other] = [0, 1].map(() => new CredentialCache<string>({ now: () => 0, mostAccepted: 3, mostRefused: 3 }));
  t.equal(one?.keyOf('Basic abc'), one?.keyOf('Basic abc'));
  t.not(one?.keyOf('Basic abc'), other?.keyOf('Basic abc'));
});
