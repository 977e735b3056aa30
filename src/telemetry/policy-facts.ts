/** What the metrics say of a configuration: the names that become labels, its limits, and when its certificates end. */
import { X509Certificate } from 'node:crypto';
import type { Config } from '../config/config.ts';
import type { PolicyFacts } from './cells.ts';

type Described = Pick<Config, 'clients' | 'destinations' | 'hops' | 'limits' | 'sourceIp' | 'tlsServer'>;

export function describePolicy(config: Described, inForce: Pick<PolicyFacts, 'hash' | 'file' | 'loadedAt' | 'warnings'>): PolicyFacts {
  const { clients, destinations, limits } = config;
  return { ...inForce, clients: clients.map(nameOf), destinations: destinations.map(nameOf), limits, certificates: readExpiries(config) };
}

const nameOf = ({ name }: { readonly name: string }): string => name;

const CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g;

/** By the key of the configuration that names the file: Unix time in seconds when the first certificate in it expires. */
function readExpiries({ destinations, hops, sourceIp, tlsServer }: Described): ReadonlyMap<string, number> {
  const files: [key: string, pem: string | null][] = [
    ['tlsServer.certFile', tlsServer?.cert ?? null],
    ['tlsServer.clientCaFile', tlsServer?.clientCa ?? null],
  ];
  const probe = sourceIp?.probe ?? null;
  const upstreams = [
    ...destinations.map(({ name, tls }) => ({ section: `destinations.${name}`, tls })),
    ...hops.map(({ name, tls }) => ({ section: `hops.${name}`, tls })),
    ...(probe === null ? [] : [{ section: 'sourceIp.probe', tls: probe.tls }]),
  ];
  for (const { section, tls } of upstreams) files.push([`${section}.tls.certFile`, tls.cert], [`${section}.tls.caFile`, tls.ca]);

  const expiries = new Map<string, number>();
  for (const [key, pem] of files) {
    const ends = (pem?.match(CERTIFICATE) ?? []).map((block) => new X509Certificate(block).validToDate.getTime() / 1000);
    if (ends.length > 0) expiries.set(key, Math.min(...ends));
  }
  return expiries;
}
