/** Recent requests that a candidate policy would answer differently from the current one, and the record of recent requests. */
import type { DestinationConfig, GatewayConfig } from '../config/config.ts';
import type { Policy } from '../policy/compile.ts';
import { decide } from '../policy/decide.ts';
import { ownAsk } from '../policy/own-ask.ts';
import type { Ask, Verdict } from '../policy/verdict.ts';

/** Requests of one client to one host and port that would be answered differently. */
export interface DecisionChange {
  readonly client: string;
  readonly clientAddress: string;
  readonly form: string;
  readonly host: string;
  readonly port: number;
  /** Of the changed verdict: a fault code, or `ok`. */
  readonly code: string;
  readonly detail: string;
  count: number;
}

/** Requests that a candidate policy would answer differently, grouped by client, host and port. */
export interface Changes {
  readonly newlyDenied: readonly DecisionChange[];
  readonly newlyAllowed: readonly DecisionChange[];
  /** Decisions that were repeated. */
  readonly replayed: number;
}

/** Most changes reported of each kind: a scan must not flood the log at a reload. */
const MOST_CHANGES = 50;

/** Destinations by the prefix of their gateway: there may be thousands, and each remembered request looks one up. */
type Gateways = ReadonlyMap<string, DestinationConfig>;

function gatewaysOf({ destinations }: Policy): Gateways {
  return new Map(destinations.flatMap(({ config }) => (config.gateway === null ? [] : [[config.gateway.prefix, config] as const])));
}

/** The destination that has this prefix, or one above it. */
function servedBy(gateways: Gateways, prefix: string): DestinationConfig | undefined {
  let found: DestinationConfig | undefined;
  for (let end = prefix.length; end > 0 && found === undefined; end = prefix.lastIndexOf('/', end - 1))
    found = gateways.get(prefix.slice(0, end));
  return found;
}

/** Decides as if the client asked again: a policy gives raw TLS its port, and what is below a gateway's prefix its target. @param was the present gateway of its destination */
function decideAgain(policy: Policy, gateways: Gateways, ask: Ask, was: GatewayConfig | null): Verdict {
  if (ask.form === 'sni') return decide(policy, { ...ask, port: policy.tlsPort(ask.host) });
  // Of an earlier file, in which the gateway led elsewhere.
  if (was?.host !== ask.host || was.port !== ask.port || ask.path?.startsWith(was.basePath) !== true) return decide(policy, ask);
  const served = servedBy(gateways, was.prefix);
  const gateway = served?.gateway ?? null;
  const verdict = decide(policy, {
    ...ask,
    destination: served?.name ?? '',
    ...(gateway === null
      ? {}
      : {
          host: gateway.host,
          port: gateway.port,
          path: `${gateway.basePath}${was.prefix.slice(gateway.prefix.length)}${ask.path.slice(was.basePath.length)}`,
        }),
  });
  return gateway === null && verdict.verdict === 'deny' ? { ...verdict, detail: `No gateway has the prefix ${was.prefix}` } : verdict;
}

/**
 * Both policies decide as of `now`, ms since the epoch: a rule that has expired
 * is not a change by the candidate.
 */
export function compareDecisions(asks: readonly Ask[], present: Policy, candidate: Policy, now: number): Changes {
  const denied = new Map<string, DecisionChange>();
  const allowed = new Map<string, DecisionChange>();
  const [before, after] = [gatewaysOf(present), gatewaysOf(candidate)];
  const byName = new Map(present.destinations.map(({ config }) => [config.name, config.gateway]));
  for (const asked of asks) {
    const ask = { ...asked, now };
    const was = ask.form === 'gateway' ? (byName.get(ask.destination ?? '') ?? null) : null;
    const next = decideAgain(candidate, after, ask, was);
    if ((decideAgain(present, before, ask, was).verdict === 'deny') === (next.verdict === 'deny')) continue;
    const into = next.verdict === 'deny' ? denied : allowed;
    const client = next.client?.name ?? '-';
    const key = `${client} ${ask.peer.address} ${ask.form} ${ask.host} ${ask.port}`;
    const known = into.get(key);
    if (known !== undefined) known.count += 1;
    else if (into.size < MOST_CHANGES) {
      const [code, detail] = next.verdict === 'deny' ? [next.code, next.detail] : ['ok', 'permitted now'];
      into.set(key, { client, clientAddress: ask.peer.address, form: ask.form, host: ask.host, port: ask.port, code, detail, count: 1 });
    }
  }
  return { newlyDenied: [...denied.values()], newlyAllowed: [...allowed.values()], replayed: asks.length };
}

/** A path longer than this is not kept with its ask: a few clients with huge URLs must not cost megabytes. */
const LONGEST_KEPT_PATH = 2048;

/** How many permitted requests are kept per second once a whole ring has been filled. */
const PERMITTED_PER_SECOND = 10;

/** Recent requests, so that a new policy can be checked against real traffic before it is applied. */
export class DecisionRing {
  readonly #entries: Ask[] = [];
  #size: number;
  #next = 0;
  /** How many permitted requests may still be kept, and as of when, ms since the epoch. */
  #allowance: number;
  #allowedAt = 0;

  /** @param size how many are kept; 0 for none */
  constructor(size: number) {
    this.#size = size;
    this.#allowance = size;
  }

  /**
   * All denials, and permitted requests unless there are thousands per second:
   * then a sample of them, which also reaches further back. Each kept request
   * outlives the young generation, and costs the garbage collector more than
   * the rest of the request.
   */
  remember(ask: Ask, permitted: boolean): void {
    if (this.#size === 0 || (ask.path !== null && ask.path.length > LONGEST_KEPT_PATH)) return;
    if (permitted) {
      const gained = (Math.max(0, ask.now - this.#allowedAt) / 1_000) * PERMITTED_PER_SECOND;
      this.#allowance = Math.min(this.#size, this.#allowance + gained);
      this.#allowedAt = ask.now;
      if (this.#allowance < 1) return;
      this.#allowance -= 1;
    }
    const own = ownAsk(ask);
    if (own === null) return;
    this.#entries[this.#next] = own;
    this.#next = (this.#next + 1) % this.#size;
  }

  /** In no particular order. */
  entries(): readonly Ask[] {
    return this.#entries;
  }

  /** Changes the size; starts empty when it changes. */
  adopt(size: number): void {
    if (size === this.#size) return;
    this.#size = size;
    this.#allowance = size;
    this.#entries.length = 0;
    this.#next = 0;
  }
}
