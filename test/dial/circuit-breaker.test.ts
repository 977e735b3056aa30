/** All circuits together: which addresses a dial gets, what is refused, what is remembered and for how long. */
import fc from 'fast-check';
import t from 'tap';
import type { CircuitTrial } from '../../src/dial/circuit.ts';
import { CircuitBreaker } from '../../src/dial/circuit-breaker.ts';
import type { DialTarget } from '../../src/dial/dial.ts';
import { Fault } from '../../src/errors.ts';
import { makeDestination } from '../support/policy.ts';
import { holds } from '../support/property.ts';

const TERMS = { failures: 2, over: 0, pause: 1000, longestPause: 4000, statuses: [] };
const REFUSED = { reason: 'ECONNREFUSED', client: null, unanswered: false };
const ALL = ['10.0.0.1', '10.0.0.2', '10.0.0.3'] as const;
const [A, B, C] = ALL;
const eco = makeDestination('eco', ['eco.test'], { circuitBreaker: TERMS });
const other = makeDestination('other', ['eco.test'], { circuitBreaker: TERMS });
const PLAN = { of: eco, terms: TERMS, carries: 'tunnel' } as const;
const target = (change: Partial<DialTarget> = {}): DialTarget => ({ host: 'eco.test', port: 443, tls: null, destination: 'eco', circuit: PLAN, ...change });

function open() {
  const clock = { now: 0 };
  const told: string[] = [];
  const breaker = new CircuitBreaker({
    now: () => clock.now,
    random: () => 0.5,
    onOpened: ({ destination, host, port, carries, address }, reason, failures) => told.push(`open ${destination} ${carries} ${host}:${port} ${address} ${reason} ${failures}`),
    onClosed: ({ address }, why) => told.push(`closed ${address} ${why}`),
  });
  breaker.adopt([eco, other]);
  const fail = (address: string, to = target(), trial: CircuitTrial | null = null): void => {
    breaker.failed(to, address, ALL, REFUSED, trial);
  };
  const shut = (...addresses: readonly string[]): void => {
    for (const address of addresses) for (let i = 0; i < TERMS.failures; i += 1) fail(address);
  };
  return { breaker, clock, told, fail, shut };
}

const refusal = (action: () => unknown): Fault => {
  try {
    action();
  } catch (error) {
    if (error instanceof Fault) return error;
  }
  throw new Error('nothing was refused');
};

t.test('open addresses are left out; one that is due comes first, as the only trial', async (t) => {
  const { breaker, clock, shut, told } = open();
  t.equal(breaker.quiet, true);
  t.strictSame(breaker.choose(target(), ALL, null), { addresses: ALL, tried: '', trial: null });
  shut(B, C);
  t.equal(breaker.quiet, false);
  t.strictSame(breaker.choose(target(), ALL, null).addresses, [A]);
  clock.now = 1000;
  const first = breaker.choose(target(), ALL, null);
  t.strictSame([first.addresses, first.tried], [[B, A], B]);
  const second = breaker.choose(target(), ALL, null);
  t.strictSame([second.addresses, second.tried], [[C, A], C]);
  t.strictSame(breaker.choose(target(), ALL, null), { addresses: [A], tried: '', trial: null });
  breaker.worked(target(), B);
  t.strictSame(breaker.choose(target(), ALL, null).addresses, [A, B]);
  t.strictSame(told, [`open eco tunnel eco.test:443 ${B} ECONNREFUSED 2`, `open eco tunnel eco.test:443 ${C} ECONNREFUSED 2`, `closed ${B} it works again`]);
});

