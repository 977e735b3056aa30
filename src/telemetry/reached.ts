/** The addresses of a destination that were reached recently, and when the certificate shown there expires. Noted at each dial, not at each request. */

/** Addresses that are remembered for one destination. */
const MOST_REACHED = 8;

/** An address that a connection was opened to. */
export interface ReachedAddress {
  readonly address: string;
  /** The latest, ms since the epoch. */
  readonly at: number;
}

/** Results of the dials to one destination. */
export class Reached {
  /** The least recent first. */
  readonly #addresses = new Map<string, number>();
  /** When the last certificate seen expires, ms since the epoch; 0: none was seen. */
  certificateEnds = 0;

  /** @param certificateEnds 0: without TLS of our own */
  note(address: string, certificateEnds: number, now: number): void {
    if (certificateEnds > 0) this.certificateEnds = certificateEnds;
    this.#addresses.delete(address);
    this.#addresses.set(address, now);
    if (this.#addresses.size <= MOST_REACHED) return;
    const [oldest = ''] = this.#addresses.keys();
    this.#addresses.delete(oldest);
  }

  /** The latest first. */
  list(): ReachedAddress[] {
    return Array.from(this.#addresses, ([address, at]) => ({ address, at })).reverse();
  }
}
