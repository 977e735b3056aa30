/** One request on a connection of its own, which is closed afterwards: for answers that must not depend on a pooled connection opened earlier. */
import { Client, errors } from 'undici';
import type { Dialled } from '../dial/dial.ts';
import { Fault } from '../errors.ts';

/** A request without content. */
export interface OneQuestion {
  /** `GET` by default. */
  readonly method?: 'GET' | 'HEAD' | 'OPTIONS';
  /** `https://host:port`, for the Host field and messages. */
  readonly origin: string;
  /** With its query; a whole URL if the request goes to a proxy. */
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  /** Longest accepted body, bytes; null: the body does not matter, and is not read. */
  readonly longest: number | null;
  readonly signal: AbortSignal;
}

/** The response to it; redirects are not followed. */
export interface OneAnswer {
  readonly status: number;
  /** Target of a redirect; null: the answer is none. */
  readonly location: string | null;
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: string;
}

const HEADER_BYTES = 16_384;

/**
 * The connection is closed by then, with any result.
 * @throws {Fault} of the exchange, or the reason of `signal`
 */
export async function askOnce(
  { socket, tlsFault }: Pick<Dialled, 'socket' | 'tlsFault'>,
  { method = 'GET', origin, path, headers, longest, signal }: OneQuestion,
): Promise<OneAnswer> {
  // Errors after its end are ignored. undici reports those before it, but of one before it has written only that the connection was closed.
  let first: NodeJS.ErrnoException | null = null;
  socket.on('error', (error: NodeJS.ErrnoException) => {
    first ??= error;
  });
  const client = new Client(origin, {
    pipelining: 1,
    allowH2: false,
    maxHeaderSize: HEADER_BYTES,
    // The caller's signal is the only time limit.
    headersTimeout: 0,
    bodyTimeout: 0,
    connect: (_, callback) => {
      // undici must not be answered in the same turn: its queue would not resume.
      queueMicrotask(() => {
        if (socket.destroyed) callback(new Fault('upstream-cut', 'the connection was closed before the question'), null);
        else callback(null, socket);
      });
    },
  });
  let responded = false;
  try {
    const response = await client.request({ method, path, headers, signal, reset: true });
    responded = true;
    const body = longest === null ? '' : await readBody(response.body as AsyncIterable<Buffer>, longest);
    // Destroyed with the connection: it has no reader.
    response.body.on('error', () => {});
    const { location } = response.headers;
    return { status: response.statusCode, location: typeof location === 'string' ? location : null, headers: response.headers, body };
  } catch (error) {
    if (signal.aborted && signal.reason instanceof Fault) throw signal.reason;
    throw explainExchangeError(error instanceof Error ? error : new Error(String(error)), responded, tlsErrorOf(first), tlsFault);
  } finally {
    socket.destroy();
    await client.destroy();
  }
}

async function readBody(body: AsyncIterable<Buffer>, longest: number): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of body) {
    length += chunk.length;
    if (length > longest) throw new Fault('upstream-malformed', `the answer is longer than ${longest} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

/** Null: it is none of TLS. */
function tlsErrorOf(error: NodeJS.ErrnoException | null): Error | null {
  return error?.code?.startsWith('ERR_SSL_') === true ? error : null;
}

/** The errors of undici for a failed exchange, as our codes. */
function explainExchangeError(error: Error, responded: boolean, ofSocket: Error | null, tlsFault: Dialled['tlsFault']): Fault {
  // In TLS 1.3 the upstream checks our certificate after its own handshake is done, so its alert arrives here.
  const ofTls = tlsErrorOf(error) ?? ofSocket;
  if (ofTls !== null && tlsFault !== undefined) return tlsFault(ofTls);
  if (error instanceof Fault) return error;
  const cause = { cause: error };
  const { code } = error as NodeJS.ErrnoException;
  if (error instanceof errors.HTTPParserError || error instanceof errors.HeadersOverflowError)
    return new Fault('upstream-malformed', error.message, cause);
  // undici's name for any framing error of a message with a Content-Length; before the response it is a contradiction.
  if (error instanceof errors.ResponseContentLengthMismatchError && !responded)
    return new Fault('upstream-malformed', 'the upstream sent contradictory message framing', cause);
  if (
    error instanceof errors.ResponseContentLengthMismatchError ||
    error instanceof errors.SocketError ||
    code === 'ECONNRESET' ||
    code === 'EPIPE'
  ) {
    return new Fault(
      'upstream-cut',
      `the upstream closed the connection ${responded ? 'in the middle of the response' : 'before it answered'}`,
      cause,
    );
  }
  return Fault.from(error);
}
