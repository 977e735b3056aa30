/**
 * The port budget: how many ports of the one source address are in use towards
 * each address and port, and no more than the NAT has. A NAT that runs out
 * drops packets without notice; the budget reports it instead.
 * docs/port-economy.md explains what is counted and why.
 */
import { isIPv4 } from 'node:net';
import type { CancelSignal } from '../cancel.ts';
import type { NatConfig } from '../config/config.ts';
import { formatAuthority } from '../targets/host.ts';
import { canonicalIp } from '../targets/ip-address.ts';
import {
  type GrantedPort,
  type Keeping,
  PortLease,
  type PortLedger,
  type PortsInUse,
  PortTuple,
  type PortUsage,
  type PortWaiter,
  SWEEP_AT,
} from './ports.ts';

/** For `PortBudget`; the clock is for tests. */
export interface PortBudgetOptions {
  readonly nat: NatConfig;
  /** Called once when ports become scarce or run out, and when that is over. */
  readonly notice: (level: 'info' | 'warn' | 'error', message: string, fields: Record<string, unknown>) => void;
  readonly clock?: BudgetClock;
}

/** Monotonic, ms. */
export interface BudgetClock {
  now(): number;
  /** Calls once, later; keeps no process alive. Returns a function that cancels the call. */
  after(ms: number, call: () => void): () => void;
}

/**
 * How long a NAT keeps a connection that was never established: 30 s in Cloud
 * NAT. https://cloud.google.com/nat/docs/tune-nat-configuration#nat-timeouts
 */
const TRANSITORY_MS = 30_000;
/** Scarce from this share of the limit on, and ample again only below the other. */
const SCARCE = 0.7;
const AMPLE = 0.6;
/** How many times the free ports a client may hold: one alone gets four fifths, and some are always left for the next one. */
const CLIENT_SHARE = 4;
/** Dials that may wait for a port towards one address and port. */
const MAX_WAITING = 1000;

const SYSTEM_CLOCK: BudgetClock = {
  now: performance.now.bind(performance),
  after: (ms, call) => {
    const timer = setTimeout(call, ms).unref();
    return () => {
      clearTimeout(timer);
    };
  },
};

/**
 * Counts NAT ports, and queues dials that wait for one. One for the whole
 * process; it survives reloads. Has no timer while no dial waits, so there is
 * nothing to close.
 */
export class PortBudget {
  #nat: NatConfig;
  #limit: number | null;
  #keeping: Keeping;
  readonly #notice: PortBudgetOptions['notice'];
  readonly #clock: BudgetClock;
  readonly #tuples = new Map<string, PortTuple>();
  readonly #highWater = new Map<string, number>();
  readonly #refused = new Map<string, number>();
  #sweepAt = SWEEP_AT;

  constructor({ nat, notice, clock = SYSTEM_CLOCK }: PortBudgetOptions) {
    this.#nat = nat;
    this.#limit = limitOf(nat);
    this.#keeping = keepingOf(nat);
    this.#notice = notice;
    this.#clock = clock;
  }

