/** Makes the owner of each new client connection of a listener, and tells log and counters what ends without a request. */
import type { Socket } from 'node:net';
import type { ListenerConfig } from '../config/config.ts';
import { Fault } from '../errors.ts';
import { ClientConnection, type ConnectionTerms, type RequestUnderWay } from './client-connection.ts';
import type { ConnectionClock } from './connection-clock.ts';
import type { HttpForms } from './http-forms.ts';
import { refusalText } from './refuse.ts';
import type { RequestHead } from '../http1/request-head.ts';
import { endUnread, type RequestEnvironment } from './request-context.ts';
import { createPeerReader } from './trusted-peers.ts';

/** What the connections of one listener have in common. */
export interface OwnerOptions {
  readonly listener: ListenerConfig;
  readonly terms: () => ConnectionTerms;
  readonly clock: ConnectionClock;
  readonly forms: HttpForms;
  readonly environment: RequestEnvironment;
}

/** @returns owns a socket from its accept on */
export function createConnectionOwner({ listener, terms, clock, forms, environment }: OwnerOptions): (socket: Socket) => ClientConnection {
  const peers = createPeerReader(listener);
  const options = {
    listener,
    terms,
    clock,
    onRequest: (connection: ClientConnection, head: RequestHead): void => {
      forms.onRequest(connection, head, peers);
    },
    refusalFor: ({ peer }: ClientConnection, fault: Fault): string => {
      const record = forms.record(peer.address);
      endUnread(environment, record, fault, fault.kind.status);
      return refusalText(fault, record.requestId, environment.name);
    },
    onCrash: ({ peer }: ClientConnection, error: unknown, request: RequestUnderWay | null): void => {
      const { message, stack } = error instanceof Error ? error : new Error(String(error));
      environment.telemetry.notice('error', 'internal error: one client connection was closed', { clientAddress: peer.address, reason: message, stack: stack ?? message });
      // A request has a line of its own; what has none is counted here.
      if (request === null) endUnread(environment, forms.record(peer.address), new Fault('internal', message, { cause: error }), 0);
    },
  };
  return (socket) => new ClientConnection(socket, options);
}
