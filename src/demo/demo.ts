/** The demo, started and closed as a whole: a CA, the stand-in ECO SIT, and the real proxy in front of it. */
import { type AddressInfo, createServer, isIPv6 } from 'node:net';
import { fileURLToPath } from 'node:url';
import { loadConfig } from '../config/load.ts';
import type { Lookup } from '../dial/lookup.ts';
import { Service, type ServiceDeps } from '../service.ts';
import { createAuthority, writeTemporaryCa } from './authority.ts';
import type { DemoPlaces } from './commands.ts';
import { createPartner } from './partner.ts';

const HOST = '127.0.0.1';
const ECO = 'eco-sit.telus.internal';
const CONFIG_FILE = fileURLToPath(new URL('egress.yaml', import.meta.url));

interface DemoPorts {
  /** Shown for the gateway and for steered requests. */
  readonly http: number;
  /** Shown as a proxy. */
  readonly proxy: number;
  /** For TLS steered by its server name. */
  readonly tls: number;
  readonly admin: number;
}

/** A running demo; its creator closes it. */
export interface Demo {
  readonly places: DemoPlaces;
  /** The ports asked for that were taken, each with the one used instead. */
  readonly moved: readonly { readonly from: number; readonly to: number }[];
  /** Ends what is in flight within a second, then everything, and removes the CA's directory. Safe to call twice. */
  close(): Promise<void>;
}

/**
 * Ports that are taken are replaced by free ones. Rejects, leaving nothing
 * behind, when there is no place for the CA file or the proxy does not start.
 *
 * @param logDestination where the access log goes; stays open
 * @param instance name of the replica, for the status page
 */
export async function startDemo(ports: DemoPorts, logDestination: ServiceDeps['logDestination'], instance = 'demo'): Promise<Demo> {
  // Last opened, first closed; also when the start fails.
  await using opened = new AsyncDisposableStack();

  const authority = await createAuthority('eco-egress demo authority');
  const ca = await writeTemporaryCa(authority.certPem);
  opened.defer(() => ca.close());

  const anyPort = { host: HOST, port: 0 };
  const partner = createPartner({ authority, name: ECO, https: anyPort, http: anyPort });
  opened.defer(() => partner.close());
  const eco = await partner.start();

  const loaded = loadConfig({
    file: CONFIG_FILE,
    env: {
      DEMO_PORT_HTTP: String(await preferPort(HOST, ports.http)),
      DEMO_PORT_PROXY: String(await preferPort(HOST, ports.proxy)),
      DEMO_PORT_TLS: String(await preferPort(HOST, ports.tls)),
      DEMO_PORT_ADMIN: String(await preferPort(HOST, ports.admin)),
      DEMO_PORT_ECO_HTTPS: String(eco.https.port),
      DEMO_PORT_ECO_HTTP: String(eco.http.port),
      DEMO_CA_FILE: ca.caFile,
    },
  });
  if (!loaded.ok) throw new Error(loaded.faults.map(({ path, problem }) => `${path}: ${problem}`).join(' '));
  const service = new Service(loaded.config, { loaded, logDestination, instance, lookup: resolveEco });
  await service.start();
  opened.defer(() => service.drain());

  const [http, proxy] = service.addresses.http;
  const [tls] = service.addresses.tls;
  const { admin } = service.addresses;
  if (http === undefined || proxy === undefined || tls === undefined) throw new Error('The demo configuration lacks a listener');
  const running = opened.move();
  return {
    places: {
      http: `http://${formatAddress(http)}`,
      proxy: `http://${formatAddress(proxy)}`,
      tls: formatAddress(tls),
      admin: `http://${formatAddress(admin)}`,
      ecoHttps: `https://${ECO}:${eco.https.port}`,
      ecoHttp: `http://${ECO}:${eco.http.port}`,
      caFile: ca.caFile,
    },
    moved: [
      { from: ports.http, to: http.port },
      { from: ports.proxy, to: proxy.port },
      { from: ports.tls, to: tls.port },
      { from: ports.admin, to: admin.port },
    ].filter(({ from, to }) => from !== 0 && from !== to),
    close: () => running.disposeAsync(),
  };
}

/** Resolves the demo's single name, without a change of the hosts file. */
const resolveEco: Lookup = (host) =>
  host === ECO
    ? Promise.resolve({ addresses: [HOST], ttl: null })
    : Promise.reject(Object.assign(new Error(`${host} does not exist in the demo`), { code: 'ENOTFOUND' }));

/** `127.0.0.1:8080`, `[::1]:8080`. */
export function formatAddress({ address, port }: AddressInfo): string {
  return `${isIPv6(address) ? `[${address}]` : address}:${port}`;
}

// The port to bind: the usual one, or any if that is in use.

/** Resolves to `wanted` if it can be bound on `host` just now, otherwise to 0, which lets the system choose. */
function preferPort(host: string, wanted: number): Promise<number> {
  return new Promise((resolve) => {
    const probe = createServer();
    // In use, or not permitted (EACCES below 1024): either way the system
    // chooses.
    probe.once('error', () => {
      resolve(0);
    });
    probe.listen(wanted, host, () => {
      probe.close(() => {
        resolve(wanted);
      });
    });
  });
}
