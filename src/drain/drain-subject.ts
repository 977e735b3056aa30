/** What a drain knows of the requests under way. */
import type { Fault } from '../errors.ts';

/** A tunnel, as far as a drain is concerned. */
export interface DrainTunnel {
  /** Grows with every byte. */
  readonly moved: number;
  /** Nothing is on its way through the proxy. */
  readonly still: boolean;
  /** It is ending already. */
  readonly ending: boolean;
  /** Ends it in order: both sides see the end of the stream. */
  leave(fault: Fault): void;
  /** Ends it by a reset. */
  end(fault: Fault): void;
}

/** A request under way. */
export interface DrainSubject {
  readonly record: { readonly client: string; readonly destination: string; readonly startedAt: number; readonly bytesReceived: number };
  /** What is inside says where it ends, as TLS does: an end in order is not taken for the end of what was sent. */
  readonly tellsItsEnd: boolean;
  /** Null: it is none, or not yet. */
  readonly tunnel: DrainTunnel | null;
  /** As the clock of the connections has seen it. */
  readonly connection: { readonly stamp: number; readonly seen: number; readonly seenAt: number; guard(step: () => void): void };
}
