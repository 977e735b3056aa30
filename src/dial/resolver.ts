/**
 * Resolves names to addresses, with a cache that keeps look-ups off the request
 * path and outlasts a failing resolver (RFC 8767).
 */
import { isIP } from 'node:net';
import { isDeepStrictEqual } from 'node:util';
import { LRUCache } from 'lru-cache';
import type { CancelSignal } from '../cancel.ts';
import type { DnsConfig } from '../config/config.ts';
import { Fault, type FaultCode, type FaultFacts } from '../errors.ts';
import type { AddressGuard } from './dial.ts';
import { errorCode, isNoSuchName, type Lookup, RCODES, waitWithin } from './lookup.ts';

/** Resolves names, from its cache if possible. */
export interface Resolver {
  /**
   * The addresses that need no waiting: an IP literal itself, or a cached
   * answer. Null: use `resolve`.
   */
  cached(host: string): readonly string[] | null;
  /**
   * Never empty. Rejects with a Fault: `name-not-found`, `resolver-timeout`,
   * `resolver-failed`, or the reason of `signal`.
   */
  resolve(host: string, signal?: CancelSignal): Promise<readonly string[]>;
}

/** For `createResolver`. */
export interface ResolverOptions {
  readonly lookup: Lookup;
  readonly dns: Pick<DnsConfig, 'ttl' | 'staleFor'>;
  /** How long one caller waits at most, ms. */
  readonly timeout: number;
  /** What is known of names; by default nothing. */
  readonly entries?: NameEntries;
  /** Monotonic clock, ms. */
  readonly now?: () => number;
  /** A look-up failed and an expired answer is used instead; called once per failed attempt. */
  readonly onStale?: (host: string, error: Fault) => void;
  /** A look-up has ended: with these addresses, or with none and why. */
  readonly onAnswer?: (host: string, addresses: readonly string[], code: FaultCode | null) => void;
}

const MAX_NAMES = 10_000;
/** In a warning. */
const MOST_WARNED = 3;
/** Of one name: an answer of 64 KiB has four thousand, each of which would be kept, dialled when the others fail, and named in the refusal. */
const MAX_ADDRESSES = 128;
const MIN_TTL_MS = 1_000;
const MAX_TTL_MS = 3_600_000;
/** An answer used in the last quarter of its life is refreshed in the background. */
const REFRESH_AT = 0.75;
/** A name that does not exist is looked up again after this: partners appear in DNS while users wait for them. */
const NO_NAME_MS = 2_000;
/** So is a name for which the resolver failed and no expired answer exists. */
const NO_ANSWER_MS = 1_000;
/** RFC 8767 §5: a caller with an expired answer waits this long for a better one… */
const STALE_PATIENCE_MS = 1_800;
/** …and then the expired one is used this long before a caller waits again. */
const HOLD_MS = 30_000;
/** A look-up this old is considered lost, and the next caller starts another. */
const LOST_MS = 30_000;

interface Known {
  readonly addresses: readonly string[];
  readonly expiresAt: number;
  readonly staleUntil: number;
  refreshAt: number;
  /** Expired, but to be used without waiting until then. */
  holdUntil: number;
}

interface Unknown {
  readonly fault: Fault;
  readonly until: number;
}

type NameEntries = LRUCache<string, Known | Unknown>;
const createEntries = (): NameEntries => new LRUCache({ max: MAX_NAMES });

/** What resolvers know of names. Outlasts a reload that does not change `dns`: while the resolver fails, nothing else leads to the partners. */
export class KnownNames {
  #dns: DnsConfig | null = null;
  #entries = createEntries();

