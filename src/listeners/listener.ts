/** What all ports for clients have in common: how they are bound, stopped and closed. */
import type { AddressInfo, Server, ServerOpts } from 'node:net';
import type { ListenAddress } from '../config/config.ts';
import type { ConnectionGate } from './connection-gate.ts';

/** A bound port for clients; it owns its connections. Ends by `stop`, then `destroy` for the rest. */
export interface Listener {
  readonly address: AddressInfo;
  /** Accepts no more connections and closes idle ones; the others close after their response. */
  stop(): void;
  /** Resolves when every connection is closed. */
  readonly closed: Promise<void>;
  /** Closes every connection now. */
  destroy(): void;
}

/** Each direction of a client ends on its own; reading begins when the connection has its owner; small answers are not delayed. */
export const SERVER_OPTIONS: ServerOpts = { allowHalfOpen: true, noDelay: true };

/** @throws when the address cannot be bound, with the system's error */
export async function bindListener(server: Server, gate: ConnectionGate, { host, port }: ListenAddress): Promise<Listener> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host, port }, () => {
      server.off('error', reject);
      resolve();
    });
  });
  const closed = new Promise<void>((resolve) => {
    server.once('close', resolve);
  });
  return {
    // A server listening on an IP address has no other kind of address.
    address: server.address() as AddressInfo,
    closed,
    stop() {
      server.close();
      gate.stop();
    },
    destroy() {
      gate.destroy();
    },
  };
}
