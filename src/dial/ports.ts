/** The ports towards one address and port that the NAT remembers, and those given out; and what the port budget reports of them. */

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

/** A dial that waits for a port. */
export interface PortWaiter {
  readonly since: number;
  /** Whose share has to suffice; null: no client's. */
  readonly client: string | null;
  /** Its connection serves all clients. */
  readonly pooled: boolean;
  readonly addresses: ReadonlyMap<PortTuple, string>;
  /** @param granted null: none came in time */
  settle(granted: GrantedPort | null): void;
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
  open = 0;
  /** Some of them were those of pooled connections. */
  wasPooled = false;
  readonly #closed = new EndTimes();
  readonly #unanswered = new EndTimes();

  /** Ports in use at `now`. */
  at(now: number, keeping: Keeping): number {
    return this.open + this.#closed.since(now - keeping.closed) + this.#unanswered.since(now - keeping.unanswered);
  }

  end(ending: Ending, now: number): void {
    this.open -= 1;
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
export class PortTuple {
  /** Its name in messages. */
  readonly place: string;
  /** Names of the destinations that use it. */
  readonly destinations = new Set<string>();
  /** The most ports in use since its latest destination was added. */
  highWater = 0;
  /** Waiting dials, longest first. */
  readonly waiters = new Set<PortWaiter>();
  /** Those of all clients. */
  readonly all = new PortUse();
  /** What was last reported about it. */
  level: PortLevel = 'ample';
  /** Timer for the waiting dials; null: none waits. */
  stopAlarm: (() => void) | null = null;
  readonly #byClient = new Map<string, PortUse>();
  #sweepAt = SWEEP_AT;

  constructor(place: string) {
    this.place = place;
  }

  /** How many of its ports this client holds. Drops clients that hold none, from time to time. */
  usedBy(client: string, now: number, keeping: Keeping): number {
    if (this.#byClient.size >= this.#sweepAt) {
      for (const [name, use] of this.#byClient) if (use.at(now, keeping) === 0) this.#byClient.delete(name);
      this.#sweepAt = Math.max(SWEEP_AT, this.#byClient.size * 2);
    }
    return this.#byClient.get(client)?.at(now, keeping) ?? 0;
  }

  /** @param client null: it is shared by all */
  take(client: string | null): void {
    this.all.open += 1;
    if (client !== null) this.#useOf(client).open += 1;
  }

  /** One that was shared by all counts for this client from now on. @param over how it ended; null: it is still open */
  hold(client: string, over: Ending | null, now: number): void {
    const use = this.#useOf(client);
    use.open += 1;
    if (over !== null) use.end(over, now);
    use.wasPooled = true;
  }

  /** Whether this client has ended pooled connections. Some time after the NAT has forgotten them it has not. */
  hasHeld(client: string): boolean {
    return this.#byClient.get(client)?.wasPooled === true;
  }

  /** @param client as passed when it was taken */
  end(client: string | null, ending: Ending, now: number): void {
    this.all.end(ending, now);
    if (client !== null) this.#byClient.get(client)?.end(ending, now);
  }

  #useOf(client: string): PortUse {
    let use = this.#byClient.get(client);
    if (use === undefined) {
      use = new PortUse();
      this.#byClient.set(client, use);
    }
    return use;
  }
}

/** What a lease reports to its budget. */
export interface PortLedger {
  /** Called once. */
  ended(tuple: PortTuple, client: string | null, ending: Ending): void;
  /** Called once at most. */
  held(tuple: PortTuple, client: string, over: Ending | null): void;
  /** Whether the client has a share left. */
  admits(tuple: PortTuple, client: string): boolean;
}

/** A port that is in use until `end` reports how that ended; further calls do nothing. */
export class PortLease {
  readonly #tuple: PortTuple;
  readonly #ledger: PortLedger;
  /** Null: it counts for no client's share. */
  #client: string | null;
  /** Null: it is in use. */
  #over: Ending | null = null;

  constructor(tuple: PortTuple, client: string | null, ledger: PortLedger) {
    this.#tuple = tuple;
    this.#client = client;
    this.#ledger = ledger;
  }

  /** The connection is over, or was never begun. */
  end(ending: Ending): void {
    if (this.#over !== null) return;
    this.#over = ending;
    this.#ledger.ended(this.#tuple, this.#client, ending);
  }

  /** Whether this client may use its pooled connection: not one beyond its share that has ended others, because it could end them all. */
  admits(client: string): boolean {
    return !this.#tuple.hasHeld(client) || this.#ledger.admits(this.#tuple, client);
  }

  /** No other client can use its connection any more: it counts for this one's share, also if it is over, for as long as the NAT keeps it. */
  hold(client: string): void {
    if (this.#client !== null) return;
    this.#client = client;
    this.#ledger.held(this.#tuple, client, this.#over);
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
