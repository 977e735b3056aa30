/**
 * The contract of the port budget, for callers that open TCP connections and
 * for its reports; and the ports of one destination that the NAT remembers.
 */
import type { CancelSignal } from '../cancel.ts';
import type { NatConfig } from '../config/config.ts';

/** A port that is in use until `end` reports how that ended; further calls do nothing. */
export interface PortLease {
  end(ending: Ending): void;
}

/** A port from `PortBudget.wait`; the receiver ends the lease. */
export interface GrantedPort {
  /** The address that it is for. */
  readonly address: string;
  readonly lease: PortLease;
}

/** For one destination: the count of its address with the most ports in use. */
export interface PortUsage {
  readonly used: number;
  /** The highest count so far. */
  readonly highWater: number;
  /** Dials that got no port. */
  readonly refused: number;
}

/** NAT ports in use now, by destination. */
export interface PortsInUse {
  /** Towards each address and port; null: not limited. */
  readonly limit: number | null;
  readonly destinations: ReadonlyMap<string, PortUsage>;
}

/** Counts NAT ports, and queues dials that wait for one. One for the whole process; it survives reloads. */
export interface PortBudget {
  /**
   * A port for one TCP connection, attempt included.
   * @param address IP literal, in any spelling
   * @param destination name in the configuration, `-` for none: only for reports
   * @param client from whose share it comes; null: its connection serves all clients
   * @returns null when none is free for it, or others wait for one
   */
  take(address: string, port: number, destination: string, client?: string | null): PortLease | null;
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
    client?: string | null,
  ): Promise<GrantedPort | null>;
  /** Seconds until one of the addresses may have a port again, for `Retry-After`; at least 1. */
  retryAfter(addresses: readonly string[], port: number): number;
  /** Changes the configuration. Ports in use stay counted; a lower limit only refuses new connections. */
  adopt(nat: NatConfig): void;
  /** A snapshot, for metrics and the status page. */
  inUse(): PortsInUse;
  /** One sentence for each address and port that is short of ports. */
  warnings(): string[];
}

/**
 * How the use of a port ended, which determines how long the NAT keeps it:
 * `unsent`: no packet was sent, so the NAT has no entry; `unanswered`: a SYN
 * was sent and no connection was established; `closed`: there was a connection,
 * however it ended.
 */
export type Ending = 'unsent' | 'unanswered' | 'closed';

/** How long the NAT keeps a port after its use, ms. */
export interface Keeping {
  readonly closed: number;
  readonly unanswered: number;
}

/** With fewer entries than this, looking for empty ones is not worth it; above it, they are searched each time their number has doubled. */
export const SWEEP_AT = 64;

type PortLevel = 'ample' | 'scarce' | 'exhausted';

/** Ports of one holder, or of all. */
class PortUse {
  #open = 0;
  readonly #closed = new EndTimes();
  readonly #unanswered = new EndTimes();

  at(now: number, keeping: Keeping): number {
    return this.#open + this.#closed.since(now - keeping.closed) + this.#unanswered.since(now - keeping.unanswered);
  }

  take(): void {
    this.#open += 1;
  }

  end(ending: Ending, now: number): void {
    this.#open -= 1;
    if (ending === 'closed') this.#closed.push(now);
    else if (ending === 'unanswered') this.#unanswered.push(now);
  }

  /** When `excess` ports more than the next one have become free by time alone; Infinity: too many are open. An upper estimate if a few were never answered. Call `at` first. */
  expiryAfter(excess: number, keeping: Keeping): number {
    const closed = (this.#closed.at(excess) ?? Infinity) + keeping.closed;
    return excess === 0 ? Math.min(closed, (this.#unanswered.at(0) ?? Infinity) + keeping.unanswered) : closed;
  }
}

/** The ports in use towards one address and port: open connections, and those that the NAT still remembers. */
export class PortTuple<Waiter> {
  /** Its name in messages. */
  readonly place: string;
  /** Names of the destinations that use it. */
  readonly destinations = new Set<string>();
  /** The most ports in use since its latest destination was added. */
  highWater = 0;
  /** Waiting dials, longest first. */
  readonly waiters = new Set<Waiter>();
  /** What was last reported about it. */
  level: PortLevel = 'ample';
  /** Timer for the waiting dials; null: none waits. */
  stopAlarm: (() => void) | null = null;
  readonly #all = new PortUse();
  readonly #byClient = new Map<string, PortUse>();
  #sweepAt = SWEEP_AT;

  constructor(place: string) {
    this.place = place;
  }

  /** Ports in use at `now`. */
  used(now: number, keeping: Keeping): number {
    return this.#all.at(now, keeping);
  }

  /** How many of those this client holds. Drops clients that hold none, from time to time. */
  usedBy(client: string, now: number, keeping: Keeping): number {
    if (this.#byClient.size >= this.#sweepAt) {
      for (const [name, use] of this.#byClient) if (use.at(now, keeping) === 0) this.#byClient.delete(name);
      this.#sweepAt = Math.max(SWEEP_AT, this.#byClient.size * 2);
    }
    return this.#byClient.get(client)?.at(now, keeping) ?? 0;
  }

  /** @param client null: it is shared by all */
  take(client: string | null): void {
    this.#all.take();
    if (client === null) return;
    let use = this.#byClient.get(client);
    if (use === undefined) {
      use = new PortUse();
      this.#byClient.set(client, use);
    }
    use.take();
  }

  /** @param client as passed when it was taken */
  end(client: string | null, ending: Ending, now: number): void {
    this.#all.end(ending, now);
    if (client !== null) this.#byClient.get(client)?.end(ending, now);
  }

  /** When `excess` ports more than the next one have become free by time alone; Infinity: too many are open. Call `used` first. */
  expiryAfter(excess: number, keeping: Keeping): number {
    return this.#all.expiryAfter(excess, keeping);
  }
}

/** One port of a tuple that was given out. */
export class TupleLease<Waiter> implements PortLease {
  /** Null: it has ended. */
  #tuple: PortTuple<Waiter> | null;
  readonly #client: string | null;
  readonly #onEnd: (tuple: PortTuple<Waiter>, client: string | null, ending: Ending) => void;

  /** @param onEnd called once */
  constructor(
    tuple: PortTuple<Waiter>,
    client: string | null,
    onEnd: (tuple: PortTuple<Waiter>, client: string | null, ending: Ending) => void,
  ) {
    this.#tuple = tuple;
    this.#client = client;
    this.#onEnd = onEnd;
  }

  end(ending: Ending): void {
    const tuple = this.#tuple;
    this.#tuple = null;
    if (tuple !== null) this.#onEnd(tuple, this.#client, ending);
  }
}

/** Below this many forgotten entries the array is left as it is. */
const COMPACT_AT = 1024;

/** When connections ended, oldest first: a queue that costs one number each and drops entries from its front. */
class EndTimes {
  #times: number[] = [];
  #head = 0;

  /** The entry after `index` others; undefined past the end. */
  at(index: number): number | undefined {
    return this.#times[this.#head + index];
  }

  /** @param time no earlier than the last */
  push(time: number): void {
    this.#times.push(time);
  }

  /** How many ended after `time`; drops the others. */
  since(time: number): number {
    const { length } = this.#times;
    while (this.#head < length && (this.#times[this.#head] ?? 0) <= time) this.#head += 1;
    if (this.#head === length) {
      if (length > 0) this.#times = [];
      this.#head = 0;
    } else if (this.#head > COMPACT_AT && this.#head * 2 > length) {
      this.#times = this.#times.slice(this.#head);
      this.#head = 0;
    }
    return this.#times.length - this.#head;
  }
}
