/** Compares what was seen with what is expected, and says what a private address means. Pure. */
import type { SourceResult } from '../telemetry/telemetry.ts';
import { classifyAddress } from '../policy/address-class.ts';

/** @param seen canonical, as readAnswer gives it */
export function judge(seen: string, expected: readonly string[]): Exclude<SourceResult, 'unknown'> {
  if (expected.length === 0) return 'unjudged';
  return expected.some((address) => (classifyAddress(address)?.canonical ?? address) === seen) ? 'match' : 'mismatch';
}

/** What deserves a word about an address besides whether it is right; null for a public one. */
export function remarkOn(seen: string): string | null {
  const known = classifyAddress(seen);
  if (known === null || known.class === 'public') return null;
  const reference = known.reference === null ? '' : `, ${known.reference}`;
  return `${seen} is not a public address (${known.class}${reference}): the endpoint is on this side of the NAT, or no NAT is on the way to it`;
}
