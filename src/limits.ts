/** Limits what is open at once, in total and per client address: tunnels and exchanges in progress, and the connections of clients. */
import type { LimitsConfig } from './config/config.ts';
import { Tally } from './crowd.ts';
import type { Descriptors } from './descriptors.ts';
import { Fault } from './errors.ts';
import type { Telemetry } from './telemetry/telemetry.ts';

/** What is counted; each has a total limit and one per client address. */
export type Kind = 'tunnels' | 'exchanges';

const PER_CLIENT = { tunnels: 'tunnelsPerClient', exchanges: 'exchangesPerClient' } as const;

/** Decides whether a request may be served that may open another descriptor. */
export type RequestDescriptors = Pick<Descriptors, 'allows'>;

/** Counts tunnels and exchanges in progress, and refuses those above `limits` with `limit-reached`. */
export class Limits {
  #config: LimitsConfig;
  readonly #descriptors: RequestDescriptors | null;
  readonly #total = { tunnels: 0, exchanges: 0 };
  /** Bounded: hardly larger than the total limit. */
  readonly #byAddress = { tunnels: new Tally(), exchanges: new Tally() };

  /** @param descriptors null: not counted */
  constructor(config: LimitsConfig, descriptors: RequestDescriptors | null = null) {
    this.#config = config;
    this.#descriptors = descriptors;
  }

  /** The counts are kept; only the limits change. */
  adopt(config: LimitsConfig): void {
    this.#config = config;
  }

  /** How many are in progress now. */
  count(kind: Kind): number {
    return this.#total[kind];
  }

  /** Takes a place. Each success must be followed by one `leave`. @throws {Fault} limit-reached */
  enter(kind: Kind, address: string): void {
    if (this.#total[kind] >= this.#config[kind]) throw this.#reached(kind, this.#config[kind], 'in all');
    const perClient = PER_CLIENT[kind];
    if (this.#byAddress[kind].of(address) >= this.#config[perClient])
      throw this.#reached(perClient, this.#config[perClient], `from ${address}`);
    if (this.#descriptors?.allows('request') === false) throw outOfDescriptors();
    this.#total[kind] += 1;
    this.#byAddress[kind].add(address);
  }

  /** Returns the place that `enter` took for this address. */
  leave(kind: Kind, address: string): void {
    this.#total[kind] -= 1;
    this.#byAddress[kind].remove(address);
  }

  #reached(key: keyof LimitsConfig, limit: number, whose: string): Fault {
    const [noun, are] = nounOf(key.replace('PerClient', ''), limit);
    return new Fault('limit-reached', `${limit} ${noun} ${whose} ${are} already under way`, {
      retryAfter: 1,
      remedy: `close some, or raise limits.${key}`,
    });
  }
}

// Connections of clients.

type ConnectionLimits = Pick<LimitsConfig, 'connections' | 'connectionsPerClient'>;

/** Each holds a descriptor for some seconds, in addition to those counted by limits.connections. */
const MOST_REFUSED = 64;

/** Client connections of all listeners together: the total limit, and the limit for one address. */
export class ConnectionCount {
  readonly descriptors: Pick<Descriptors, 'take' | 'exhausted'>;
  readonly #telemetry: Telemetry;
  #limits: ConnectionLimits;
  #open = 0;
  /** Refused, and not closed yet. */
  #refused = 0;
  /** Bounded: hardly larger than the total limit. */
  readonly #byAddress = new Tally();

  constructor(limits: ConnectionLimits, telemetry: Telemetry, descriptors: Pick<Descriptors, 'take' | 'exhausted'>) {
    this.#limits = limits;
    this.descriptors = descriptors;
    this.#telemetry = telemetry;
  }

  /** The counts are kept; only the limits change. */
  adopt(limits: ConnectionLimits): void {
    this.#limits = limits;
  }

  /**
   * Takes a place; each null must be followed by one `leave`.
   * @param address of the peer; null where many clients share it, so it may take all places
   * @returns why there is no place
   */
  enter(address: string | null): Fault | null {
    const { connections } = this.#limits;
    if (this.#open >= connections)
      return tooManyConnections(`${connections} client ${nounOf('connections', connections).join(' ')} open`, 'raise limits.connections');
    if (!this.descriptors.take('connection')) return outOfDescriptors();
    const full = address === null ? null : this.identify(address);
    if (full !== null) return full;
    this.#open += 1;
    this.#telemetry.clientConnections(1);
    return null;
  }

  /**
   * Counts a place for its client, which may become known only after it was taken.
   * @returns why the client may have no other: the place stays that of the peer
   */
  identify(address: string): Fault | null {
    const { connectionsPerClient } = this.#limits;
    if (this.#byAddress.of(address) >= connectionsPerClient) {
      const [noun, are] = nounOf('connections', connectionsPerClient);
      return tooManyConnections(
        `${connectionsPerClient} ${noun} from ${address} ${are} open`,
        "raise limits.connectionsPerClient, or list the address in the listener's trustedPeers if it is a load balancer's",
      );
    }
    this.#byAddress.add(address);
    return null;
  }

  /** A refused connection may stay until its client has read the reason. @returns false: there are too many of those already */
  enterRefused(): boolean {
    if (this.#refused >= MOST_REFUSED) return false;
    this.#refused += 1;
    return true;
  }

  /** A refused connection has closed. */
  leaveRefused(): void {
    this.#refused -= 1;
  }

  /** @param address as passed to `enter`, or later to `identify` */
  leave(address: string | null): void {
    this.#open -= 1;
    this.#telemetry.clientConnections(-1);
    if (address !== null) this.#byAddress.remove(address);
  }
}

/** The noun and the verb for so many of them. */
function nounOf(many: string, count: number): [noun: string, are: string] {
  return count === 1 ? [many.slice(0, -1), 'is'] : [many, 'are'];
}

function tooManyConnections(detail: string, remedy: string): Fault {
  return new Fault('limit-reached', detail, { retryAfter: 1, remedy });
}

/** Before anything is opened that could fail halfway. */
function outOfDescriptors(): Fault {
  return new Fault('limit-reached', 'this proxy is almost out of file descriptors', {
    retryAfter: 1,
    remedy: 'raise its limit of open files (ulimit -n), lower limits.connections, or add a replica',
  });
}
