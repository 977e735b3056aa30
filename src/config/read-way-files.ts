/** Reads the files that ways to upstreams need: certificates of destinations, parents and the probe, credentials of parents. */
import type { HopCredentials, UpstreamTlsConfig } from './config.ts';
import type { Draft } from './draft.ts';
import { readCredentials } from './read-credentials.ts';
import { readTlsFiles, type TlsReading } from './tls-files.ts';

export interface WayFiles {
  tls(section: 'destinations' | 'hops' | 'sourceIp', name: string): UpstreamTlsConfig;
  credentials(hop: string): HopCredentials | null;
}

const NO_TLS: UpstreamTlsConfig = { ca: null, cert: null, key: null, serverName: null };

export function readWayFiles({ destinations, hops, probe }: Draft, reading: TlsReading): WayFiles {
  const tls = new Map<string, UpstreamTlsConfig>();
  const sections = { destinations, hops, sourceIp: new Map([['probe', probe]]) } as const;
  for (const [section, entries] of Object.entries(sections)) {
    for (const [name, entry] of entries) {
      if (entry.tls !== undefined) tls.set(`${section} ${name}`, readTlsFiles(entry.tls, [section, name, 'tls'], reading));
    }
  }
  const credentials = new Map<string, HopCredentials | null>();
  for (const [name, { credentialsFile, url = [] }] of hops) {
    const path = ['hops', name, 'credentialsFile'];
    const found = readCredentials(credentialsFile, path, reading);
    credentials.set(name, found);
    if (found === null || !url.some((parent) => parent?.scheme === 'socks5')) continue;
    // RFC 1929 §2: each has a length of one byte.
    if (found.kind === 'bearer') reading.complain(path, 'A SOCKS5 parent takes no token.', 'Put user:password into the file.');
    else if (Buffer.byteLength(found.user) > 255 || Buffer.byteLength(found.password) > 255) reading.complain(path, 'A SOCKS5 parent takes 255 bytes of user and of password at most.', 'Use shorter ones.');
  }
  return {
    tls: (section, name) => tls.get(`${section} ${name}`) ?? NO_TLS,
    credentials: (hop) => credentials.get(hop) ?? null,
  };
}
