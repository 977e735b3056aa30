/** What an exchange is told to do, and whom it tells how it ended. */
import type { Duplex } from 'node:stream';
import type { Fault } from '../errors.ts';
import type { AccessRecord } from '../telemetry/access-record.ts';
import type { UpstreamPool } from './pool.ts';

export interface ExchangePlan {
  readonly pool: UpstreamPool;
  readonly method: string;
  /** Path and query, byte for byte as the upstream is to see them. */
  readonly path: string;
  /** Flat, ready for the upstream. */
  readonly headers: string[];
  /** SNI and Host name: constant for the pool. */
  readonly serverName: string;
  readonly hasBody: boolean;
  /** The client asked for `100 Continue` before it sends its body. */
  readonly expectsContinue: boolean;
  /** `websocket` where the client wants the connection to become one. */
  readonly upgrade: string | null;
  /** Our `Via` on the response, or null. */
  readonly via: string | null;
  readonly mapLocation: ((value: string) => string) | null;
  /** Longest time the client may leave us waiting to write, ms. */
  readonly bodyTimeout: number;
}

/** Who started the exchange learns how it ended: exactly one call. */
export interface ExchangeOwner {
  /** Complete; the response has been handed to the client's socket. */
  onDone(record: AccessRecord): void;
  /** Failed. `answerable`: nothing was sent to the client yet, so the owner answers; otherwise the client saw a broken transfer. */
  onFault(fault: Fault, record: AccessRecord, answerable: boolean): void;
  /** The upstream agreed to the upgrade: the owner answers 101 and relays the two sockets, which it now owns. */
  onUpgrade(upstream: Duplex, statusCode: number, headers: string[], record: AccessRecord): void;
}
