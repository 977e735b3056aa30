/** The contract of the port budget, for whoever opens a TCP connection and whoever tells of it. */
import type { NatConfig } from '../config/config.ts';
import type { Ending } from './port-tuple.ts';

/** A port that is in use until `end` says how that ended; further calls do nothing. */
export interface PortLease {
  end(ending: Ending): void;
}

export interface GrantedPort {
  /** Which of the addresses it is for. */
  readonly address: string;
  readonly lease: PortLease;
}

/** Of one destination; of the addresses it went to, the one with the most in use. */
export interface PortUsage {
  readonly used: number;
  /** The most that ever were. */
  readonly highWater: number;
  /** Dials that got no port. */
  readonly refused: number;
}

export interface PortsInUse {
  /** Towards each address and port; null: not limited. */
  readonly limit: number | null;
  readonly destinations: ReadonlyMap<string, PortUsage>;
}

export interface PortBudget {
  /**
   * A port for one TCP connection, attempt included.
   * @param address IP literal, in any spelling
   * @param destination name in the configuration, `-` for none: only for what is told
   * @param client whose share it comes from; null: its connection serves all clients
   * @returns null when none is free for it, or others wait for one
   */
  take(address: string, port: number, destination: string, client?: string | null): PortLease | null;
  /**
   * Waits for a port towards any of the addresses, if the configuration lets
   * it, in the order of asking.
   * @returns null when none came in time, too many wait, or `signal` aborts
   */
  wait(addresses: readonly string[], port: number, destination: string, signal: AbortSignal, client?: string | null): Promise<GrantedPort | null>;
  /** Seconds until one of the addresses may have a port again, for `Retry-After`; at least 1. */
  retryAfter(addresses: readonly string[], port: number): number;
  /** Other terms from now on. What is in use stays counted; fewer ports than that refuse new connections only. */
  adopt(nat: NatConfig): void;
  inUse(): PortsInUse;
  /** One sentence for each address and port that is short of ports. */
  warnings(): string[];
}
