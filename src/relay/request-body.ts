/**
 * The client's request body as undici reads it. It stands between the two
 * because undici destroys the stream it was given when the upstream answers
 * early, and destroying an IncomingMessage would destroy the client's socket
 * with that answer still in it.
 */
import type { IncomingMessage } from 'node:http';
import { Readable } from 'node:stream';
import { Fault } from '../errors.ts';

export class RequestBody extends Readable {
  /** Body bytes taken from the client so far. */
  bytes = 0;
  readonly #req: IncomingMessage;
  readonly #clock: NodeJS.Timeout;

  /** @param timeout longest silence, ms: of the client, or of an upstream that does not take what is there */
  constructor(req: IncomingMessage, timeout: number) {
    super();
    this.#req = req;
    // undici has a clock for the response only, and stops it while a body is on its way.
    this.#clock = setTimeout(() => {
      this.destroy(
        req.isPaused()
          ? new Fault('upstream-silent', `the upstream did not take the request body for ${timeout} ms`)
          : new Fault('request-timeout', `the client sent nothing of the request body for ${timeout} ms`),
      );
    }, timeout);
    req.on('data', (chunk: Buffer) => {
      this.bytes += chunk.length;
      this.#clock.refresh();
      if (!this.destroyed && !this.push(chunk)) req.pause();
    });
    req.on('end', () => {
      clearTimeout(this.#clock);
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
    if (this.#req.isPaused()) this.#clock.refresh();
    this.#req.resume();
  }

  /** Whoever reads no longer wants it: the rest is drained so that the client can finish and read its answer. */
  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    clearTimeout(this.#clock);
    if (!this.#req.readableEnded) this.#req.resume();
    callback(error);
  }
}
