/**
 * Judges an address of a parent proxy before it is dialled: never ourselves,
 * only the listed ranges where ranges are listed, otherwise any place where a
 * parent could be. The inside is one: that is where gateways stand.
 */
import type { HopConfig } from '../config/config.ts';
import { Fault } from '../errors.ts';
import { type AddressClass, classifyAddress } from './address-class.ts';
import { describeAddress } from './address-guard.ts';
import { buildCidrTable } from './cidr-table.ts';

const PLACES: ReadonlySet<AddressClass> = new Set(['public', 'private', 'unique-local', 'shared', 'site-local']);

/**
 * The ranges are compiled here, once. Report mode does not widen them: they
 * are about where we go, not about what a client may have.
 *
 * @param isSelf whether this canonical address and port is one of our own listeners
 * @returns a function of the shape dial.ts calls AddressGuard: null, or why not (`loop`, or `hop-failed`)
 * @throws TypeError when `hop.addresses` holds something that is not a CIDR
 */
export function createHopGuard({ name, addresses }: Pick<HopConfig, 'name' | 'addresses'>, isSelf: (address: string, port: number) => boolean): (address: string, port: number) => Fault | null {
  const ranges = addresses === null ? null : buildCidrTable([addresses]);
  const key = `hops.${name}.addresses`;

  return (address, port) => {
    const known = classifyAddress(address);
    if (known === null) return new Fault('hop-failed', `hop ${name}: ${address} is not a plain IP address`, { remedy: 'Make the name of the parent resolve to addresses without a zone id.' });
    if (isSelf(known.canonical, port)) return new Fault('loop', `hop ${name}: ${known.canonical} port ${port} is this proxy itself`, { remedy: `Name another proxy in hops.${name}.url: this one cannot be its own parent.` });
    if (ranges === null ? PLACES.has(known.class) : ranges.find(known.canonical) !== -1) return null;
    const why = ranges === null ? 'where no parent is looked for unless ranges are listed' : `outside the ranges listed in ${key}`;
    return new Fault('hop-failed', `hop ${name}: ${describeAddress(known)} is ${why}`, { remedy: `If the parent is meant to be there, list its range in ${key}.` });
  };
}
