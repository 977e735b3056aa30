/** Which port raw TLS is for: its ClientHello names a host and no port. */
import type { DestinationConfig } from '../config/config.ts';
import { firstPort, hasPort } from '../target/port-range.ts';
import type { HostTable } from './host-table.ts';

const HTTPS = 443;

/**
 * 443 where a destination with this host lists it, else the first port of the
 * first such destination; those that take the form sni go before the others.
 * 443 for a host in none: that is what a client means.
 */
export function tlsPortOf(hosts: HostTable, destinations: readonly DestinationConfig[], host: string): number {
  let first: number | null = null;
  let other: number | null = null;
  for (const index of hosts.find(host)) {
    const destination = destinations[index];
    if (destination === undefined) continue;
    const port = hasPort(destination.ports, HTTPS) ? HTTPS : firstPort(destination.ports[0] ?? HTTPS);
    if (!destination.forms.includes('sni')) other ??= port;
    else if (port === HTTPS) return port;
    else first ??= port;
  }
  return first ?? other ?? HTTPS;
}
