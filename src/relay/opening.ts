/** What a tunnel asks of whoever looks at the first bytes that its client sends. */
import type { Fault } from '../errors.ts';

/** The tunnel is closed for `fault`; `lastWords`, if any, are the last that the client hears. */
export interface Refusal {
  readonly fault: Fault;
  readonly lastWords: Buffer | string | null;
}

/**
 * Reads the beginning of a tunnel as it comes. It changes no byte, and delays
 * none unless it holds.
 */
export interface Opening {
  /** Longest that bytes are held, ms from the first one held. */
  readonly patience: number;
  /**
   * The next bytes of the client.
   * - `pass`: send them on, and show the next ones.
   * - `hold`: keep them back. They are in `held` from the next call on.
   * - `done`: send on what is held, then these; there is no more to see.
   */
  read(chunk: Buffer): 'pass' | 'hold' | 'done' | Refusal;
  /** What came in order before the chunk that was answered with `done`, if it was held; otherwise empty. */
  readonly held: Buffer;
  /** Bytes are held, and no more come: the client has ended, or the patience has. */
  giveUp(why: 'ended' | 'late'): Refusal;
}