  /**
   * A port for one TCP connection, attempt included.
   * @param address IP literal, in any spelling
   * @param destination name in the configuration, `-` for none: only for reports
   * @param client whose share has to suffice; null: no client's
   * @param pooled its connection serves all clients, and counts for no client's share until one holds it
   * @returns null when none is free for it, or others wait for one
   */
  take(address: string, port: number, destination: string, client: string | null = null, pooled = false): PortLease | null {
    if (this.#tuples.size >= this.#sweepAt) {
      this.#sweep();
      this.#sweepAt = Math.max(SWEEP_AT, this.#tuples.size * 2);
    }
    const tuple = this.#tuple(address, port);
    this.#noteDestination(tuple, destination);
    // Waiting dials come first; a client that still waits then has used its share.
    if (tuple.waiters.size > 0) this.#serve(tuple);
    const now = this.#clock.now();
    const used = this.#used(tuple, now);
    if (this.#hasShare(tuple, client, used, now)) return this.#lease(tuple, pooled ? null : client, used + 1);
    if (this.#free(used) === 0) this.#tellExhausted(tuple, now);
    return null;
  }

  /**
   * Waits for a port towards any of the addresses, if the configuration allows
   * it; first come, first served.
   * @returns null when none came in time, too many wait, or `signal` aborts
   */
  wait(
    addresses: readonly string[],
    port: number,
    destination: string,
    signal: CancelSignal,
    client: string | null = null,
    pooled = false,
  ): Promise<GrantedPort | null> {
    const tuples = new Map(
      addresses.map((address) => [this.#tuple(address, port), address] as const).filter(([{ waiters }]) => waiters.size < MAX_WAITING),
    );
    if (this.#nat.whenExhausted === 'refuse' || tuples.size === 0 || signal.aborted) {
      this.#countRefused(destination);
      return Promise.resolve(null);
    }
    return new Promise((resolve) => {
      const leave = (): void => {
        waiter.settle(null);
      };
      const waiter: PortWaiter = {
        since: this.#clock.now(),
        client,
        pooled,
        addresses: tuples,
        settle: (granted) => {
          signal.removeEventListener('abort', leave);
          for (const tuple of tuples.keys()) if (tuple.waiters.delete(waiter)) this.#setAlarm(tuple);
          if (granted === null && !signal.aborted) this.#countRefused(destination);
          resolve(granted);
        },
      };
      signal.addEventListener('abort', leave);
      for (const tuple of tuples.keys()) {
        this.#noteDestination(tuple, destination);
        tuple.waiters.add(waiter);
      }
      for (const tuple of tuples.keys()) this.#serve(tuple);
    });
  }

  /** Seconds until one of the addresses may have a port again, for `Retry-After`; at least 1. */
  retryAfter(addresses: readonly string[], port: number): number {
    const now = this.#clock.now();
    const keeping = this.#keeping;
    const limit = this.#limit ?? Infinity;
    const free = addresses.map((address) => {
      const tuple = this.#tuple(address, port);
      return tuple.all.expiryAfter(Math.max(0, tuple.all.at(now, keeping) - limit), keeping);
    });
    // While all are open, the next to end is kept for that long by the NAT.
    const soonest = Math.min(now + keeping.closed, ...free);
    return Math.max(1, Math.ceil((soonest - now) / 1000));
  }

  /** Changes the configuration. Ports in use stay counted; a lower limit only refuses new connections. */
  adopt(nat: NatConfig): void {
    // Ports that were kept long enough until now are free, under any new configuration.
    this.#sweep();
    this.#nat = nat;
    this.#limit = limitOf(nat);
    this.#keeping = keepingOf(nat);
    for (const tuple of this.#tuples.values()) {
      this.#used(tuple, this.#clock.now());
      this.#serve(tuple);
    }
  }

  /** A snapshot, for metrics and the status page. */
  inUse(): PortsInUse {
    const destinations = new Map<string, PortUsage>();
    for (const name of [...this.#highWater.keys(), ...this.#refused.keys()]) {
      destinations.set(name, { used: 0, highWater: this.#highWater.get(name) ?? 0, refused: this.#refused.get(name) ?? 0 });
    }
    this.#sweep();
    const now = this.#clock.now();
    for (const tuple of this.#tuples.values()) {
      const used = this.#used(tuple, now);
      for (const name of tuple.destinations) {
        const usage = destinations.get(name);
        if (usage !== undefined && used > usage.used) destinations.set(name, { ...usage, used });
      }
    }
    return { limit: this.#limit, destinations };
  }

  /** One sentence for each address and port that is short of ports. */
  warnings(): string[] {
    const warnings: string[] = [];
    const now = this.#clock.now();
    for (const tuple of this.#tuples.values()) {
      const used = this.#used(tuple, now);
      if (tuple.level === 'ample') continue;
      const names = [...tuple.destinations].join(', ');
      warnings.push(
        `NAT ports towards ${tuple.place} (${names}): ${used} of ${String(this.#limit)} in use${tuple.level === 'exhausted' ? ', and new connections were refused or had to wait' : ''}.`,
      );
    }
    return warnings;
  }

  /** A tuple is an address and port, in any spelling: `::ffff:192.0.2.1` is 192.0.2.1 on the wire. */
  #tuple(address: string, port: number): PortTuple {
    const canonical = isIPv4(address) ? address : (canonicalIp(address) ?? address);
    const key = formatAuthority(canonical, port);
    let tuple = this.#tuples.get(key);
    if (tuple === undefined) {
      tuple = new PortTuple(key);
      this.#tuples.set(key, tuple);
    }
    return tuple;
  }

  #noteDestination(tuple: PortTuple, name: string): void {
    if (tuple.destinations.has(name)) return;
    tuple.destinations.add(name);
    tuple.highWater = 0;
  }

  #sweep(): void {
    const now = this.#clock.now();
    for (const [key, tuple] of this.#tuples) if (this.#used(tuple, now) === 0 && tuple.waiters.size === 0) this.#tuples.delete(key);
  }

  /** @param used including this one */
  #lease(tuple: PortTuple, client: string | null, used: number): PortLease {
    tuple.take(client);
    if (used > tuple.highWater) {
      tuple.highWater = used;
      for (const name of tuple.destinations) this.#highWater.set(name, Math.max(used, this.#highWater.get(name) ?? 0));
    }
    const limit = this.#limit;
    if (limit !== null && tuple.level === 'ample' && used >= limit * SCARCE) {
      tuple.level = 'scarce';
      this.#notice('warn', 'NAT ports are running out', this.#describe(tuple, used));
    }
    return new PortLease(tuple, client, this.#ledger);
  }

  readonly #ledger: PortLedger = {
    ended: (tuple, client, ending) => {
      tuple.end(client, ending, this.#clock.now());
      if (tuple.waiters.size > 0) this.#serve(tuple);
    },
    held: (tuple, client, over) => {
      tuple.hold(client, over, this.#clock.now());
    },
    admits: (tuple, client) => {
      const now = this.#clock.now();
      return tuple.usedBy(client, now, this.#keeping) < CLIENT_SHARE * this.#free(this.#used(tuple, now));
    },
  };

  #used(tuple: PortTuple, now: number): number {
    const used = tuple.all.at(now, this.#keeping);
    if (tuple.level !== 'ample' && (this.#limit === null || used < this.#limit * AMPLE)) {
      tuple.level = 'ample';
      this.#notice('info', 'enough NAT ports are free again', this.#describe(tuple, used));
    }
    return used;
  }

  /** Free ports when `used` are in use; Infinity without a limit. */
  #free(used: number): number {
    return this.#limit === null ? Infinity : Math.max(0, this.#limit - used);
  }

  /** Whether one of the free ports is for this client. */
  #hasShare(tuple: PortTuple, client: string | null, used: number, now: number): boolean {
    const free = this.#free(used);
    return free > 0 && (client === null || tuple.usedBy(client, now, this.#keeping) < CLIENT_SHARE * free);
  }

  /** Assigns ports to the longest waiters that may have one, refuses those that have waited too long, and sets the timer for the rest. */
  #serve(tuple: PortTuple): void {
    const now = this.#clock.now();
    for (const waiter of tuple.waiters) {
      const used = this.#used(tuple, now);
      if (this.#hasShare(tuple, waiter.client, used, now))
        waiter.settle({
          address: waiter.addresses.get(tuple) ?? '',
          lease: this.#lease(tuple, waiter.pooled ? null : waiter.client, used + 1),
        });
      else if (now >= waiter.since + this.#nat.queueFor) waiter.settle(null);
      else if (this.#free(used) === 0) break;
    }
    this.#setAlarm(tuple);
  }

  #setAlarm(tuple: PortTuple): void {
    tuple.stopAlarm?.();
    tuple.stopAlarm = null;
    const [first] = tuple.waiters;
    if (first === undefined) return;
    const at = Math.min(first.since + this.#nat.queueFor, tuple.all.expiryAfter(0, this.#keeping));
    tuple.stopAlarm = this.#clock.after(Math.max(1, Math.ceil(at - this.#clock.now())), () => {
      this.#serve(tuple);
    });
  }

  #countRefused(destination: string): void {
    this.#refused.set(destination, (this.#refused.get(destination) ?? 0) + 1);
  }

  #tellExhausted(tuple: PortTuple, now: number): void {
    if (tuple.level === 'exhausted') return;
    tuple.level = 'exhausted';
    this.#notice(
      'error',
      'NAT ports are exhausted: new connections are refused or have to wait',
      this.#describe(tuple, this.#used(tuple, now)),
    );
  }

  #describe(tuple: PortTuple, used: number): Record<string, unknown> {
    return { upstream: tuple.place, destinations: [...tuple.destinations], used, limit: this.#limit };
  }
}

/** Ports towards each address and port for this replica; null: not limited. */
function limitOf({ ports, replicasPerNode }: NatConfig): number | null {
  return ports === null ? null : Math.floor(ports / replicasPerNode);
}

function keepingOf({ timeWait }: NatConfig): Keeping {
  return { closed: timeWait, unanswered: Math.min(timeWait, TRANSITORY_MS) };
}
