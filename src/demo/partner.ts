/** The stand-in ECO SIT: the same endpoints over HTTPS and over plain HTTP, with a certificate of the authority it is given. */
import { createServer as createHttpServer } from 'node:http';
import type { Server } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import type { ListenAddress } from '../config/config.ts';
import type { Authority } from './authority.ts';
import { createPartnerEndpoints } from './partner-endpoints.ts';

export interface PartnerOptions {
  /** Signs the server certificate. */
  readonly authority: Pick<Authority, 'issue'>;
  /** Host name the certificate is for. */
  readonly name: string;
  readonly https: ListenAddress;
  readonly http: ListenAddress;
}

export interface PartnerAddresses {
  readonly https: AddressInfo;
  readonly http: AddressInfo;
}

export interface Partner {
  /** Resolves once both servers accept; rejects with the bind error, and then neither does. */
  start(): Promise<PartnerAddresses>;
  /** Where it listens. Throws before `start` has resolved. */
  readonly addresses: PartnerAddresses;
  /** Stops accepting and cuts what is open. Safe to call twice. */
  close(): Promise<void>;
}

/** Longer than any pool in front keeps an idle connection, so that this side never closes one under a request. */
const KEEP_ALIVE_MS = 120_000;

export function createPartner(options: PartnerOptions): Partner {
  const servers: Server[] = [];
  let addresses: PartnerAddresses | null = null;

  const close = async (): Promise<void> => {
    await Promise.all(servers.splice(0).map(closeServer));
  };

  return {
    async start() {
      const { certPem, keyPem } = await options.authority.issue({ names: [options.name] });
      const handle = createPartnerEndpoints();
      const https = createHttpsServer({ cert: certPem, key: keyPem }, handle);
      const http = createHttpServer(handle);
      servers.push(https, http);
      try {
        addresses = { https: await listen(https, options.https), http: await listen(http, options.http) };
      } catch (error) {
        await close();
        throw error;
      }
      return addresses;
    },
    get addresses() {
      if (addresses === null) throw new Error('The stand-in partner has not started');
      return addresses;
    },
    close,
  };
}

async function listen(server: Server, { host, port }: ListenAddress): Promise<AddressInfo> {
  server.keepAliveTimeout = KEEP_ALIVE_MS;
  server.listen(port, host);
  // `once` rejects when the server emits 'error', which is how a bind failure arrives.
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('The stand-in partner has no TCP address');
  return address;
}

function closeServer(server: Server): Promise<void> {
  return new Promise((resolve) => {
    // The only error here is "not running", which is what was asked for.
    server.close(() => {
      resolve();
    });
    server.closeAllConnections();
  });
}
