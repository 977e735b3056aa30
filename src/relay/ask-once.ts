/** One GET on a connection of its own, which ends with it: for answers that a pooled connection would have from before. */
import { Client } from 'undici';
import type { Dialled } from '../dial/dial.ts';
import { Fault } from '../errors.ts';
import { explainUpstreamError } from './exchange-faults.ts';

export interface OneQuestion {
  /** `https://host:port`, for the Host field and messages. */
  readonly origin: string;
  /** With its query. */
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  /** Longest body that is taken, bytes. */
  readonly longest: number;
  readonly signal: AbortSignal;
}

export interface OneAnswer {
  readonly status: number;
  /** Where a redirect leads; null where the answer is none. */
  readonly location: string | null;
  readonly body: string;
}

const HEADER_BYTES = 16_384;

/**
 * The connection is closed by then, whatever came of it.
 * @throws {Fault} of the exchange, or what `signal` was aborted with
 */
export async function askOnce({ socket }: Dialled, { origin, path, headers, longest, signal }: OneQuestion): Promise<OneAnswer> {
  // What happens to it after its end concerns nobody; before it, undici says so.
  socket.on('error', () => {});
  const client = new Client(origin, {
    pipelining: 1,
    allowH2: false,
    maxHeaderSize: HEADER_BYTES,
    // The caller's signal is the clock.
    headersTimeout: 0,
    bodyTimeout: 0,
    connect: (_, callback) => {
      // undici must not be answered in the same turn: its queue would not be resumed.
      queueMicrotask(() => {
        if (socket.destroyed) callback(new Fault('upstream-cut', 'the connection was closed before the question'), null);
        else callback(null, socket);
      });
    },
  });
  let responded = false;
  try {
    const response = await client.request({ method: 'GET', path, headers, signal, reset: true });
    responded = true;
    const chunks: Buffer[] = [];
    let length = 0;
    for await (const chunk of response.body as AsyncIterable<Buffer>) {
      length += chunk.length;
      if (length > longest) throw new Fault('upstream-malformed', `the answer is longer than ${longest} bytes`);
      chunks.push(chunk);
    }
    const { location } = response.headers;
    return { status: response.statusCode, location: typeof location === 'string' ? location : null, body: Buffer.concat(chunks).toString('utf8') };
  } catch (error) {
    if (signal.aborted && signal.reason instanceof Fault) throw signal.reason;
    throw explainUpstreamError(error instanceof Error ? error : new Error(String(error)), { responded, bodyPending: false });
  } finally {
    socket.destroy();
    await client.destroy();
  }
}
