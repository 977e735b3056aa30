/** What is wrong with an HTTP/1.1 message, whichever side sent it. */

/**
 * - `malformed`: not the grammar of RFC 9112.
 * - `framing`: where the message ends can be read in more than one way, or not at all.
 * - `too-large`: a limit on the header section.
 * - `target-too-long`: the request line alone is over that limit.
 */
export type MessageFlaw = 'malformed' | 'framing' | 'too-large' | 'target-too-long';

/** Thrown by the readers of messages. Its text may quote what was sent; every writer escapes it for its own medium. */
export class MessageError extends Error {
  override readonly name = 'MessageError';
  readonly flaw: MessageFlaw;
  /** Of the response that is at fault, where that much could be read of it. */
  status: number | null = null;

  constructor(flaw: MessageFlaw, detail: string) {
    super(detail);
    this.flaw = flaw;
  }
}
