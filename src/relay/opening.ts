/** What a tunnel asks of whoever looks at how it begins. */
import type { Fault } from '../errors.ts';

/** The tunnel is closed for `fault`; `lastWords`, if any, are the last that the client hears. */
export interface Refusal {
  readonly fault: Fault;
  readonly lastWords: Buffer | string | null;
}

/**
 * Reads the beginning of a tunnel as it comes, in both directions. It changes
 * no byte, and delays none of the client's unless it holds, none of the upstream's at all.
 */
export interface Opening {
  /** Longest that bytes are held, ms from the first one held. */
  readonly patience: number;
  /**
   * The next bytes of the client.
   * - `pass`: send on what is held, then these.
   * - `hold`: keep them back.
   */
  read(chunk: Buffer): 'pass' | 'hold' | Refusal;
  /** The next bytes of the upstream, which are sent on whatever they are. */
  hear(chunk: Buffer): void;
  /** After an answer of `pass`: what came before the chunk and was held, in order; otherwise empty. */
  readonly held: Buffer;
  /** There is no more to see: neither direction is to be shown any more. Nothing is held then. */
  readonly done: boolean;
  /** Bytes are held, and no more come: the client has ended, or the patience has. */
  giveUp(why: 'ended' | 'late'): Refusal;
}
