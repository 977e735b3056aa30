/** What the metrics may say of a configuration: the names that become labels, and when its certificates end. */
import { X509Certificate } from 'node:crypto';
import type { Config } from '../config/config.ts';
import type { PolicyNames } from './cells.ts';

type Described = Pick<Config, 'clients' | 'destinations' | 'tlsServer'>;

export function namePolicy(config: Described, hash: string): PolicyNames {
  return { hash, clients: config.clients.map(nameOf), destinations: config.destinations.map(nameOf), certificates: readExpiries(config) };
}

const nameOf = ({ name }: { readonly name: string }): string => name;

const CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g;

/** By the key of the configuration that names the file: Unix time in seconds when the first certificate in it expires. */
function readExpiries({ destinations, tlsServer }: Described): ReadonlyMap<string, number> {
  const files: [key: string, pem: string | null][] = [
    ['tlsServer.certFile', tlsServer?.cert ?? null],
    ['tlsServer.clientCaFile', tlsServer?.clientCa ?? null],
  ];
  for (const { name, tls } of destinations) files.push([`destinations.${name}.tls.certFile`, tls.cert], [`destinations.${name}.tls.caFile`, tls.ca]);

  const expiries = new Map<string, number>();
  for (const [key, pem] of files) {
    const ends = (pem?.match(CERTIFICATE) ?? []).map((block) => new X509Certificate(block).validToDate.getTime() / 1000);
    if (ends.length > 0) expiries.set(key, Math.min(...ends));
  }
  return expiries;
}
