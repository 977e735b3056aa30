/** The dialler of a configuration: its resolver, its cache, its clocks. */
import type { Socket } from 'node:net';
import type { Config } from '../config/config.ts';
import type { Fault } from '../errors.ts';
import type { CoolDowns } from './cool-downs.ts';
import type { Dialler } from './dial.ts';
import { createDialler } from './dialler.ts';
import { dnsLookup, type Lookup, systemLookup } from './lookup.ts';
import type { PortBudget } from './ports.ts';
import { createResolver } from './resolver.ts';

export interface NamedDiallerOptions {
  /** Instead of the configured servers or the system's resolver; null for those. */
  readonly lookup: Lookup | null;
  /** Told when an expired answer serves because the resolver fails. */
  readonly onStale: (host: string, error: Fault) => void;
  /** Which parents failed of late: outlives this dialler. */
  readonly coolDowns: CoolDowns;
  /** Outlives this dialler, too. */
  readonly ports: PortBudget;
  /** Whether a connection leads back to this very proxy. */
  readonly isOurs: (socket: Socket, port: number) => boolean;
}

/** All that a dialler knows of a configuration: equal terms make an equal dialler. */
export interface DiallerTerms extends Pick<Config, 'dns' | 'timeouts'> {
  /** Our `Via` value for requests to parents; null: none. */
  readonly via: string | null;
}

export function diallerTerms({ name, headers, dns, timeouts }: Pick<Config, 'name' | 'headers' | 'dns' | 'timeouts'>): DiallerTerms {
  return { via: headers.via ? `1.1 ${name}` : null, dns, timeouts };
}

export function createNamedDialler({ via, dns, timeouts }: DiallerTerms, options: NamedDiallerOptions): Dialler {
  const { lookup, onStale, coolDowns, ports, isOurs } = options;
  const ask = lookup ?? (dns.servers.length > 0 ? dnsLookup(dns.servers) : systemLookup);
  const resolver = createResolver({ lookup: ask, dns, timeout: timeouts.resolve, onStale });
  return createDialler({ resolver, timeouts, ports, isOurs, coolDowns, via });
}
