/** A port for plain HTTP: whoever is let in is served, behind a PROXY header where one comes first. */
import { createServer, type Socket } from 'node:net';
import type { Config, HttpListenerConfig } from '../config/config.ts';
import type { ConnectionClock } from './connection-clock.ts';
import type { ConnectionCount } from './connection-count.ts';
import { ConnectionGate } from './connection-gate.ts';
import { createConnectionOwner } from './connection-owner.ts';
import type { ConnectionTerms } from './client-connection.ts';
import type { HttpForms } from './http-forms.ts';
import { bindListener, type Listener, SERVER_OPTIONS } from './listener.ts';
import type { RequestEnvironment } from './request-context.ts';
import { createPeerReader } from './trusted-peers.ts';

export interface HttpListenerOptions {
  readonly listener: HttpListenerConfig;
  readonly config: Pick<Config, 'limits' | 'timeouts'>;
  readonly terms: () => ConnectionTerms;
  readonly clock: ConnectionClock;
  readonly forms: HttpForms;
  readonly connections: ConnectionCount;
  readonly environment: RequestEnvironment;
}

/** @throws when the address cannot be bound, with the system's error */
export function openHttpListener(options: HttpListenerOptions): Promise<Listener> {
  const { listener, config, connections } = options;
  const gate = new ConnectionGate({
    listener,
    peers: createPeerReader(listener),
    connections,
    timeout: config.timeouts.requestHeaders,
    own: createConnectionOwner(options),
    refuse: (connection, fault) => {
      connection.refuse(fault);
    },
  });
  const server = createServer(SERVER_OPTIONS, (socket: Socket) => {
    const connection = gate.enter(socket);
    if (connection === null) return;
    gate.receive(connection, (received) => {
      received.serve();
    });
  });
  return bindListener(server, gate, listener);
}
