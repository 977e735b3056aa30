/** All ports for clients together: opened in the order of the configuration, stopped and closed as one. */
import type { AddressInfo } from 'node:net';
import type { Config } from '../config/config.ts';
import type { ConnectionCount } from './connection-count.ts';
import type { HttpForms } from './http-forms.ts';
import { openHttpListener } from './http-listener.ts';
import type { Listener } from './listener.ts';
import type { SniForm } from './sni-form.ts';
import { openTlsListener, type TlsListener } from './tls-listener.ts';
import { TlsTerminator } from './tls-terminator.ts';
import type { VisitContext } from './visit.ts';

export interface ListenersOptions {
  readonly config: Pick<Config, 'name' | 'listeners' | 'tlsServer' | 'limits' | 'timeouts'>;
  readonly forms: HttpForms;
  readonly sni: SniForm;
  readonly connections: ConnectionCount;
  readonly context: VisitContext;
}

export interface Listeners extends Omit<Listener, 'address'> {
  /** In the order of the configuration. */
  readonly addresses: { readonly http: readonly AddressInfo[]; readonly tls: readonly AddressInfo[] };
  /**
   * Makes what another configuration needs; what is returned takes it over.
   * @throws what OpenSSL says of a certificate that it cannot use
   */
  prepare(config: Pick<Config, 'timeouts' | 'tlsServer'>): () => void;
}

/** Rejects with the first error, and then leaves none open. */
export async function openListeners({ config, ...rest }: ListenersOptions): Promise<Listeners> {
  const http: Listener[] = [];
  const tls: TlsListener[] = [];
  const terminator = createTerminator(config);
  try {
    for (const listener of config.listeners.http) http.push(await openHttpListener({ ...rest, config, listener }));
    for (const listener of config.listeners.tls) tls.push(await openTlsListener({ ...rest, config, listener, terminator }));
  } catch (error) {
    const opened = [...http, ...tls];
    for (const listener of opened) listener.stop();
    for (const listener of opened) listener.destroy();
    await Promise.all(opened.map(({ closed }) => closed));
    throw error;
  }
  const all = [...http, ...tls];
  return {
    addresses: { http: http.map(({ address }) => address), tls: tls.map(({ address }) => address) },
    closed: Promise.all(all.map(({ closed }) => closed)).then(() => {}),
    stop() {
      for (const listener of all) listener.stop();
    },
    destroy() {
      for (const listener of all) listener.destroy();
    },
    prepare(next) {
      const terms = { config: next, terminator: createTerminator(next) };
      return () => {
        for (const listener of tls) listener.adopt(terms);
      };
    },
  };
}

function createTerminator({ tlsServer }: Pick<Config, 'tlsServer'>): TlsTerminator | null {
  return tlsServer === null ? null : new TlsTerminator(tlsServer);
}
