/** The drain's view of requests in progress. */
import type { Fault } from '../errors.ts';

/** The drain's view of a tunnel. */
export interface DrainTunnel {
  /** Grows with every byte. */
  readonly moved: number;
  /** The proxy holds no bytes of it. */
  readonly still: boolean;
  /** It is ending already. */
  readonly ending: boolean;
  /** Ends it in order: both sides see the end of the stream. */
  leave(fault: Fault): void;
  /** Ends it by a reset. */
  end(fault: Fault): void;
}

/** A request in progress. */
export interface DrainSubject {
  readonly record: { readonly client: string; readonly destination: string; readonly startedAt: number; readonly bytesReceived: number };
  /** Its protocol marks its own end, as TLS does: a FIN is not taken for the end of the content. */
  readonly tellsItsEnd: boolean;
  /** Null: it is not a tunnel, or not yet. */
  readonly tunnel: DrainTunnel | null;
  /** As recorded by the clock of the connections. */
  readonly connection: { readonly stamp: number; readonly seen: number; readonly seenAt: number; guard(step: () => void): void };
}
