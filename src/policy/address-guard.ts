/**
 * Checks a resolved address of a destination or a parent proxy just before it
 * is dialled: never the proxy itself; only the listed ranges if there are any,
 * otherwise public unicast. For destinations, report mode adds public addresses
 * outside the ranges, and nothing else.
 */
import type { Config, DestinationConfig, HopConfig } from '../config/config.ts';
import { Fault } from '../errors.ts';
import { type AddressClass, type ClassifiedAddress, classifyAddress } from './address-class.ts';
import { ANONYMOUS } from './client-table.ts';
import { buildCidrTable } from './tables.ts';

/**
 * The ranges of the destination are compiled here, once.
 *
 * @param destination with `key`: where its ranges are configured, if not in the destination
 * @param isSelf whether this canonical address and port is one of our own listeners
 * @param mode `report`: public addresses pass even if ranges are listed. Call an enforcing guard first: an
 * address that has to be reported passes only if that guard permits none
 * @returns a function of the shape dial.ts calls AddressGuard: null, or why the address may not be dialled
 *   (`loop`, or `address-not-allowed`)
 * @throws TypeError when `destination.addresses` holds something that is not a CIDR
 */
export function createAddressGuard(
  destination: Pick<DestinationConfig, 'name' | 'addresses'> & { readonly key?: string },
  isSelf: (address: string, port: number) => boolean,
  mode: 'enforce' | 'report' = 'enforce',
): (address: string, port: number) => Fault | null {
  const ranges = destination.addresses === null ? null : buildCidrTable([destination.addresses]);
  const anonymous = destination.name === ANONYMOUS.name;
  const subject = anonymous ? 'no destination' : destination.name;
  const { key = anonymous ? 'the addresses of a destination for this host' : `destinations.${subject}.addresses` } = destination;

  const refuse = (detail: string, remedy: string, code: 'address-not-allowed' | 'loop' = 'address-not-allowed'): Fault =>
    new Fault(code, detail, { subject, remedy });

  return (address, port) => {
    const known = classifyAddress(address);
    if (known === null) return refuse(`${address} is not a plain IP address`, 'Make the name resolve to addresses without a zone id.');
    if (isSelf(known.canonical, port))
      return refuse(
        `${known.canonical} port ${port} is this proxy itself`,
        'Make the name resolve to the partner, not to this proxy.',
        'loop',
      );
    if (ranges !== null) {
      if (ranges.find(known.canonical) !== -1) return null;
      if (mode === 'report' && known.class === 'public') return null;
      return refuse(
        `${describeAddress(known)} is outside the ranges listed in ${key}`,
        `If the partner has moved, add its range to ${key}.`,
      );
    }
    if (known.class === 'public') return null;
    return refuse(
      `${describeAddress(known)}; only public addresses are dialled unless ranges are listed`,
      `If the partner is meant to be there, list all of its ranges in ${key}: from then on no other address is dialled, public or not.`,
    );
  };
}

/** Of the type AddressGuard of dial.ts. */
type Guard = ReturnType<typeof createAddressGuard>;

/** Both guards of a destination: the lenient one is used if the enforcing one permits no address. */
export interface AddressGuards {
  readonly enforcing: Guard;
  /** For report mode; null where it is off. */
  readonly lenient: Guard | null;
}

/** Guards of one destination. `isSelf` gets canonical addresses. */
export function createAddressGuards(
  destination: Pick<DestinationConfig, 'name' | 'addresses' | 'report'>,
  mode: Config['mode'],
  isSelf: (address: string, port: number) => boolean,
): AddressGuards {
  const reports = mode === 'report' || destination.report;
  return {
    enforcing: createAddressGuard(destination, isSelf),
    lenient: reports ? createAddressGuard(destination, isSelf, 'report') : null,
  };
}

/** A resolved address, and whether it would be dialled. */
export interface SurveyedAddress {
  readonly address: string;
  /** Why it is not dialled if the policy is enforced; null: it is. */
  readonly refusal: Fault | null;
  /** Report mode still dials it, if there is no other. */
  readonly reported: boolean;
}

/** The guards' results for each address, for explanations. */
export function surveyAddresses({ enforcing, lenient }: AddressGuards, addresses: readonly string[], port: number): SurveyedAddress[] {
  return addresses.map((address) => {
    const refusal = enforcing(address, port);
    return { address, refusal, reported: refusal !== null && lenient?.(address, port) === null };
  });
}

/** `10.40.1.2 (private, RFC 1918)`. */
export function describeAddress(known: ClassifiedAddress): string {
  const via = known.via === null || known.via === 'mapped' ? '' : ` through ${known.via}`;
  const reference = known.reference === null ? '' : `, ${known.reference}`;
  return `${known.canonical} (${known.class}${via}${reference})`;
}

// Checks an address of a parent proxy before it is dialled: never the proxy
// itself; only the listed ranges if there are any, otherwise any class where a
// parent can be. Private addresses are such a class: gateways usually have
// them.

const LISTABLE_CLASSES: ReadonlySet<AddressClass> = new Set(['public', 'private', 'unique-local', 'shared', 'site-local']);

/**
 * The ranges are compiled here, once. Report mode does not widen them: they
 * limit the proxy's route, not a client's requests.
 *
 * @param isSelf whether this canonical address and port is one of our own listeners
 * @returns a function of the shape dial.ts calls AddressGuard: null, or why not (`loop`, or `hop-failed`)
 * @throws TypeError when `hop.addresses` holds something that is not a CIDR
 */
export function createHopGuard(
  { name, addresses }: Pick<HopConfig, 'name' | 'addresses'>,
  isSelf: (address: string, port: number) => boolean,
): (address: string, port: number) => Fault | null {
  const ranges = addresses === null ? null : buildCidrTable([addresses]);
  const key = `hops.${name}.addresses`;

  return (address, port) => {
    const known = classifyAddress(address);
    if (known === null)
      return new Fault('hop-failed', `${address} is not a plain IP address`, {
        subject: `hop ${name}`,
        remedy: 'Make the name of the parent resolve to addresses without a zone id.',
      });
    if (isSelf(known.canonical, port))
      return new Fault('loop', `${known.canonical} port ${port} is this proxy itself`, {
        subject: `hop ${name}`,
        remedy: `Name another proxy in hops.${name}.url: this one cannot be its own parent.`,
      });
    if (ranges === null ? LISTABLE_CLASSES.has(known.class) : ranges.find(known.canonical) !== -1) return null;
    const why = ranges === null ? 'where no parent is looked for unless ranges are listed' : `outside the ranges listed in ${key}`;
    return new Fault('hop-failed', `${describeAddress(known)} is ${why}`, {
      subject: `hop ${name}`,
      remedy: `If the parent is meant to be there, list its range in ${key}.`,
    });
  };
}
