/** Limits the tunnels and exchanges in progress, in total and per client address. */
import type { LimitsConfig } from './config/config.ts';
import type { Descriptors } from './descriptors.ts';
import { Tally } from './crowd.ts';
import { Fault } from './errors.ts';

/** What is counted; each has a total limit and one per client address. */
export type Kind = 'tunnels' | 'exchanges';

const PER_CLIENT = { tunnels: 'tunnelsPerClient', exchanges: 'exchangesPerClient' } as const;

/** Decides whether a request may open another descriptor. */
export type RequestDescriptors = Pick<Descriptors, 'take'>;

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
    if (this.#byAddress[kind].of(address) >= this.#config[perClient]) throw this.#reached(perClient, this.#config[perClient], `from ${address}`);
    if (this.#descriptors?.take('request') === false) throw outOfDescriptors();
    this.#total[kind] += 1;
    this.#byAddress[kind].add(address);
  }

  /** Returns the place that `enter` took for this address. */
  leave(kind: Kind, address: string): void {
    this.#total[kind] -= 1;
    this.#byAddress[kind].remove(address);
  }

  #reached(key: keyof LimitsConfig, limit: number, whose: string): Fault {
    return new Fault('limit-reached', `${limit} ${key.replace('PerClient', '')} ${whose} are already under way`, {
      retryAfter: 1,
      remedy: `close some, or raise limits.${key}`,
    });
  }
}

/** Before anything is opened that could fail halfway. */
export function outOfDescriptors(): Fault {
  return new Fault('limit-reached', 'this proxy is almost out of file descriptors', {
    retryAfter: 1,
    remedy: 'raise its limit of open files (ulimit -n), lower limits.connections, or add a replica',
  });
}
