/** All ports for clients together: opened in the order of the configuration, stopped and closed as one. */
import type { AddressInfo } from 'node:net';
import type { Config } from '../config/config.ts';
import { ConnectionClock, tickFor } from './connection-clock.ts';
import { ConnectionGate, type ListenerOptions } from './connection-gate.ts';
import type { SniForm } from './sni-form.ts';
import { TlsListener } from './tls-listener.ts';
import { TlsTerminator } from './tls-terminator.ts';

type OpenTerms = Pick<Config, 'tlsServer' | 'timeouts'>;

interface ListenersOptions extends Omit<ListenerOptions, 'listener' | 'clock'> {
  readonly config: OpenTerms & Pick<Config, 'listeners'>;
  readonly sni: SniForm;
  /** Called with each tick of the connection clock. */
  readonly onTick: () => void;
}

/** All bound ports for clients. */
export interface Listeners extends Pick<ConnectionGate, 'closed' | 'stop' | 'destroy'> {
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
  const terminator = createTerminator(config);
  const clock = new ConnectionClock({ tick: tickOf(config), now: performance.now.bind(performance), onTick });
  const shared = { ...rest, clock };
  const http = config.listeners.http.map((listener) => new ConnectionGate({ ...shared, listener }));
  const tls = config.listeners.tls.map((listener) => new TlsListener({ ...shared, listener, terminator }));
  const all = [...http, ...tls];
  const closed = Promise.all(all.map((listener) => listener.closed)).then(() => {
    clock.close();
  });
  const stop = (): void => {
    for (const listener of all) listener.stop();
  };
  const destroy = (): void => {
    for (const listener of all) listener.destroy();
  };
  try {
    for (const listener of all) await listener.open();
  } catch (error) {
    stop();
    destroy();
    await closed;
    throw error;
  }
  return {
    addresses: { http: http.map(({ address }) => address), tls: tls.map(({ address }) => address) },
    closed,
    stop,
    destroy,
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
