/** Addresses as findings show them: each with the kind of place it is. */
import { classifyAddress } from '../policy/address-class.ts';
import { describeAddress } from '../policy/address-guard.ts';

export function describeAddresses(addresses: readonly string[]): string {
  return addresses.map((address) => {
    const known = classifyAddress(address);
    return known === null ? address : describeAddress(known);
  }).join(', ');
}
