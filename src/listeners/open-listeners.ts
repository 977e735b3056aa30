/** All ports for clients together: opened in the order of the configuration, stopped and closed as one. */
import { type AddressInfo, createServer, type Socket } from 'node:net';
import type { Config } from '../config/config.ts';
import type { ConnectionCount } from '../limits.ts';
import type { ClientConnection } from './client-connection.ts';
import { ConnectionClock, tickFor } from './connection-clock.ts';
import {
  bindListener,
  ConnectionGate,
  type Listener,
  type ListenerOptions,
  type SelfTestSockets,
  SERVER_OPTIONS,
} from './connection-gate.ts';
import type { HttpForms } from './http-forms.ts';
import type { RequestEnvironment } from './request-context.ts';
import type { SniForm } from './sni-form.ts';
import { openTlsListener, type TlsListener } from './tls-listener.ts';
import { TlsTerminator } from './tls-terminator.ts';

type OpenTerms = Pick<Config, 'tlsServer' | 'timeouts'>;

interface ListenersOptions {
  readonly config: OpenTerms & Pick<Config, 'listeners'>;
  readonly forms: HttpForms;
  readonly sni: SniForm;
  readonly connections: ConnectionCount;
  readonly environment: RequestEnvironment;
  readonly selfTest: SelfTestSockets;
  /** Called with each tick of the connection clock. */
  readonly onTick: () => void;
}

/** All bound ports for clients. */
export interface Listeners extends Omit<Listener, 'address'> {
  /** In the order of the configuration. */
  readonly addresses: { readonly http: readonly AddressInfo[]; readonly tls: readonly AddressInfo[] };
  /**
   * Prepares what another configuration needs; the returned function applies
   * it once that is in force, and says how many tunnels that closed.
   * @throws OpenSSL's error for a certificate that it cannot use
   */
  prepare(config: OpenTerms): () => number;
}

/** Rejects with the first error; then no listener stays open. */
export async function openListeners({ config, onTick, ...rest }: ListenersOptions): Promise<Listeners> {
  const http: Listener[] = [];
  const tls: TlsListener[] = [];
  const terminator = createTerminator(config);
  const clock = new ConnectionClock({ tick: tickOf(config), now: performance.now.bind(performance), onTick });
  const shared = { ...rest, clock };
  try {
    for (const listener of config.listeners.http) http.push(await openHttpListener({ ...shared, listener }));
    for (const listener of config.listeners.tls) tls.push(await openTlsListener({ ...shared, listener, terminator }));
  } catch (error) {
    const opened = [...http, ...tls];
    for (const listener of opened) listener.stop();
    for (const listener of opened) listener.destroy();
    await Promise.all(opened.map(({ closed }) => closed));
    clock.close();
    throw error;
  }
  const all = [...http, ...tls];
  return {
    addresses: { http: http.map(({ address }) => address), tls: tls.map(({ address }) => address) },
    closed: Promise.all(all.map(({ closed }) => closed)).then(() => {
      clock.close();
    }),
    stop() {
      for (const listener of all) listener.stop();
    },
    destroy() {
      for (const listener of all) listener.destroy();
    },
    prepare(next) {
      const replacement = createTerminator(next);
      return () => {
        clock.adopt(tickOf(next));
        return tls.reduce((cut, listener) => cut + listener.adopt(replacement), 0);
      };
    },
  };
}

function tickOf({ timeouts }: Pick<Config, 'timeouts'>): number {
  return tickFor(
    timeouts.requestHeaders,
    timeouts.keepAlive,
    timeouts.responseHeaders,
    timeouts.body,
    timeouts.tunnelIdle,
    timeouts.tunnelAge,
  );
}

function createTerminator({ tlsServer }: Pick<Config, 'tlsServer'>): TlsTerminator | null {
  return tlsServer === null ? null : new TlsTerminator(tlsServer);
}

// A port for plain HTTP: every accepted connection is served, after its PROXY header if there is one.

function serve(connection: ClientConnection): void {
  connection.serve();
}

/** @throws when the address cannot be bound, with the system's error */
function openHttpListener(options: ListenerOptions): Promise<Listener> {
  const gate = new ConnectionGate({
    ...options,
    refuse: (connection, fault) => {
      connection.refuse(fault);
    },
    lastWords: (fault, requestId) => {
      const { head, body } = options.forms.refusals.text(fault, requestId);
      return `${head}Connection: close\r\n\r\n${body}`;
    },
  });
  const server = createServer(SERVER_OPTIONS, (socket: Socket) => {
    gate.accept(socket, serve);
  });
  return bindListener(server, gate, options.listener);
}
