/**
 * Lets a bounded number of verifications run and a bounded number wait, fairly
 * between client addresses: the address with the fewest recent failures comes
 * first, and among equals the one that was served longest ago. A client that
 * guesses passwords waits behind all others, and is refused in the end; the
 * others are hardly affected.
 */
import { LRUCache } from 'lru-cache';
import { Fault } from '../errors.ts';

/** Limits of a Gate. */
export interface GateLimits {
  /** Verifications that run at once. */
  readonly running: number;
  /** How many of those may be for addresses with recent failures: at least one place is left for the others. */
  readonly suspects: number;
  readonly waiting: number;
  /** Most verifications running and waiting for one client address. */
  readonly perAddress: number;
  /** Failures after which an address is refused; each is forgiven after `forgiveAfter` ms. */
  readonly failures: number;
  readonly forgiveAfter: number;
  /** Ms, on any monotonic clock. */
  readonly now: () => number;
}

/** A task that waits for its turn. */
interface QueuedTask {
  readonly begin: () => void;
  readonly giveUp: (fault: Fault) => void;
}

/** The tasks in progress for one address. */
interface Lane {
  running: number;
  /** When it was last served, as a growing number; 0: never. */
  served: number;
  readonly waiting: QueuedTask[];
}

/** Most addresses whose failures are remembered: an evicted one would have been forgiven by then. */
const MOST_REMEMBERED = 10_000;

/** Limits how much verification runs and waits at once, and refuses with `limit-reached` an address above its share or with too many failures. */
export class Gate {
  readonly #limits: GateLimits;
  /** Only addresses with tasks in progress, in the order of arrival. */
  readonly #lanes = new Map<string, Lane>();
  /** How many failures an address had at a given time; they decay from then on. */
  readonly #failures = new LRUCache<string, { readonly count: number; readonly at: number }>({ max: MOST_REMEMBERED });
  #running = 0;
  #suspects = 0;
  #waiting = 0;
  #turns = 0;

  constructor(limits: GateLimits) {
    this.#limits = limits;
  }

  /** Verifications running and waiting. */
  get size(): number {
    return this.#running + this.#waiting;
  }

  /** Failures of an address that are not forgiven yet, with the remainder of the last. */
  debt(address: string): number {
    const { now, forgiveAfter } = this.#limits;
    const failed = this.#failures.get(address);
    return failed === undefined ? 0 : Math.max(0, failed.count - (now() - failed.at) / forgiveAfter);
  }

  /**
   * Runs the task, now or at its turn.
   * @param isFailure whether its result counts against the address
   * @returns its result; rejects with a Fault, `limit-reached`, when its place went to an address with fewer failures
   * @throws {Fault} `limit-reached`, synchronously, when there is no room
   */
  run<T>(address: string, task: () => Promise<T>, isFailure: (result: T) => boolean): Promise<T> {
    const { perAddress, failures, forgiveAfter, now } = this.#limits;
    const debt = this.debt(address);
    if (debt >= failures)
      throw busy(
        `${Math.floor(debt)} credentials from ${address} were wrong recently`,
        Math.max(1, Math.ceil(((debt - failures) * forgiveAfter) / 1000)),
      );
    const lane = this.#lanes.get(address) ?? { running: 0, served: 0, waiting: [] };
    const own = lane.running + lane.waiting.length;
    if (own >= perAddress) throw busy(`${own} credentials from ${address} are being verified`);
    const begin = async (): Promise<T> => {
      const suspect = this.debt(address) > 0;
      this.#enter(address, lane, suspect);
      try {
        const result = await task();
        if (isFailure(result)) this.#failures.set(address, { count: this.debt(address) + 1, at: now() });
        return result;
      } finally {
        this.#leave(address, lane, suspect);
      }
    };
    if (this.#mayRun(debt > 0)) return begin();
    this.#makeRoom(debt, lane);
    return new Promise((resolve, reject) => {
      this.#waiting += 1;
      this.#lanes.set(address, lane);
      lane.waiting.push({
        begin: () => {
          resolve(begin());
        },
        giveUp: reject,
      });
    });
  }

  #mayRun(suspect: boolean): boolean {
    return this.#running < this.#limits.running && (!suspect || this.#suspects < this.#limits.suspects);
  }

  #enter(address: string, lane: Lane, suspect: boolean): void {
    lane.running += 1;
    this.#running += 1;
    if (suspect) this.#suspects += 1;
    this.#turns += 1;
    lane.served = this.#turns;
    this.#lanes.set(address, lane);
  }

  #leave(address: string, lane: Lane, suspect: boolean): void {
    lane.running -= 1;
    this.#running -= 1;
    if (suspect) this.#suspects -= 1;
    if (lane.running === 0 && lane.waiting.length === 0) this.#lanes.delete(address);
    for (let next = this.#next(); next !== undefined; next = this.#next()) {
      this.#waiting -= 1;
      next.begin();
    }
  }

  /** The next task, if any may run. There are at most as many lanes to check as may wait. */
  #next(): QueuedTask | undefined {
    let best: Lane | null = null;
    let leastDebt = Infinity;
    for (const [address, lane] of this.#lanes) {
      const debt = this.debt(address);
      if (lane.waiting.length === 0 || !this.#mayRun(debt > 0) || debt > leastDebt) continue;
      if (best !== null && debt === leastDebt && lane.served >= best.served) continue;
      [best, leastDebt] = [lane, debt];
    }
    return best?.waiting.shift();
  }

  /**
   * When no more may wait, the last task of the address with most failures, or else of the longest queue, loses its
   * place.
   * @throws {Fault} when that is the new task
   */
  #makeRoom(debt: number, own: Lane): void {
    if (this.#waiting < this.#limits.waiting) return;
    let worst = '';
    let [mostDebt, longest] = [debt, own.waiting.length + 1];
    for (const [address, { waiting }] of this.#lanes) {
      const theirs = this.debt(address);
      if (waiting.length === 0 || theirs < mostDebt || (theirs === mostDebt && waiting.length <= longest)) continue;
      [worst, mostDebt, longest] = [address, theirs, waiting.length];
    }
    const fault = busy(`${this.size} credentials are being verified`);
    const lane = this.#lanes.get(worst);
    const evicted = lane?.waiting.pop();
    if (lane === undefined || evicted === undefined) throw fault;
    if (lane.running === 0 && lane.waiting.length === 0) this.#lanes.delete(worst);
    this.#waiting -= 1;
    evicted.giveUp(fault);
  }
}

/** Not 407: the client would conclude that its password is wrong. */
function busy(detail: string, retryAfter = 1): Fault {
  return new Fault('limit-reached', detail, { remedy: 'try again later; credentials once accepted are remembered', retryAfter });
}
