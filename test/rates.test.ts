/** The rates of rules: whose bucket it is, which refusal is told, what a reload keeps, and what bytes owe. */
import t from 'tap';
import type { RateConfig, RateLimits, RuleConfig } from '../src/config/config.ts';
import { readRate } from '../src/config/read-rate.ts';
import { Denial } from '../src/policy/deny.ts';
import type { Allow } from '../src/policy/verdict.ts';
import { Rates } from '../src/rates.ts';
import { AccessRecord } from '../src/telemetry/access-record.ts';
import { makeAsk, makeClient, makeDestination, makePeer, makeRule } from './support/policy.ts';

function limits(written: Partial<Record<keyof RateLimits, string>>): RateLimits {
  const read = (kind: keyof RateLimits): RateLimits[keyof RateLimits] => {
    const text = written[kind];
    if (text === undefined) return null;
    const result = readRate(kind === 'sent' || kind === 'received' ? 'bytes' : 'count')(text);
    if ('problem' in result) throw new Error(result.problem);
    return result.value;
  };
  return { requests: read('requests'), tunnels: read('tunnels'), sent: read('sent'), received: read('received') };
}

function rated(perAddress: Parameters<typeof limits>[0] | null, perClient: Parameters<typeof limits>[0] | null = null, whenExhausted: RateConfig['whenExhausted'] = 'refuse'): RateConfig {
  return { perAddress: perAddress === null ? null : limits(perAddress), perClient: perClient === null ? null : limits(perClient), whenExhausted };
}

const rule = (rate: RateConfig | null, more: Partial<RuleConfig> = {}): RuleConfig => makeRule(['pods', 'jobs'], ['eco'], { rate, ...more });

class Bench {
  now = 0;
  readonly rates: Rates;
  #rules: readonly RuleConfig[];

  constructor(rules: readonly RuleConfig[]) {
    this.#rules = rules;
    this.rates = new Rates(rules, () => this.now);
  }

  adopt(rules: readonly RuleConfig[]): void {
    this.#rules = rules;
    this.rates.adopt(rules);
  }

  verdict(index = 0, client = 'pods', lenient = false): Allow {
    const found = this.#rules[index];
    return { verdict: 'allow', client: makeClient(client, {}), destination: makeDestination('eco', ['eco.example']), rule: `rules[${index}]`, until: Infinity, rate: found?.rate ?? null, lenient };
  }

  /** The code, or `ok`. */
  ask(address: string, { kind = 'requests', ...of }: { kind?: 'requests' | 'tunnels'; index?: number; client?: string } = {}): string {
    return this.refusal(address, kind, of)?.code ?? 'ok';
  }

  refusal(address: string, kind: 'requests' | 'tunnels' = 'requests', { index = 0, client = 'pods' }: { index?: number; client?: string } = {}): Denial | null {
    const verdict = this.verdict(index, client);
    const record = new AccessRecord('id', 0, address);
    try {
      const rates = this.rates.check(verdict, makeAsk({ peer: makePeer(address) }), kind, record);
      if (rates !== null) this.rates.begin(rates, verdict, address, kind, record);
      return null;
    } catch (error) {
      if (!(error instanceof Denial)) throw error;
      return error;
    }
  }
}

const times = (count: number, ask: () => string): string[] => Array.from({ length: count }, ask);

t.test('each address has its own, and all of a client have one together', async (t) => {
  const bench = new Bench([rule(rated({ requests: '2/m' }, { requests: '3/m', tunnels: '1/m' }))]);
  t.strictSame(times(3, () => bench.ask('10.8.0.1')), ['ok', 'ok', 'rate-limited']);
  t.strictSame(times(2, () => bench.ask('10.8.0.2')), ['ok', 'rate-limited'], 'of the client');
  t.strictSame(times(3, () => bench.ask('10.8.0.3', { client: 'jobs' })), ['ok', 'ok', 'rate-limited'], 'another client has its own');
  t.strictSame(times(2, () => bench.ask('10.8.0.1', { kind: 'tunnels' })), ['ok', 'rate-limited'], 'tunnels are counted apart');
});

