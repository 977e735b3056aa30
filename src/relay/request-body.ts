/**
 * The client's request body as undici reads it. It stands between the two
 * because undici destroys the stream it was given when the upstream answers
 * early, and destroying an IncomingMessage would destroy the client's socket
 * with that answer still in it.
 */
import type { IncomingMessage } from 'node:http';
import { Readable } from 'node:stream';

export class RequestBody extends Readable {
  /** Body bytes taken from the client so far. */
  bytes = 0;
  readonly #req: IncomingMessage;

  constructor(req: IncomingMessage) {
    super();
    this.#req = req;
    req.on('data', (chunk: Buffer) => {
      this.bytes += chunk.length;
      if (!this.destroyed && !this.push(chunk)) req.pause();
    });
    req.on('end', () => {
      if (!this.destroyed) this.push(null);
    });
    // Cut in the middle: the upstream must not take the part for the whole.
    req.on('close', () => {
      if (!req.complete) this.destroy(new Error('the client cut the request body off'));
    });
    // The 'close' above follows and says it all.
    req.on('error', () => {});
    req.pause();
  }

  override _read(): void {
    this.#req.resume();
  }

  /** Whoever reads no longer wants it: the rest is drained so that the client can finish and read its answer. */
  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    if (!this.#req.readableEnded) this.#req.resume();
    callback(error);
  }
}
