/**
 * Lets a bounded number of verifications run and a bounded number wait, few of
 * them for any one address: a flood of wrong passwords neither fills the
 * thread pool, nor grows memory, nor shuts everybody else out.
 */
import { Fault } from '../errors.ts';

export interface GateLimits {
  /** Verifications that run at once. */
  readonly running: number;
  readonly waiting: number;
  /** Running and waiting for one client address. */
  readonly perAddress: number;
}

export class Gate {
  readonly #limits: GateLimits;
  readonly #waiting: (() => void)[] = [];
  /** Only addresses with something under way are here. */
  readonly #perAddress = new Map<string, number>();
  #running = 0;

  constructor(limits: GateLimits) {
    this.#limits = limits;
  }

  /** Verifications running and waiting. */
  get size(): number {
    return this.#running + this.#waiting.length;
  }

  /**
   * Runs the task, now or when it is its turn.
   * @throws {Fault} `limit-reached`, at once and not as a promise, when there is no room
   */
  run<T>(address: string, task: () => Promise<T>): Promise<T> {
    const { running, waiting, perAddress } = this.#limits;
    const own = this.#perAddress.get(address) ?? 0;
    if (own >= perAddress) throw busy(`${own} credentials from ${address} are being verified`);
    if (this.#running >= running && this.#waiting.length >= waiting) throw busy(`${this.size} credentials are being verified`);
    this.#perAddress.set(address, own + 1);
    return this.#turn().then(task).finally(() => {
      this.#leave(address);
    });
  }

  #turn(): Promise<void> {
    if (this.#running < this.#limits.running) {
      this.#running += 1;
      return Promise.resolve();
    }
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
    });
  }

  #leave(address: string): void {
    const left = (this.#perAddress.get(address) ?? 1) - 1;
    if (left === 0) this.#perAddress.delete(address);
    else this.#perAddress.set(address, left);
    // The place is handed on, so nobody who comes just now can take it.
    const next = this.#waiting.shift();
    if (next === undefined) this.#running -= 1;
    else next();
  }
}

/** Not 407: a client told so would take its password for wrong. */
function busy(detail: string): Fault {
  return new Fault('limit-reached', detail, { remedy: 'try again in a second; credentials once accepted are remembered', retryAfter: 1 });
}