t.test('the refusal is about what takes longest, and nothing is taken by it', async (t) => {
  const bench = new Bench([rule(rated({ requests: '1/s' }, { requests: '2/h', received: '1KiB/day' }))]);
  t.equal(bench.ask('a'), 'ok');
  t.match(bench.refusal('a'), { code: 'rate-limited', retryAfter: 1, message: 'a has used up rules[0].rate.perAddress.requests, 1/s', remedy: 'try again in 1 s, or raise rules[0].rate.perAddress.requests' });
  t.equal(bench.ask('b'), 'ok', 'the refusal took nothing of the client');
  t.match(bench.refusal('b'), { code: 'rate-limited', retryAfter: 1800, message: 'the client pods has used up rules[0].rate.perClient.requests, 2/h' });
  bench.now += 1_799_999;
  t.equal(bench.ask('c'), 'rate-limited');
  bench.now += 1;
  t.equal(bench.ask('c'), 'ok');
  t.match(bench.refusal('c'), { retryAfter: 1800 });
});

t.test('a rule without rates, and one that limits bytes alone', async (t) => {
  const bench = new Bench([rule(null), rule(rated(null, { sent: '1KiB/s' }))]);
  t.strictSame(times(3, () => bench.ask('a')), ['ok', 'ok', 'ok']);
  const verdict = bench.verdict(1);
  const record = new AccessRecord('id', 0, 'a');
  const rates = bench.rates.check(verdict, makeAsk(), 'tunnels', record);
  const charge = rates === null ? null : bench.rates.begin(rates, verdict, 'a', 'tunnels', record);
  record.bytesSent = 1023;
  record.bytesReceived = 1e9;
  charge?.pay();
  t.equal(bench.ask('b', { index: 1 }), 'ok', 'one byte is left');
  record.bytesSent = 1024;
  charge?.pay();
  charge?.pay();
  t.match(bench.refusal('b', 'requests', { index: 1 }), { code: 'byte-limit-reached', retryAfter: 1, message: /the client pods has used up rules\[1\]\.rate\.perClient\.sent, 1KiB\/s/ });
  t.equal(bench.ask('b', { index: 1, client: 'jobs' }), 'ok');
  t.equal(charge?.overdrawn(), null, 'what is under way goes on');
  record.bytesSent = 1e9;
  charge?.pay();
  bench.now += 1000;
  t.equal(bench.ask('b', { index: 1 }), 'byte-limit-reached');
  bench.now += 1;
  t.equal(bench.ask('b', { index: 1 }), 'ok', 'never more than a whole bucket is owed');
});

t.test('cut: as long as something of it is used up', async (t) => {
  const bench = new Bench([rule(rated({ requests: '1/day' }, { received: '1KiB/s' }, 'cut'))]);
  const verdict = bench.verdict();
  const record = new AccessRecord('id', 0, 'a');
  const rates = bench.rates.check(verdict, makeAsk({ peer: makePeer('a') }), 'requests', record);
  const charge = rates === null ? null : bench.rates.begin(rates, verdict, 'a', 'requests', record);
  t.equal(charge?.overdrawn(), null, 'requests that are used up end nothing');
  record.bytesReceived = 1024;
  charge?.pay();
  t.match(charge?.overdrawn(), { code: 'byte-limit-reached' });
  bench.now += 1;
  t.equal(charge?.overdrawn(), null);
});

t.test('report mode: it passes, is noted, and takes nothing', async (t) => {
  const bench = new Bench([rule(rated({ requests: '1/m' }))]);
  t.equal(bench.ask('a'), 'ok');
  const record = new AccessRecord('id', 0, 'a');
  for (let tries = 0; tries < 3; tries += 1) t.equal(bench.rates.check(bench.verdict(0, 'pods', true), makeAsk({ peer: makePeer('a') }), 'requests', record), null);
  t.match(record, { verdict: 'report', wouldDeny: 'rate-limited', detail: 'a has used up rules[0].rate.perAddress.requests, 1/m' });
  bench.now += 60_000;
  t.equal(bench.ask('a'), 'ok');
});

