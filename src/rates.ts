/**
 * The rates of the rules: the remaining requests, tunnels and bytes of each
 * client address, and each client. Separate from `limits.ts`, which counts what
 * is in progress; used only by egress.ts. docs/rates.md has the contract.
 */
import { RATE_KINDS, type RateConfig, type RateKind, type RateLimits, type RuleConfig } from './config/config.ts';
import { Fault } from './errors.ts';
import { Denial } from './policy/deny.ts';
import { describeRates } from './policy/rate-text.ts';
import { nameRules } from './policy/same-rules.ts';
import type { Allow, Ask } from './policy/verdict.ts';
import { RateBuckets, SHARED } from './rate-buckets.ts';
import type { AccessRecord } from './telemetry/access-record.ts';
import type { RateFacts } from './telemetry/collectors.ts';

/** Most addresses with an entry, for one rule and for all rules together: the latter is divided evenly among them. */
const MOST_OF_RULE = 10_000;
const MOST_OF_ALL = 100_000;
const LEAST_OF_RULE = 100;

const KIND = { requests: 0, tunnels: 1, sent: 2, received: 3 } as const satisfies Record<RateKind, number>;
const UNLIMITED: RateLimits = { requests: null, tunnels: null, sent: null, received: null };

/** The buckets of one rule. */
class RuleRates {
  /** `rules[0]`. */
  name: string;
  #config: RateConfig;
  readonly #addresses: RateBuckets;
  readonly #clients: RateBuckets;

  constructor(name: string, rule: RuleConfig, config: RateConfig, capacity: number) {
    this.name = name;
    this.#config = config;
    this.#addresses = new RateBuckets(refillsOf(config.perAddress), capacity);
    this.#clients = new RateBuckets(refillsOf(config.perClient), rule.clients.length);
  }

  adopt(name: string, rule: RuleConfig, config: RateConfig, capacity: number): void {
    this.name = name;
    this.#config = config;
    this.#addresses.adopt(refillsOf(config.perAddress), capacity);
    // Those of clients that the rule no longer names are dropped when they are full.
    this.#clients.adopt(refillsOf(config.perClient), rule.clients.length + this.#clients.size);
  }

  get usage(): RateFacts {
    return { rule: this.name, addresses: this.#addresses.size, shared: this.#addresses.shared };
  }

  get cuts(): boolean {
    return this.#config.whenExhausted === 'cut';
  }

  get limitsBytes(): boolean {
    const { perAddress, perClient } = this.#config;
    return [perAddress, perClient].some((limits) => limits !== null && (limits.sent !== null || limits.received !== null));
  }

  /**
   * Why a request may not begin now; null when it may. Takes nothing.
   * @param kind of the request; null: only the bytes are checked
   */
  refusal(address: string, client: string, kind: 'requests' | 'tunnels' | null, now: number): Fault | null {
    const { perAddress, perClient } = this.#config;
    let longest = 0;
    let per: 'perAddress' | 'perClient' = 'perAddress';
    let lacking: RateKind = 'requests';
    let shared = false;
    for (const scope of SCOPES) {
      if ((scope === 'perAddress' ? perAddress : perClient) === null) continue;
      const buckets = scope === 'perAddress' ? this.#addresses : this.#clients;
      const place = buckets.find(scope === 'perAddress' ? address : client, now);
      for (const each of RATE_KINDS) {
        if (each !== kind && each !== 'sent' && each !== 'received') continue;
        const wait = buckets.wait(place, KIND[each]);
        if (wait <= longest) continue;
        longest = wait;
        per = scope;
        lacking = each;
        shared = place === SHARED;
      }
    }
    return longest === 0 ? null : this.#refuse(longest, per, lacking, shared, per === 'perAddress' ? address : `the client ${client}`);
  }

  /** One more has begun. */
  begin(address: string, client: string, kind: 'requests' | 'tunnels', now: number): void {
    this.#addresses.take(address, KIND[kind], 1, now);
    this.#clients.take(client, KIND[kind], 1, now);
  }

  /** One that had begun was refused after all. */
  giveBack(address: string, client: string, kind: 'requests' | 'tunnels', now: number): void {
    this.#addresses.giveBack(address, KIND[kind], now);
    this.#clients.giveBack(client, KIND[kind], now);
  }

  /** This many bytes have been relayed. */
  pass(address: string, client: string, sent: number, received: number, now: number): void {
    for (const scope of SCOPES) {
      const buckets = scope === 'perAddress' ? this.#addresses : this.#clients;
      const name = scope === 'perAddress' ? address : client;
      if (sent > 0) buckets.take(name, KIND.sent, sent, now);
      if (received > 0) buckets.take(name, KIND.received, received, now);
    }
  }

  #refuse(wait: number, per: 'perAddress' | 'perClient', kind: RateKind, shared: boolean, whose: string): Fault {
    const key = `${this.name}.rate.${per}.${kind}`;
    const seconds = Math.ceil(wait / 1000);
    const who = shared ? `the addresses that share a bucket, as ${whose} does while all others are in use, have` : `${whose} has`;
    return new Fault(
      kind === 'requests' || kind === 'tunnels' ? 'rate-limited' : 'byte-limit-reached',
      `${who} used up ${key}, ${this.#config[per]?.[kind]?.text ?? ''}`,
      {
        retryAfter: seconds,
        remedy: `try again in ${seconds} s, or raise ${key}`,
      },
    );
  }
}