t.test('none is left: refused, with the time of the next trial', async (t) => {
  const { breaker, clock, shut, fail } = open();
  shut(A, B);
  clock.now = 500;
  shut(C);
  t.match(breaker.refusal(target(), ALL, 'x'), { code: 'circuit-open', retryAfter: 1, subject: 'eco.test:443', detail: /in 1 s \(10\.0\.0\.1: ECONNREFUSED; 10\.0\.0\.2: / });
  t.match(refusal(() => breaker.choose(target(), ALL, null)), { code: 'circuit-open', retryAfter: 1 });
  clock.now = 1000;
  t.equal(breaker.refusal(target(), ALL, 'x'), null, 'one is due');
  const { tried, trial, addresses } = breaker.choose(target(), ALL, null);
  t.strictSame([tried, addresses], [A, [A]], 'the trial alone');
  fail(A, target(), trial);
  const next = breaker.choose(target(), ALL, null);
  t.equal(next.tried, B);
  t.match(breaker.refusal(target(), ALL, 'x'), { retryAfter: 1, detail: /now, by another request/ });
  fail(B, target(), next.trial);
  clock.now = 1500;
  const last = breaker.choose(target(), ALL, null);
  fail(C, target(), last.trial);
  t.match(breaker.refusal(target(), ALL, 'x'), { retryAfter: 2 }, 'the earliest of all');
  t.equal(breaker.refusal(target(), [...ALL, '10.0.0.4'], 'x'), null, 'the name has moved');
});

t.test('what is another circuit', async (t) => {
  const { breaker, shut } = open();
  shut(A);
  const others: [what: string, change: Partial<DialTarget>][] = [
    ['host', { host: 'other.test' }],
    ['port', { port: 80 }],
    ['destination', { circuit: { ...PLAN, of: other } }],
    ['use', { circuit: { ...PLAN, carries: 'https' } }],
  ];
  t.not(breaker.refusal(target(), [A], 'x'), null);
  for (const [what, change] of others) t.equal(breaker.refusal(target(change), [A], 'x'), null, what);
  t.equal(breaker.refusal({ host: 'eco.test', port: 443, tls: null, destination: 'eco' }, [A], 'x'), null, 'what counts nothing is never refused');
});

t.test('failures of one client: refused to it, dialled for others', async (t) => {
  const { breaker, clock } = open();
  const silent = { reason: 'upstream-silent', client: 'x', unanswered: true };
  for (let i = 0; i < TERMS.failures; i += 1) breaker.failed(target(), A, [A], silent, null);
  t.not(breaker.refusal(target(), [A], 'x'), null);
  t.equal(breaker.refusal(target(), [A], 'y'), null);
  t.strictSame(breaker.choose(target(), [A], null), { addresses: [A], tried: '', trial: null });
  t.strictSame(breaker.choose(target(), [A, B], null).addresses, [B], 'though another address is better for all');
  t.equal(breaker.blocksAll(target(), A), false);
  t.strictSame(breaker.counts().get('eco'), { open: 1, refusing: 0 });
  t.equal(breaker.connected(target(), A), false, 'a connection is no answer');
  t.not(breaker.refusal(target(), [A], 'x'), null);
  clock.now = 1000;
  t.equal(breaker.refusal(target(), [A], 'x'), null, 'due');
});

t.test('seen from outside', async (t) => {
  const { breaker, clock, shut, fail } = open();
  shut(A);
  fail(B);
  clock.now = 400;
  t.strictSame(breaker.view(Date.parse('2026-01-01T00:00:01Z')), [
    {
      destination: 'eco',
      host: 'eco.test',
      port: 443,
      carries: 'tunnel',
      refuses: false,
      addresses: [
        { address: A, state: 'open', failures: 2, since: '2026-01-01T00:00:00.600Z', reason: 'ECONNREFUSED', nextTrial: '2026-01-01T00:00:01.600Z', client: null },
        { address: B, state: 'closed', failures: 1, since: null, reason: 'ECONNREFUSED', nextTrial: null, client: null },
      ],
    },
  ]);
  t.strictSame(breaker.warnings(), []);
  fail(B);
  shut(C);
  t.strictSame(breaker.counts().get('eco'), { open: 3, refusing: 1 });
  t.match(breaker.warnings(), [/^Requests to eco \(tunnel, eco\.test:443\) are refused with circuit-open since .*: every address has failed \(10\.0\.0\.1: ECONNREFUSED; .*\)\.$/]);
  clock.now += 1_101;
  t.match(breaker.warnings(), [/^Requests to eco \(tunnel, eco\.test:443\) have been refused with circuit-open since .*\)\. The next one tries again\.$/], 'no request has come since the pause');
});

