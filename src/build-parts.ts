/** Parts of a proxy that tell the log what befalls them, each made from a configuration. */
import { isDeepStrictEqual } from 'node:util';
import type { Config } from './config/config.ts';
import { CoolDowns } from './dial/cool-downs.ts';
import type { Dialler } from './dial/dial.ts';
import type { Lookup } from './dial/lookup.ts';
import type { PortBudget } from './dial/ports.ts';
import { createNamedDialler } from './dial/named-dialler.ts';
import { Fault } from './errors.ts';
import { type Authenticator, createAuthenticator } from './identity/authenticator.ts';
import type { Telemetry } from './telemetry/telemetry.ts';

type Notices = Pick<Telemetry, 'notice'>;

/** What outlives the dialler of one configuration. */
export interface DialParts {
  /** Instead of the configured resolver; null for that. */
  readonly lookup: Lookup | null;
  readonly ports: PortBudget;
  readonly coolDowns: CoolDowns;
  /** Told, besides the log, when an expired answer is used because the resolver fails. */
  readonly onStale: () => void;
}

export function buildCoolDowns(telemetry: Notices): CoolDowns {
  return new CoolDowns({
    onFailed: ({ coolDown }, parent, reason) => {
      telemetry.notice('warn', 'a parent proxy failed, and is passed over', { parent, forMs: coolDown, reason });
    },
    onBack: (_, parent) => {
      telemetry.notice('info', 'a parent proxy is back', { parent });
    },
  });
}

export function buildDialler(config: Config, parts: DialParts, telemetry: Notices): Dialler {
  return createNamedDialler(config, {
    ...parts,
    onStale: (host, error) => {
      parts.onStale();
      telemetry.notice('warn', 'the resolver fails, so an expired answer is used', { host, reason: error.message });
    },
  });
}

/** Whether the dialler of one configuration, with all the names it knows, does for the other. */
export function sharesDialler(config: Config, other: Config): boolean {
  const terms = ({ name, headers, dns, timeouts }: Config): unknown => [name, headers.via, dns, timeouts];
  return isDeepStrictEqual(terms(config), terms(other));
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
