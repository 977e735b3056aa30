/** Client connections of all listeners together: how many may be open in all, and from one address. */
import type { LimitsConfig } from '../config/config.ts';
import type { Descriptors } from '../descriptors.ts';
import { Fault } from '../errors.ts';
import { outOfDescriptors } from '../limits.ts';
import type { Telemetry } from '../telemetry/telemetry.ts';

type ConnectionLimits = Pick<LimitsConfig, 'connections' | 'connectionsPerClient'>;

/** Each holds a descriptor for some seconds, beside those that limits.connections counts. */
const MOST_REFUSED = 64;

export class ConnectionCount {
  readonly #telemetry: Telemetry;
  readonly #descriptors: Pick<Descriptors, 'take' | 'exhausted'>;
  #limits: ConnectionLimits;
  #open = 0;
  /** Turned away, and not closed yet. */
  #refused = 0;
  /** Only addresses with something open: cannot grow past the limit in all. */
  readonly #byAddress = new Map<string, number>();

  constructor(limits: ConnectionLimits, telemetry: Telemetry, descriptors: Pick<Descriptors, 'take' | 'exhausted'>) {
    this.#limits = limits;
    this.#descriptors = descriptors;
    this.#telemetry = telemetry;
  }

  /** Counts go on; only what is allowed changes. */
  adopt(limits: ConnectionLimits): void {
    this.#limits = limits;
  }

  /** Not even an answer can be afforded: a new connection is to be cut. */
  exhausted(): boolean {
    return this.#descriptors.exhausted();
  }

  /**
   * Takes a place; each null is answered by one `leave`.
   * @param address of the other end; null where many clients stand behind it, so that it may have all the places
   * @returns why there is none
   */
  enter(address: string | null): Fault | null {
    const { connections, connectionsPerClient } = this.#limits;
    if (this.#open >= connections) return reached(`${connections} client connections are open`, 'raise limits.connections');
    if (!this.#descriptors.take('connection')) return outOfDescriptors();
    if (address !== null) {
      const mine = this.#byAddress.get(address) ?? 0;
      if (mine >= connectionsPerClient) return reached(`${connectionsPerClient} connections from ${address} are open`, "raise limits.connectionsPerClient, or list the address in the listener's trustedPeers if it is a load balancer's");
      this.#byAddress.set(address, mine + 1);
    }
    this.#open += 1;
    this.#telemetry.clientConnections(1);
    return null;
  }

  /** A connection that was turned away may stay until its client has read why. @returns false: there are too many of those already */
  enterRefused(): boolean {
    if (this.#refused >= MOST_REFUSED) return false;
    this.#refused += 1;
    return true;
  }

  leaveRefused(): void {
    this.#refused -= 1;
  }

  /** @param address as it was given to `enter` */
  leave(address: string | null): void {
    this.#open -= 1;
    this.#telemetry.clientConnections(-1);
    if (address === null) return;
    const mine = this.#byAddress.get(address) ?? 0;
    if (mine > 1) this.#byAddress.set(address, mine - 1);
    else this.#byAddress.delete(address);
  }
}

function reached(detail: string, remedy: string): Fault {
  return new Fault('limit-reached', detail, { retryAfter: 1, remedy });
}
