/**
 * Judges a resolved address for one destination, just before it is dialled:
 * never ourselves, only the listed ranges where ranges are listed, public
 * unicast otherwise.
 */
import ipaddr from 'ipaddr.js';
import type { DestinationConfig } from '../config/config.ts';
import { Fault } from '../errors.ts';
import { classifyAddress, parseAddress } from './address-class.ts';
import type { ClassifiedAddress } from './address-class.ts';

/**
 * The ranges of the destination are compiled here, once.
 *
 * @param isSelf whether this canonical address and port is one of our own listeners
 * @returns a function of the shape dial.ts calls AddressGuard: null, or why the address may not be dialled
 *   (`loop`, or `address-not-allowed`)
 * @throws TypeError when `destination.addresses` holds something that is not a CIDR
 */
export function createAddressGuard(
  destination: Pick<DestinationConfig, 'name' | 'addresses'>,
  isSelf: (address: string, port: number) => boolean,
): (address: string, port: number) => Fault | null {
  const ranges = destination.addresses?.map(parseRange) ?? null;
  const key = `destinations.${destination.name}.addresses`;

  return (address, port) => {
    const known = classifyAddress(address);
    const parsed = parseAddress(address);
    if (known === null || parsed === null) {
      return new Fault('address-not-allowed', `${destination.name}: ${address} is not a plain IP address`, {
        remedy: 'Make the name resolve to addresses without a zone id.',
      });
    }

    if (isSelf(known.canonical, port)) {
      return new Fault('loop', `${destination.name}: ${known.canonical} port ${port} is this proxy itself`, {
        remedy: 'Make the name resolve to the partner, not to this proxy.',
      });
    }

    if (ranges !== null) {
      if (ranges.some(([network, bits]) => network.kind() === parsed.kind() && parsed.match(network, bits))) return null;
      return new Fault(
        'address-not-allowed',
        `${destination.name}: ${describe(known)} is outside the ranges listed in ${key}`,
        { remedy: `If the partner has moved, add its range to ${key}.` },
      );
    }

    if (known.class === 'public') return null;
    return new Fault(
      'address-not-allowed',
      `${destination.name}: ${describe(known)}; only public addresses are dialled unless ranges are listed`,
      { remedy: `If the partner is meant to be there, list its range in ${key}.` },
    );
  };
}

function describe(known: ClassifiedAddress): string {
  const via = known.via === null || known.via === 'mapped' ? '' : ` through ${known.via}`;
  const reference = known.reference === null ? '' : `, ${known.reference}`;
  return `${known.canonical} (${known.class}${via}${reference})`;
}

function parseRange(text: string): readonly [ipaddr.IPv4 | ipaddr.IPv6, number] {
  if (!ipaddr.isValidCIDR(text)) throw new TypeError(`${text} is not a CIDR such as 10.40.0.0/16`);
  const [network, bits] = ipaddr.parseCIDR(text);
  // Mapped answers are compared as IPv4, so a mapped range has to be as well.
  if (network.kind() === 'ipv6' && bits >= 96 && (network as ipaddr.IPv6).isIPv4MappedAddress()) {
    return [(network as ipaddr.IPv6).toIPv4Address(), bits - 96];
  }
  return [network, bits];
}
