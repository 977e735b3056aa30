/**
 * One request of the self-test, on a connection of this process to its own
 * listener. Nothing is written before the listener has found this connection
 * among those it accepted: anything between the two, such as a redirect of the
 * kernel, gets no byte.
 */
import { connect, type Socket } from 'node:net';
import { connect as connectTls, createSecureContext, type SecureContext } from 'node:tls';
import { TimeLimit } from '../time-limit.ts';
import type { SelfTestProbe } from './probes.ts';

/** The answer. */
export type ProbeAnswer =
  /** The code of a refusal; null: a TLS alert, which has none. */
  | { readonly kind: 'refused'; readonly code: string | null }
  /** It was not refused: the first words of the answer. */
  | { readonly kind: 'served'; readonly with: string }
  | { readonly kind: 'none'; readonly why: string };

/** A connection of the self-test that is open. */
export interface OwnConnection {
  readonly socket: Socket;
  /** Of the listener. */
  readonly port: number;
  /** To be called when the listener has accepted it. */
  readonly arrived: () => void;
}

/** Maximum number of bytes read from an answer; a refusal is much shorter. */
const LONGEST_REFUSAL = 16_384;

let context: SecureContext | undefined;

/**
 * @param own called with the connection as soon as it is started
 * @param timeout of the whole, ms
 */
export function askListener(
  probe: SelfTestProbe,
  own: (connection: OwnConnection) => void,
  timeout: number,
  signal: AbortSignal,
): Promise<ProbeAnswer> {
  return new Promise((resolve) => {
    const { host, port, preface, serverName, request } = probe;
    const socket = connect({ host, port, noDelay: true });
    let waitFor = 2;
    let text = '';
    let step = 'it was not accepted as a connection of this process';

    const settle = (answer: ProbeAnswer): void => {
      limit.clear();
      signal.removeEventListener('abort', abort);
      socket.destroy();
      resolve(answer);
    };
    const giveUp = (why: string): void => {
      settle({ kind: 'none', why });
    };
    const abort = (): void => {
      giveUp('the self-test has ended');
    };
    // After a turn of the event loop: in a busy process the answer may be there unread, or the
    // connection not accepted yet.
    const limit = new TimeLimit(timeout, () =>
      setImmediate(() => {
        giveUp(`${step} within ${timeout} ms`);
      }),
    );
    const onData = (chunk: Buffer): void => {
      text += chunk.toString('latin1');
      const answer = readProbeAnswer(text);
      if (answer !== null) settle(answer);
    };
    const onEnd = (): void => {
      giveUp(text === '' ? 'the connection was closed without an answer' : 'the answer is not a refusal of this proxy');
    };

    const begin = (): void => {
      waitFor -= 1;
      if (waitFor > 0) return;
      step = 'it was not answered';
      if (preface !== '') socket.write(preface);
      if (serverName === null) {
        socket.on('data', onData).on('end', onEnd);
        socket.write(request);
        return;
      }
      // The peer is known: it is this process's own listener.
      context ??= createSecureContext({ ca: [] });
      const secure = connectTls({ socket, servername: serverName, rejectUnauthorized: false, secureContext: context });
      secure.on('error', (error: NodeJS.ErrnoException) => {
        if (/^ERR_SSL_.*(?:ALERT|UNRECOGNIZED_NAME)/.test(error.code ?? '')) settle({ kind: 'refused', code: null });
        else giveUp(error.message);
      });
      secure.on('secureConnect', () => {
        if (request === '') {
          settle({ kind: 'served', with: 'a TLS handshake' });
          return;
        }
        secure.on('data', onData).on('end', onEnd);
        secure.write(request);
      });
    };

    socket.on('error', (error) => {
      giveUp(error.message);
    });
    socket.on('close', onEnd);
    socket.on('connect', begin);
    own({ socket, port, arrived: begin });
    if (signal.aborted) abort();
    else signal.addEventListener('abort', abort, { once: true });
  });
}

/** Null: not complete yet. */
function readProbeAnswer(text: string): ProbeAnswer | null {
  const status = /^HTTP\/1\.1 (\d{3}) /.exec(text)?.[1];
  if (status !== undefined && Number(status) < 400) return { kind: 'served', with: `status ${status}` };
  const code = /"code":"([a-z0-9-]+)"/.exec(text)?.[1];
  if (code !== undefined) return { kind: 'refused', code };
  return text.length > LONGEST_REFUSAL ? { kind: 'none', why: 'the answer is too long for a refusal' } : null;
}
