/** Hops as a configuration would give them, for tests that dial by them. */
import type { HopConfig, ParentConfig, UpstreamTlsConfig } from '../../src/config/config.ts';
import type { HopStep } from '../../src/dial/dial.ts';

export const NO_TLS: UpstreamTlsConfig = { ca: null, cert: null, key: null, serverName: null };

export function makeHop(name: string, parents: readonly ParentConfig[], changes: Partial<HopConfig> = {}): HopConfig {
  return { name, parents, addresses: null, credentials: null, tls: NO_TLS, connect: 5_000, coolDown: 30_000, ...changes };
}

/** Whose addresses nobody minds. */
export function stepsOf(...hops: readonly HopConfig[]): HopStep[] {
  return hops.map((hop) => ({ hop, guard: () => null }));
}

export const parentAt = (port: number, scheme: ParentConfig['scheme'] = 'http', host = 'parent.test'): ParentConfig => ({ scheme, host, port });
