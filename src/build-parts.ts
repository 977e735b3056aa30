/** Parts of a proxy that tell the log what befalls them, each made from a configuration. */
import type { Config } from './config/config.ts';
import type { Dialler } from './dial/dial.ts';
import type { Lookup } from './dial/lookup.ts';
import type { PortBudget } from './dial/ports.ts';
import { createNamedDialler } from './dial/named-dialler.ts';
import { Fault } from './errors.ts';
import { type Authenticator, createAuthenticator } from './identity/authenticator.ts';
import type { Telemetry } from './telemetry/telemetry.ts';

type Notices = Pick<Telemetry, 'notice'>;

/** @param lookup instead of the configured resolver; null for that */
export function buildDialler(config: Config, lookup: Lookup | null, telemetry: Notices, ports: PortBudget): Dialler {
  return createNamedDialler(config, {
    lookup,
    ports,
    onStale: (host, error) => {
      telemetry.notice('warn', 'the resolver fails, so an expired answer is used', { host, reason: error.message });
    },
  });
}

/** Reads keys until it is closed. */
export function buildAuthenticator({ clients }: Config, telemetry: Notices): Authenticator {
  return createAuthenticator({
    clients,
    now: Date.now,
    onKeyFault: (issuer, error) => {
      telemetry.notice('error', 'the keys of a token issuer cannot be read', { issuer, reason: Fault.from(error).message });
    },
  });
}