  /** By this configuration. */
  of(dns: DnsConfig): NameEntries {
    if (!isDeepStrictEqual(dns, this.#dns)) [this.#dns, this.#entries] = [dns, createEntries()];
    return this.#entries;
  }

  /** The names whose expired answers are in use because the resolver fails, each with the time until which it may be: without them, every request would fail. @param now as for the resolvers */
  stale(now = performance.now()): (readonly [host: string, until: number])[] {
    return [...this.#entries.entries()].flatMap(([host, entry]) =>
      'addresses' in entry && now >= entry.expiresAt && now < entry.holdUntil ? [[host, entry.staleUntil] as const] : [],
    );
  }

  /** A sentence while there are such names. @param now as for the resolvers */
  warnings(now = performance.now()): string[] {
    const stale = this.stale(now);
    if (stale.length === 0) return [];
    const hosts = stale
      .slice(0, MOST_WARNED)
      .map(([host]) => host)
      .join(', ');
    const others = stale.length > MOST_WARNED ? ` and ${stale.length - MOST_WARNED} others` : '';
    const end = Math.min(...stale.map(([, until]) => until));
    return [
      `The resolver fails: the last known addresses of ${hosts}${others} are used, until ${new Date(Date.now() + end - now).toISOString().slice(0, 16)}Z (dns.staleFor).`,
    ];
  }
}

interface PendingLookup {
  readonly startedAt: number;
  /** Never rejects: it may have no waiting caller. */
  readonly outcome: Promise<Known | Fault>;
}

/** Has no timers except those of waiting callers, so there is nothing to close. */
export function createResolver(options: ResolverOptions): Resolver {
  const { lookup, dns, timeout, entries = createEntries(), onStale, onAnswer } = options;
  const now = options.now ?? performance.now.bind(performance);
  const flights = new Map<string, PendingLookup>();

  function asked(): string {
    const servers = lookup.servers?.() ?? [];
    return servers.length === 0 ? '' : ` from ${servers.join(' or ')}`;
  }

  /** Joins the current look-up, or starts one. */
  function ask(host: string): PendingLookup {
    const current = flights.get(host);
    if (current !== undefined && now() - current.startedAt < LOST_MS) return current;
    const flight: PendingLookup = {
      startedAt: now(),
      outcome: question(host).then((outcome) => {
        // A late result of a look-up considered lost must not replace a newer result.
        if (flights.get(host) === flight) {
          flights.delete(host);
          keep(host, outcome);
          if (outcome instanceof Fault) onAnswer?.(host, [], outcome.code);
          else onAnswer?.(host, outcome.addresses, null);
        }
        return outcome;
      }),
    };
    flights.set(host, flight);
    return flight;
  }

  async function question(host: string): Promise<Known | Fault> {
    try {
      const answer = await lookup(host, timeout);
      // Of a family whose look-up failed, the last answer is used: it may be the only one that leads there.
      const before = answer.open === undefined ? null : usable(host);
      const kept = before?.addresses.filter((address) => isIP(address) === answer.open) ?? [];
      const all = answer.open === 4 ? [...kept, ...answer.addresses] : [...answer.addresses, ...kept];
      const addresses = [...new Set(all)].slice(0, MAX_ADDRESSES);
      if (addresses.length === 0) return noSuchName(host);
      const life = answer.ttl === null ? dns.ttl : Math.min(Math.max(answer.ttl, MIN_TTL_MS), MAX_TTL_MS);
      const expiresAt = now() + life;
      return {
        addresses,
        expiresAt,
        staleUntil: before === null || kept.length === 0 ? expiresAt + dns.staleFor : before.staleUntil,
        refreshAt: now() + life * REFRESH_AT,
        holdUntil: 0,
      };
    } catch (error) {
      return isNoSuchName(error) ? noSuchName(host, error) : lookupFault(host, error);
    }
  }

  function keep(host: string, outcome: Known | Fault): void {
    if (!(outcome instanceof Fault)) {
      entries.set(host, outcome);
    } else if (outcome.code === 'name-not-found') {
      // RFC 8767 §4: "no such name" is an answer and replaces the cached one; a failure does not.
      entries.set(host, { fault: outcome, until: now() + NO_NAME_MS });
    } else {
      const entry = usable(host);
      if (entry === null) entries.set(host, { fault: outcome, until: now() + NO_ANSWER_MS });
      else hold(host, entry, outcome);
    }
  }

  /** The last answer, unless it is too old even for a failing resolver. */
  function usable(host: string): Known | null {
    const entry = entries.get(host);
    return entry !== undefined && 'addresses' in entry && now() < entry.staleUntil ? entry : null;
  }

  function hold(host: string, entry: Known, fault: Fault): void {
    entry.holdUntil = Math.min(now() + HOLD_MS, entry.staleUntil);
    entry.refreshAt = now() + HOLD_MS * REFRESH_AT;
    if (entry.holdUntil > entry.expiresAt) onStale?.(host, fault);
  }

  function cached(host: string): readonly string[] | null {
    const entry = entries.get(host);
    // An address needs no cache entry.
    if (entry === undefined) return isIP(host) === 0 ? null : [host];
    if ('fault' in entry) return null;
    const time = now();
    if (time >= entry.expiresAt && time >= entry.holdUntil) return null;
    if (time >= entry.refreshAt) ask(host);
    return entry.addresses;
  }

  return {
    cached,
    resolve: async (host, signal) => {
      const known = cached(host);
      if (known !== null) return known;
      const entry = entries.get(host);
      if (entry !== undefined && 'fault' in entry && now() < entry.until) throw entry.fault;

      const patience = usable(host) === null ? timeout : Math.min(timeout, STALE_PATIENCE_MS);
      const outcome = await waitWithin(ask(host).outcome, patience, signal);
      if (outcome !== null && !(outcome instanceof Fault)) return outcome.addresses;

      const fault =
        outcome ?? new Fault('resolver-timeout', `no answer in ${patience} ms${asked()}`, { subject: host, remedy: ASK_RESOLVER });
      const stale = usable(host);
      if (stale === null) throw fault;
      if (now() >= stale.holdUntil) hold(host, stale, fault);
      return stale.addresses;
    },
  };
}

const ASK_RESOLVER = 'Check that the DNS server answers from here, by UDP and by TCP, or name another in dns.servers.';

function noSuchName(host: string, cause?: unknown): Fault {
  const facts = rcodeOf(cause);
  return new Fault('name-not-found', `DNS has no address for this name${facts.rcode === undefined ? '' : ` (${facts.rcode})`}`, {
    subject: host,
    remedy: 'Check the spelling of the host, and that the DNS server asked from here knows the name.',
    cause,
    facts,
  });
}

function lookupFault(host: string, error: unknown): Fault {
  return new Fault(
    errorCode(error) === 'ETIMEOUT' ? 'resolver-timeout' : 'resolver-failed',
    `the look-up failed (${error instanceof Error ? error.message : String(error)})`,
    {
      subject: host,
      remedy: ASK_RESOLVER,
      cause: error,
      facts: rcodeOf(error),
    },
  );
}

function rcodeOf(error: unknown): Pick<FaultFacts, 'rcode'> {
  const rcode = RCODES[errorCode(error)];
  return rcode === undefined ? {} : { rcode };
}

// Lets a guard check every address of a name, before any of them is dialled.

/** @throws Fault of the first refused address, naming all, when none may be dialled. */
export function checkAddresses(addresses: readonly string[], port: number, guard: AddressGuard): readonly string[] {
  const [only] = addresses;
  if (only !== undefined && addresses.length === 1) {
    const refusal = guard(only, port);
    if (refusal !== null) throw refusal;
    return addresses;
  }
  const refusals: Fault[] = [];
  const permitted = addresses.filter((address) => {
    const refusal = guard(address, port);
    if (refusal !== null) refusals.push(refusal);
    return refusal === null;
  });
  const [first] = refusals;
  if (permitted.length > 0 || first === undefined) return permitted;
  if (refusals.length === 1) throw first;
  const { subject, remedy } = first;
  throw new Fault(first.code, refusals.map((refusal) => (refusal.subject === subject ? refusal.detail : refusal.message)).join('; '), {
    subject,
    cause: first,
    remedy,
  });
}