t.test('forgotten after a while, and no more remembered than there is room for', async (t) => {
  const { breaker, clock, shut, fail, told } = open();
  shut(A);
  clock.now = 601_001;
  t.strictSame(breaker.view(), []);
  t.equal(breaker.quiet, true);
  t.match(told, [/^open/, /^closed 10\.0\.0\.1 nothing was asked/]);

  for (let i = 0; i < 1000; i += 1) fail(A, target({ host: `host-${i}.test` }));
  const counted = (): number => breaker.view().reduce((sum, { addresses }) => sum + addresses.length, 0);
  t.equal(counted(), 256);
  t.equal(breaker.view().at(-1)?.host, 'host-999.test', 'the latest');
  for (let i = 0; i < 1000; i += 1) for (let twice = 0; twice < 2; twice += 1) fail(A, target({ host: `host-${i}.test` }));
  t.equal(counted(), 256);
  t.equal(breaker.counts().get('eco')?.open, 256, 'those that are open stay');
  fail(A, target({ circuit: { ...PLAN, of: other } }));
  t.equal(counted(), 257, 'each destination has room of its own');
});

t.test('a reload forgets what is reached in another way, and what comes of earlier dials', async (t) => {
  const { breaker, shut, fail, told } = open();
  shut(A);
  const same = { ...eco, methods: ['GET'], gateReadiness: true };
  breaker.adopt([same]);
  t.equal(breaker.quiet, false);
  t.not(breaker.refusal(target({ circuit: { ...PLAN, of: same } }), [A], 'x'), null);
  t.not(breaker.refusal(target(), [A], 'x'), null, 'reached as before');
  const changed = { ...eco, tls: { ...eco.tls, serverName: 'other.test' } };
  breaker.adopt([changed]);
  t.equal(breaker.quiet, true);
  t.match(told.at(-1), /^closed 10\.0\.0\.1 the destination was changed/);
  shut(A);
  t.equal(breaker.quiet, true, 'dials that began before');
  const present = target({ circuit: { ...PLAN, of: changed } });
  for (let i = 0; i < TERMS.failures; i += 1) fail(A, present);
  breaker.worked(target(), A);
  t.not(breaker.refusal(present, [A], 'x'), null, 'nor does their success close a circuit');
  breaker.adopt([{ ...changed, hosts: makeDestination('eco', ['next.test']).hosts }]);
  t.equal(breaker.quiet, true, 'one of its hosts may now be of another destination');
  breaker.adopt([]);
  t.equal(breaker.quiet, true);
  for (let i = 0; i < TERMS.failures; i += 1) fail(A, present);
  t.strictSame(breaker.warnings(), [], 'the destination is gone');
});

t.test('whatever happens', async (t) => {
  const step = fc.record({ what: fc.constantFrom('fail' as const, 'work' as const, 'dial' as const, 'wait' as const, 'back' as const), address: fc.constantFrom(...ALL), client: fc.constantFrom(null, 'x', 'y'), pick: fc.nat(20), ms: fc.nat(3000) });
  holds(t, 'a dial gets checked addresses, no open one but its trial or those of another client, and an address has one trial', 2000, fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
    const { breaker, clock } = open();
    const trials: { address: string; trial: CircuitTrial }[] = [];
    for (const { what, address, client, pick, ms } of steps) {
      const states = new Map(breaker.view()[0]?.addresses.map((one) => [one.address, one]));
      const held = trials[pick];
      if (what === 'wait') clock.now += ms;
      else if (what === 'work') breaker.worked(target(), address);
      else if (what === 'back' && held !== undefined) breaker.giveBack(target(), held.address, held.trial);
      else if (what === 'fail') breaker.failed(target(), held?.address ?? address, ALL, { ...REFUSED, client }, held?.trial ?? null);
      else if (what === 'dial') {
        try {
          const { addresses, tried, trial } = breaker.choose(target(), ALL, client);
          if (addresses.length === 0 || addresses.some((one) => !(ALL as readonly string[]).includes(one)) || new Set(addresses).size < addresses.length) return false;
          for (const one of addresses) {
            const state = states.get(one);
            const isTrial = trial !== null && tried === one;
            if (isTrial && (state?.state !== 'due' || addresses[0] !== one)) return false;
            if (!isTrial && state !== undefined && state.state !== 'closed' && (state.client === null || state.client === client)) return false;
          }
          if (trial !== null) trials.push({ address: tried, trial });
        } catch (error) {
          if (!(error instanceof Fault) || error.code !== 'circuit-open' || (error.retryAfter ?? 0) < 1) return false;
          if (ALL.some((one) => ['closed', 'due', undefined].includes(states.get(one)?.state))) return false;
        }
      }
    }
    return true;
  }));
});