t.test('a reload: which rule is which', async (t) => {
  const slow = { requests: '1/day' };
  const other = makeRule(['others'], ['eco'], { rate: rated(slow) });
  const cases: [what: string, after: readonly RuleConfig[], index: number, goesOn: boolean][] = [
    ['the same file', [rule(rated(slow))], 0, true],
    ['notes for people', [rule(rated(slow), { owner: 'payments', ticket: 'CHG-1' })], 0, true],
    ['behind another one', [other, rule(rated(slow))], 1, true],
    ['one more client', [makeRule(['pods', 'jobs', 'more'], ['eco'], { rate: rated(slow) })], 0, true],
    ['methods', [rule(rated(slow), { methods: ['GET'] })], 0, true],
    ['another limit beside it', [rule(rated({ ...slow, tunnels: '1/s' }, { sent: '1KiB/s' }))], 0, true],
    ['written in another way', [rule(rated({ requests: '1/day burst 1' }))], 0, true],
    ['another rate', [rule(rated({ requests: '2/day' }))], 0, false],
    ['another burst', [rule(rated({ requests: '1/day burst 2' }))], 0, false],
    ['of clients alone', [rule(rated(null, slow))], 0, false],
    ['none', [rule(null)], 0, false],
    ['a rule for others', [makeRule(['others'], ['eco'], { rate: rated(slow) })], 0, false],
  ];
  for (const [what, after, index, goesOn] of cases) {
    const bench = new Bench([rule(rated(slow))]);
    t.equal(bench.ask('a'), 'ok');
    bench.adopt(after);
    t.equal(bench.ask('a', { index }), goesOn ? 'rate-limited' : 'ok', what);
    t.strictSame(bench.rates.usage().map((usage) => usage.rule), after.flatMap(({ rate }, place) => ((rate?.perAddress ?? null) === null ? [] : [`rules[${place}]`])), what);
  }
  const bench = new Bench([rule(rated(null, slow))]);
  t.equal(bench.ask('a'), 'ok');
  bench.adopt([makeRule(['pods', 'new'], ['eco'], { rate: rated(null, slow) })]);
  t.strictSame([bench.ask('a'), bench.ask('b', { client: 'new' })], ['rate-limited', 'ok'], 'a client that came into its place has its own');
});

t.test('what is under way follows a reload', async (t) => {
  const bench = new Bench([rule(null)]);
  const record = new AccessRecord('id', 0, 'a');
  record.bytesSent = 1e9;
  const cut = rule(rated({ sent: '1KiB/s' }, null, 'cut'));
  bench.adopt([cut]);
  const charge = bench.rates.follow(null, bench.verdict(), 'a', record);
  charge?.pay();
  t.equal(charge?.overdrawn(), null, 'what has passed before is not charged');
  t.equal(bench.rates.follow(charge, bench.verdict(), 'a', record), charge, 'the same rule');
  bench.adopt([rule(null)]);
  t.equal(bench.rates.follow(charge, bench.verdict(), 'a', record), null);
});

t.test('many rules share the room', async (t) => {
  const rules = Array.from({ length: 500 }, (_, index) => makeRule(['pods'], [`eco-${index}`], { rate: rated({ requests: '1/day' }) }));
  const bench = new Bench(rules);
  for (let address = 0; address < 300; address += 1) bench.ask(`a${address}`);
  t.match(bench.rates.usage()[0], { rule: 'rules[0]', addresses: 200, shared: 1 });
  t.match(bench.refusal('z'), { message: /^the addresses that share a bucket, as z does while all others are in use, have used up rules\[0\]\.rate\.perAddress\.requests, 1\/day$/ });
  t.equal(bench.ask('z', { index: 1 }), 'ok');
});
