/** A port for plain HTTP: whoever is let in is served, behind a PROXY header where one comes first. */
import type { Socket } from 'node:net';
import type { Config, HttpListenerConfig } from '../config/config.ts';
import type { ConnectionCount } from './connection-count.ts';
import { ConnectionGate } from './connection-gate.ts';
import type { HttpForms } from './http-forms.ts';
import { createHttpServer, refuseConnection } from './http-server.ts';
import { bindListener, type Listener } from './listener.ts';
import { takeConnections } from './take-connections.ts';
import { createPeerReader } from './trusted-peers.ts';
import type { VisitContext } from './visit.ts';

export interface HttpListenerOptions {
  readonly listener: HttpListenerConfig;
  readonly config: Pick<Config, 'name' | 'limits' | 'timeouts'>;
  readonly forms: HttpForms;
  readonly connections: ConnectionCount;
  readonly context: VisitContext;
}

/** @throws when the address cannot be bound, with the system's error */
export function openHttpListener(options: HttpListenerOptions): Promise<Listener> {
  const { listener, config, connections } = options;
  const peers = createPeerReader(listener);
  const gate = new ConnectionGate({
    listener,
    peers,
    connections,
    timeout: config.timeouts.requestHeaders,
    refuse: (socket, fault) => {
      refuseConnection(socket, fault, options);
    },
  });
  const server = createHttpServer({ ...options, peers, serves: (socket) => gate.has(socket) });
  // Where nothing comes first, Node's own way with a new connection is left as it is.
  if (listener.proxyProtocol === 'off') server.on('connection', (socket: Socket) => gate.enter(socket));
  else {
    const serve = takeConnections(server);
    server.on('connection', (socket: Socket) => {
      if (gate.enter(socket)) gate.receive(socket, serve);
    });
  }
  return bindListener(server, gate, listener);
}
