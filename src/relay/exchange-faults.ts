/** What undici reports of a failed exchange, in our own codes. */
import { errors } from 'undici';
import { Fault } from '../errors.ts';

export interface ExchangeState {
  /** The final response has begun. */
  readonly responded: boolean;
  /** The client has not sent all of its request body yet. */
  readonly bodyPending: boolean;
}

/** Total: whatever undici throws becomes a Fault. */
export function explainUpstreamError(error: Error, { responded, bodyPending }: ExchangeState): Fault {
  if (error instanceof Fault) return error;
  const cause = { cause: error };
  if (error instanceof errors.HeadersTimeoutError) {
    // While the request is still being sent, undici's clock runs out only if the upstream does not take it.
    return bodyPending
      ? new Fault('upstream-silent', 'the upstream stopped taking the request body', cause)
      : new Fault('upstream-silent', 'the upstream accepted the request but did not begin to answer in time', cause);
  }
  if (error instanceof errors.BodyTimeoutError) return new Fault('upstream-silent', 'the upstream fell silent in the middle of the response', cause);
  if (error instanceof errors.HTTPParserError || error instanceof errors.HeadersOverflowError) return new Fault('upstream-malformed', error.message, cause);
  // With TLS 1.3 the upstream judges our certificate after its own handshake is done, so its alert arrives here.
  if ((error as NodeJS.ErrnoException).code?.startsWith('ERR_SSL_') === true) {
    return new Fault('tls-failed', `the upstream ended TLS: ${error.message}`, {
      ...cause,
      remedy: "if it asks for a client certificate, set the destination's tls.certFile and tls.keyFile",
    });
  }
  if (isUncalledFor(error)) return new Fault('upstream-malformed', `the upstream sent what nobody asked for: ${error.message}`, cause);
  // undici's name for any broken framing of a message with a Content-Length; before the response it is a contradiction.
  if (error instanceof errors.ResponseContentLengthMismatchError && !responded) {
    return new Fault('upstream-malformed', 'the upstream sent contradictory message framing', cause);
  }
  if (error instanceof errors.ResponseContentLengthMismatchError || isConnectionLoss(error)) {
    return new Fault('upstream-cut', `the upstream closed the connection ${responded ? 'in the middle of the response' : 'before it answered'}`, cause);
  }
  if (error instanceof errors.RequestContentLengthMismatchError) {
    return new Fault('framing-forbidden', 'the request body is not as long as its Content-Length says', cause);
  }
  if (error instanceof errors.InvalidArgumentError || error instanceof errors.NotSupportedError) return new Fault('request-malformed', error.message, cause);
  // Node's own check, as it writes the response: a header that undici let through.
  if ((error as NodeJS.ErrnoException).code === 'ERR_INVALID_CHAR') return new Fault('upstream-malformed', error.message, cause);
  return Fault.from(error);
}

/** The connection went away, for whatever reason. */
export function isConnectionLoss(error: Error): boolean {
  if (error instanceof errors.SocketError) return !isUncalledFor(error);
  if (error instanceof Fault) return error.code === 'upstream-cut';
  const { code } = error as NodeJS.ErrnoException;
  return code === 'ECONNRESET' || code === 'EPIPE' || code === 'ECONNABORTED';
}

/** undici's two words for a 100 without Expect and a 101 without Upgrade, upon which it closes the connection itself. */
function isUncalledFor(error: Error): boolean {
  return error instanceof errors.SocketError && (error.message === 'bad response' || error.message === 'bad upgrade');
}