const SCOPES = ['perAddress', 'perClient'] as const;

function refillsOf(limits: RateLimits | null): RateLimits[RateKind][] {
  return RATE_KINDS.map((kind) => (limits ?? UNLIMITED)[kind]);
}

/** What one request owes its rule: the bytes relayed since the last charge. */
class ByteCharge {
  readonly rates: RuleRates;
  readonly client: string;
  /** Its overdraft has been reported, and not enforced: as long as that lasts, its bytes are not charged, as if it had ended. */
  excused = false;
  readonly #address: string;
  readonly #record: AccessRecord;
  readonly #now: () => number;
  #sent: number;
  #received: number;

  /** Bytes relayed so far are not charged. */
  constructor(rates: RuleRates, { client }: Allow, address: string, record: AccessRecord, now: () => number) {
    this.rates = rates;
    this.client = client.name;
    this.#address = address;
    this.#record = record;
    this.#now = now;
    this.#sent = record.bytesSent;
    this.#received = record.bytesReceived;
  }

  /** Charges the bytes relayed since. */
  pay(): void {
    const { bytesSent, bytesReceived } = this.#record;
    if (bytesSent === this.#sent && bytesReceived === this.#received) return;
    if (!this.excused) this.rates.pass(this.#address, this.client, bytesSent - this.#sent, bytesReceived - this.#received, this.#now());
    this.#sent = bytesSent;
    this.#received = bytesReceived;
  }

  /** Why the request has to end; null: it may continue. */
  overdrawn(): Fault | null {
    return this.rates.cuts ? this.rates.refusal(this.#address, this.client, null, this.#now()) : null;
  }
}

export type { ByteCharge, RuleRates };

/** The buckets of all rules. A reload replaces the rules; unchanged ones keep their buckets. */
export class Rates {
  readonly #now: () => number;
  #rules: readonly RuleConfig[] = [];
  /** Of rules that have rates. */
  #byConfig = new Map<RateConfig, RuleRates>();

  /** @param now monotonic ms */
  constructor(rules: readonly RuleConfig[], now: () => number) {
    this.#now = now;
    this.adopt(rules);
  }

  /** A rule that was there before, perhaps changed, keeps its buckets; a changed limit begins full. */
  adopt(rules: readonly RuleConfig[]): void {
    const rated = (all: readonly RuleConfig[]): RuleConfig[] => all.filter(({ rate }) => rate !== null);
    const before = rated(this.#rules);
    const after = rated(rules);
    const [names, later] = nameRules(before, after);
    const earlier = new Map(names.map((name, index) => [name, before[index]?.rate ?? null]));
    const places = new Map(rules.map((rule, index) => [rule, index]));
    const tables = after.filter(({ rate }) => rate?.perAddress !== null).length;
    const capacity = Math.min(MOST_OF_RULE, Math.max(LEAST_OF_RULE, Math.floor(MOST_OF_ALL / Math.max(1, tables))));
    const byConfig = new Map<RateConfig, RuleRates>();
    for (const [index, rule] of after.entries()) {
      if (rule.rate === null) continue;
      const name = `rules[${places.get(rule) ?? 0}]`;
      const was = earlier.get(later[index] ?? '') ?? null;
      const known = was === null ? undefined : this.#byConfig.get(was);
      known?.adopt(name, rule, rule.rate, capacity);
      byConfig.set(rule.rate, known ?? new RuleRates(name, rule, rule.rate, capacity));
    }
    this.#rules = rules;
    this.#byConfig = byConfig;
  }

  /**
   * The buckets to charge for a permitted request, by `begin`; null: its rule has none.
   * @throws {Denial} rate-limited or byte-limit-reached; if it passes in report mode, that is noted in the record, and
   * null returned
   */
  check(verdict: Allow, ask: Ask, kind: 'requests' | 'tunnels', record: AccessRecord): RuleRates | null {
    const rates = this.#of(verdict);
    const refusal = rates?.refusal(ask.peer.address, verdict.client.name, kind, this.#now()) ?? null;
    if (refusal === null) return rates;
    const { code, detail, remedy, challenges, retryAfter } = refusal;
    if (!verdict.lenient) throw new Denial(ask, { code, detail, remedy: remedy ?? '', challenges }, retryAfter ?? 1);
    record.noteReported(refusal.code, refusal.message);
    return null;
  }

  /** Charges the buckets found by `check`. @returns the account for its bytes; null: none */
  begin(rates: RuleRates, verdict: Allow, address: string, kind: 'requests' | 'tunnels', record: AccessRecord): ByteCharge | null {
    rates.begin(address, verdict.client.name, kind, this.#now());
    return rates.limitsBytes ? new ByteCharge(rates, verdict, address, record, this.#now) : null;
  }

  /** The account of a request that passes in report mode alone: nothing is charged to it as long as that lasts. Null: none */
  excuse(verdict: Allow, address: string, record: AccessRecord): ByteCharge | null {
    const charge = this.follow(null, verdict, address, record);
    if (charge !== null) charge.excused = true;
    return charge;
  }

  /** Returns what `begin` charged for a request that was refused behind the policy: a refusal takes nothing. */
  giveBack(rates: RuleRates, { client }: Allow, address: string, kind: 'requests' | 'tunnels'): void {
    rates.giveBack(address, client.name, kind, this.#now());
  }

  /** The account of a request in progress from now on, under another verdict than at its start. */
  follow(charge: ByteCharge | null, verdict: Allow, address: string, record: AccessRecord): ByteCharge | null {
    const rates = this.#of(verdict);
    if (rates?.limitsBytes !== true) return null;
    return charge?.rates === rates && charge.client === verdict.client.name
      ? charge
      : new ByteCharge(rates, verdict, address, record, this.#now);
  }

  /** In sentences: the rates of the rule that permits a request, and what would refuse it now. */
  explain(verdict: Allow, address: string, kind: 'requests' | 'tunnels'): string[] {
    const rates = this.#of(verdict);
    if (rates === null) return [];
    const refusal = rates.refusal(address, verdict.client.name, kind, this.#now());
    const notes = [`${verdict.rule} has rates: ${describeRates(verdict.rate).join('; ')}.`];
    if (refusal !== null) notes.push(`Now it would get ${refusal.kind.status} ${refusal.code}: ${refusal.advice}.`);
    return notes;
  }

  /** For each rule that has rates for addresses. */
  usage(): RateFacts[] {
    return [...this.#byConfig].flatMap(([{ perAddress }, { usage }]) => (perAddress === null ? [] : [usage]));
  }

  #of({ rate }: Allow): RuleRates | null {
    return rate === null ? null : (this.#byConfig.get(rate) ?? null);
  }
}
