/** Parts of a proxy that log their events, each created from a configuration. */
import { isDeepStrictEqual } from 'node:util';
import type { Config } from './config/config.ts';
import { CircuitBreaker } from './dial/circuit-breaker.ts';
import { CoolDowns } from './dial/cool-downs.ts';
import { descriptorNeeds, Descriptors } from './descriptors.ts';
import type { Dialler } from './dial/dial.ts';
import { createNamedDialler, diallerTerms, type NamedDiallerOptions } from './dial/dialler.ts';
import { Fault } from './errors.ts';
import { Overload, type OverloadProbes, type OverloadTerms } from './overload/overload.ts';
import { type Authenticator, type AuthenticatorOptions, createAuthenticator } from './identity/authenticator.ts';
import type { AdminRefusal } from './telemetry/cells.ts';
import { RareNotice } from './telemetry/rare-notice.ts';
import type { Telemetry } from './telemetry/telemetry.ts';

type Notices = Pick<Telemetry, 'notice'>;

/** Cool-downs that log when a parent proxy fails and when it is back. */
export function buildCoolDowns(telemetry: Notices): CoolDowns {
  return new CoolDowns({
    onFailed: ({ coolDown }, parent, reason) => {
      telemetry.notice('warn', 'a parent proxy failed, and is tried after the others for now', { parent, forMs: coolDown, reason });
    },
    onBack: (_, parent) => {
      telemetry.notice('info', 'a parent proxy is back', { parent });
    },
  });
}

/** Circuits that log when one opens and when it closes. @param now monotonic ms */
export function buildCircuits({ destinations }: Pick<Config, 'destinations'>, telemetry: Notices, now: () => number): CircuitBreaker {
  const circuits = new CircuitBreaker({
    now,
    onOpened: (at, reason, failures) => {
      telemetry.notice('warn', 'the circuit of an upstream address has opened', { ...at, failures, reason });
    },
    onClosed: (at, why) => {
      telemetry.notice('info', 'the circuit of an upstream address is closed again', { ...at, why });
    },
  });
  circuits.adopt(destinations);
  return circuits;
}

/** A dialler that logs each use of an expired DNS answer; it also calls `parts.onStale`. */
export function buildDialler(config: Config, parts: NamedDiallerOptions, telemetry: Notices): Dialler {
  return createNamedDialler(diallerTerms(config), {
    ...parts,
    onStale: (host, error) => {
      parts.onStale(host, error);
      telemetry.notice('warn', 'the resolver fails, so an expired answer is used', { host, reason: error.message });
    },
  });
}

/** Whether the dialler of one configuration can be used for the other. */
export function sharesDialler(config: Config, other: Config): boolean {
  return isDeepStrictEqual(diallerTerms(config), diallerTerms(other));
}

/** Reads keys until it is closed. */
export function buildAuthenticator({ clients }: Config, telemetry: Notices, wanting: AuthenticatorOptions['wanting']): Authenticator {
  return createAuthenticator({
    clients,
    wanting,
    now: Date.now,
    monotonic: performance.now.bind(performance),
    onKeyFault: (issuer, error) => {
      telemetry.notice('error', 'the keys of a token issuer cannot be read', { issuer, reason: Fault.from(error).message });
    },
  });
}

/** @param limit how many files the process may have open; null: not limited, or not known */
export function buildDescriptors(limit: number | null, telemetry: Notices & Pick<Telemetry, 'descriptorsRefused'>): Descriptors {
  const rare = new RareNotice({ telemetry });
  return new Descriptors({
    limit,
    onRefused: (what, open, most) => {
      telemetry.descriptorsRefused(what);
      rare.notice('error', 'file descriptors are running out: connections or requests are refused', { what, open, limit: most });
    },
  });
}

/** Logs when it begins to refuse new requests, and when that ends. */
export function buildOverload(terms: OverloadTerms, telemetry: Notices, probes: OverloadProbes = {}): Overload {
  return new Overload({
    ...probes,
    terms,
    onChange: ({ cause, turnMs, acceptsPerTurn, memory, refused }) => {
      const figures = {
        turnMs: Math.round(turnMs * 10) / 10,
        acceptsPerTurn: Math.round(acceptsPerTurn * 10) / 10,
        ...(memory === null ? {} : { memoryOf: memory.of, memoryUsed: memory.used, memoryLimit: memory.limit }),
      };
      if (cause === null) telemetry.notice('info', 'no longer overloaded: every new request is let in', { ...figures, refused });
      else telemetry.notice('error', 'overloaded: new requests are refused', { cause, ...figures });
    },
  });
}

/** For `/readyz`: only a warning, because the load of a removed replica moves to the others. */
export function warnOfOverload({ cause }: Pick<Overload, 'cause'>): string[] {
  if (cause === null) return [];
  return [
    cause === 'memory'
      ? 'The proxy is almost out of memory, so new requests are refused. Give it more, or add a replica.'
      : 'The proxy has more to do than it can, so some new requests are refused. Add a replica.',
  ];
}

/** Called at the start and at each reload: the process keeps its limit, and the configuration may need more. */
export function warnAboutOpenFiles(config: Config, limit: number | null, telemetry: Notices): void {
  const { all } = descriptorNeeds(config);
  if (limit === null || limit >= all) return;
  telemetry.notice(
    'warn',
    'the limit of open files is lower than the configured limits need: connections are refused before those are reached',
    {
      openFiles: limit,
      needed: all,
      remedy: `raise the limit (ulimit -n) to ${all}, or lower limits.connections or limits.tunnels`,
    },
  );
}

/** The messages of the log, at most once a minute each. */
const ADMIN_REFUSED: Readonly<Record<AdminRefusal, string>> = {
  connections: 'the admin port refused a connection: all are in use',
  evicted: 'the admin port closed an idle connection to make room for another',
  host: 'the admin port refused a request: unknown host name',
  'cross-site': 'the admin port refused a request from a page of another site',
  pipelined: 'the admin port closed a connection that sent a request before the last one was answered',
  busy: 'the admin port refused a question: too many are in progress',
};

/** @returns callbacks that count and log refusals of the admin port, and log failed answers */
export function buildAdminNotices(telemetry: Notices & Pick<Telemetry, 'adminRefused'>): {
  onRefused(reason: AdminRefusal, address: string): void;
  onFailed(error: Error): void;
} {
  const rare = new RareNotice({ telemetry });
  return {
    onRefused(reason, address) {
      telemetry.adminRefused(reason);
      rare.notice('warn', ADMIN_REFUSED[reason], { address });
    },
    onFailed(error) {
      rare.notice('error', 'the admin port could not answer a request', { error: error.message, stack: error.stack ?? '' });
    },
  };
}
