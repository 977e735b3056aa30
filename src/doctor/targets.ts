/** The targets: each host and port of each destination, and its protocol as far as known. */
import type { Config, DestinationConfig } from '../config/config.ts';
import type { AddressGuard, DialTarget } from '../dial/dial.ts';
import { classifyAddress } from '../policy/address-class.ts';
import { type AddressGuards, createAddressGuards, createHopGuard, describeAddress } from '../policy/address-guard.ts';
import { buildHostTable } from '../policy/tables.ts';
import { type Authority, formatAuthority } from '../targets/host.ts';
import { firstPort, hasPort } from '../targets/port-range.ts';

/** One host and port of a destination, to be tried. */
export interface Target {
  readonly destination: DestinationConfig;
  /** Canonical; never a pattern. */
  readonly host: string;
  readonly port: number;
  /** It is the first of a range, and whether anything uses it is not known. */
  readonly guessed: boolean;
  /** `eco-sit.telus.internal:443`. */
  readonly where: string;
  /** The upstream's protocol there, as far as the configuration says. */
  readonly protocol: 'tls' | 'http' | 'unknown';
  readonly guards: AddressGuards;
}

type IsSelf = (address: string, port: number) => boolean;

/** @param asked hosts and ports to try where a destination has a pattern or a range for them */
export function targetsOf(config: Config, asked: readonly Authority[], isSelf: IsSelf): Target[] {
  const table = buildHostTable(config.destinations.map((destination) => destination.hosts));
  return config.destinations.flatMap((destination, index) => {
    const guards = createAddressGuards(destination, config.mode, isSelf);
    const meant = asked.filter(({ host }) => table.find(host).includes(index));
    const named = [...new Set([...destination.hosts.filter((host) => !host.startsWith('*')), ...meant.map(({ host }) => host)])];
    return named.flatMap((host) =>
      portsToTry(destination, host, meant).map(([port, guessed]) => ({
        destination,
        host,
        port,
        guessed,
        where: formatAuthority(host, port),
        protocol: protocolOf(destination, host, port),
        guards,
      })),
    );
  });
}

/** Of a range those that are known to be used, or else the first: not every port of a thousand is in use. */
function portsToTry(
  { gateway, ports }: DestinationConfig,
  host: string,
  asked: readonly Authority[],
): (readonly [port: number, guessed: boolean])[] {
  const used = new Set([...asked, ...(gateway === null ? [] : [gateway])].flatMap((known) => (known.host === host ? [known.port] : [])));
  return ports.flatMap((entry): (readonly [number, boolean])[] => {
    const known = typeof entry === 'number' ? [entry] : [...used].filter((port) => hasPort([entry], port));
    return known.length > 0 ? known.map((port) => [port, false]) : [[firstPort(entry), true]];
  });
}

/** Patterns for which no name was given. */
export function patternsOf({ destinations }: Config, targets: readonly Target[]): string[] {
  const tried = (pattern: string): boolean =>
    targets.some(({ host, destination }) => host.endsWith(pattern.slice(1)) && destination.hosts.includes(pattern));
  return destinations.flatMap(({ hosts }) => hosts.filter((host) => host.startsWith('*') && !tried(host)));
}

/** As the proxy checks: report mode lets more pass. */
export function targetGuard({ guards: { enforcing, lenient } }: Target): AddressGuard {
  return (address, port) => {
    const refusal = enforcing(address, port);
    return refusal === null || lenient === null ? refusal : lenient(address, port);
  };
}

/** As the proxy dials for a client at `local`, TLS where the target speaks it. */
export function dialTargetOf({ destination, host, port, protocol }: Target, isSelf: IsSelf, tls = protocol === 'tls'): DialTarget {
  const { proxyProtocol, resolve, via } = destination;
  return {
    host,
    port,
    // A new object each time: a resumed session would not show the certificate again.
    tls: tls ? { ...destination.tls } : null,
    via: via.map((hop) => ({ hop, guard: createHopGuard(hop, isSelf) })),
    resolve,
    // No client: LOCAL, as health checks say it.
    ...(proxyProtocol === 'off' ? {} : { proxied: { version: proxyProtocol, address: '', port: 0 } }),
  };
}

function protocolOf({ gateway }: DestinationConfig, host: string, port: number): Target['protocol'] {
  if (gateway?.host === host && gateway.port === port) return gateway.scheme === 'https' ? 'tls' : 'http';
  if (port === 443) return 'tls';
  return port === 80 ? 'http' : 'unknown';
}

/** Addresses as findings show them: each with the kind of place it is. */
export function describeAddresses(addresses: readonly string[]): string {
  return addresses
    .map((address) => {
      const known = classifyAddress(address);
      return known === null ? address : describeAddress(known);
    })
    .join(', ');
}
