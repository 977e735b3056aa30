/** All pools of the proxy: found by what their connections have in common, bounded in number, and retired without harm to exchanges in progress. */
import type { Config, DestinationConfig, HopConfig } from '../config/config.ts';
import type { UpstreamPool } from './pool.ts';
import type { UpstreamConnection } from './upstream-connection.ts';

/** What the connections of a pool have in common. */
export interface PoolKey {
  readonly destination: DestinationConfig;
  readonly scheme: 'http' | 'https';
  readonly host: string;
  readonly port: number;
  /** Where a PROXY header names the client, its address; otherwise empty. */
  readonly client: string;
}

interface Kept extends PoolKey {
  readonly pool: UpstreamPool;
  /** Grows with each use of any pool. */
  used: number;
}

/** A wildcard host could name any number of origins, and where a PROXY header names the client each client has its own pools. */
const POOLS_KEPT = 1024;

/** Finds pools by key, and creates missing ones. */
export class UpstreamPools {
  readonly #kept = new Map<string, Kept>();
  /** Retired, until their last exchange has ended. */
  readonly #retired = new Set<Kept>();
  readonly #create: (key: PoolKey) => UpstreamPool;
  readonly #most: number;
  /** Found last: nearly every request asks for the same pool, and comparing costs less than building a key. */
  #last: Kept | null = null;
  #uses = 0;

  /**
   * @param create makes a pool that cannot be found
   * @param most above this number, the pool unused for longest closes its idle connections and is forgotten; those in use stay
   */
  constructor(create: (key: PoolKey) => UpstreamPool, most = POOLS_KEPT) {
    this.#create = create;
    this.#most = most;
  }

  /** Pools that can be found; retired ones that are still in use are not counted. */
  get size(): number {
    return this.#kept.size;
  }

  /** The pool of this key, new if there is none. */
  get(wanted: PoolKey): UpstreamPool {
    this.#uses += 1;
    const last = this.#last;
    if (last !== null && isSame(last, wanted)) {
      last.used = this.#uses;
      return last.pool;
    }
    const { destination, scheme, host, port, client } = wanted;
    const key = `${destination.name} ${scheme} ${host} ${port} ${client}`;
    let kept = this.#kept.get(key);
    if (kept === undefined) {
      if (this.#kept.size >= this.#most) this.#makeRoom();
      kept = { pool: this.#create(wanted), destination, scheme, host, port, client, used: 0 };
      this.#kept.set(key, kept);
    }
    kept.used = this.#uses;
    this.#last = kept;
    return kept.pool;
  }

  /** Exchanges that wait for a connection, by destination; destinations without any are left out. */
  queued(): Map<string, number> {
    const queued = new Map<string, number>();
    for (const { pool, destination } of this.#all())
      if (pool.queued > 0) queued.set(destination.name, (queued.get(destination.name) ?? 0) + pool.queued);
    return queued;
  }

  /** Every open connection. */
  connections(): UpstreamConnection[] {
    return this.#all().flatMap(({ pool }) => pool.connections);
  }

  /** Pools whose destination `keeps` rejects keep no connection any more; exchanges in progress and waiting ones are still served. */
  sift(keeps: (destination: DestinationConfig) => boolean): void {
    for (const retired of this.#retired) if (retired.pool.empty) this.#retired.delete(retired);
    for (const [key, kept] of this.#kept) if (!keeps(kept.destination)) this.#forget(key, kept);
  }

  /** No connection is kept any more: idle ones close now, others with their exchange. Waiting exchanges are still served. */
  retire(): void {
    for (const { pool } of this.#all()) pool.retire();
  }

  /** Every connection closes now. */
  destroy(): void {
    for (const { pool } of this.#all()) pool.destroy();
  }

  #all(): Kept[] {
    return [...this.#kept.values(), ...this.#retired];
  }

  #makeRoom(): void {
    for (const retired of this.#retired) if (retired.pool.empty) this.#retired.delete(retired);
    let oldest: [key: string, kept: Kept] | null = null;
    for (const [key, kept] of this.#kept) {
      if (kept.pool.empty) this.#forget(key, kept);
      else if (kept.pool.quiet && (oldest === null || kept.used < oldest[1].used)) oldest = [key, kept];
    }
    if (this.#kept.size >= this.#most && oldest !== null) this.#forget(...oldest);
  }

  #forget(key: string, kept: Kept): void {
    kept.pool.retire();
    if (this.#last === kept) this.#last = null;
    this.#kept.delete(key);
    this.#retired.add(kept);
  }
}

function isSame(kept: PoolKey, { destination, scheme, host, port, client }: PoolKey): boolean {
  return (
    kept.port === port &&
    kept.scheme === scheme &&
    kept.host === host &&
    kept.client === client &&
    kept.destination.name === destination.name
  );
}

// The part of a pool that depends on the configuration: which connections it may share, and how long one
// may take to open.

type Terms = Pick<Config, 'limits' | 'timeouts'>;

/**
 * Equal for connections that would be opened in the same way. What is left out
 * is decided for each request, or counted elsewhere; a key that is not named
 * here counts.
 */
export function poolTerms(destination: DestinationConfig, { limits, timeouts }: Terms): unknown {
  return [{ ...destination, ...DECIDED_PER_REQUEST }, { ...limits, ...COUNTED_ELSEWHERE }, timeouts];
}

const DECIDED_PER_REQUEST = {
  name: null,
  forms: null,
  gateway: null,
  methods: null,
  paths: null,
  tunnelSni: null,
  gateReadiness: null,
} satisfies { [Key in keyof DestinationConfig]?: null };
const COUNTED_ELSEWHERE = {
  connections: null,
  connectionsPerClient: null,
  tunnels: null,
  tunnelsPerClient: null,
  exchanges: null,
  exchangesPerClient: null,
  loopDelay: null,
  memoryPercent: null,
} satisfies { [Key in keyof Terms['limits']]?: null };

/** How long a dial to one address may take at most, ms: a waiting exchange should get the reason why it failed. */
export function longestDial({ via }: Pick<DestinationConfig, 'via'>, { timeouts }: Pick<Terms, 'timeouts'>): number {
  const { resolve, connect, tls } = timeouts;
  return resolve + tls + (via.length === 0 ? connect : via.reduce((sum, hop) => sum + longestHop(hop), 0));
}

/** Each parent has its TCP, its TLS and its answer, each with the time limit of the hop. */
function longestHop({ parents, connect }: HopConfig): number {
  return parents.reduce((sum, { scheme }) => sum + connect * (scheme === 'https' ? 3 : 2), 0);
}
