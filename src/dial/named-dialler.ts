/** The dialler of a configuration: its resolver, its cache, its clocks. */
import type { Config } from '../config/config.ts';
import type { Fault } from '../errors.ts';
import type { CoolDowns } from './cool-downs.ts';
import type { Dialler } from './dial.ts';
import { createDialler } from './dialler.ts';
import { dnsLookup, type Lookup, systemLookup } from './lookup.ts';
import { createResolver } from './resolver.ts';

/**
 * @param lookup instead of the configured servers or the system's resolver; null for those
 * @param onStale told when an expired answer serves because the resolver fails
 * @param coolDowns which parents failed of late: outlives this dialler; its own where there is none
 */
export function createNamedDialler({ name, headers, dns, timeouts }: Pick<Config, 'name' | 'headers' | 'dns' | 'timeouts'>, lookup: Lookup | null, onStale: (host: string, error: Fault) => void, coolDowns?: CoolDowns): Dialler {
  const ask = lookup ?? (dns.servers.length > 0 ? dnsLookup(dns.servers) : systemLookup);
  const resolver = createResolver({ lookup: ask, dns, timeout: timeouts.resolve, onStale });
  return createDialler({ resolver, timeouts, ...(coolDowns === undefined ? {} : { coolDowns }), via: headers.via ? `1.1 ${name}` : null });
}
