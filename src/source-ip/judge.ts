/**
 * Compares the observed address with the expected ones, and determines why a
 * partner may be silent. Pure.
 */
import { classifyAddress } from '../policy/address-class.ts';
import type { SourceResult } from '../telemetry/telemetry.ts';

/** @param seen canonical, as returned by readAnswer */
export function checkSeenAddress(seen: string, expected: readonly string[]): Exclude<SourceResult, 'unknown'> {
  if (expected.length === 0) return 'unjudged';
  return expected.some((address) => (classifyAddress(address)?.canonical ?? address) === seen) ? 'match' : 'mismatch';
}

/** A remark about an address besides whether it is right; null for a public one. */
export function remarkOn(seen: string): string | null {
  const known = classifyAddress(seen);
  if (known === null || known.class === 'public') return null;
  const reference = known.reference === null ? '' : `, ${known.reference}`;
  return `${seen} is not a public address (${known.class}${reference}): the endpoint is on this side of the NAT, or no NAT is on the route to it`;
}

// Why a partner does not answer: from the silence, the probe and the port budget together. Pure.

/** The facts when connects to a partner have timed out for a while. */
export interface SilenceFacts {
  /** Result of a probe since the silence began; `pending`: none has ended since; `off`: no probe is configured. */
  readonly source: SourceResult | 'pending' | 'off';
  /** Whether the resolver failed since the silence began, so that expired answers were used. */
  readonly stale: boolean;
  /** NAT ports in use towards the partner; a limit of null: not configured. */
  readonly ports: { readonly used: number; readonly limit: number | null };
}

/** Likely reason why a partner is silent (docs/source-ip.md). */
export type SilenceCause = 'whitelist' | 'source-address' | 'nat-ports' | 'stale-name' | 'way-out' | 'unproven';

/** Our count and the NAT's may differ by a few ports. */
const ALMOST_ALL = 0.9;

/** Level and text of the notice for each cause, and what to do. */
export const SILENCE: Readonly<Record<SilenceCause, { readonly level: 'warn' | 'error'; readonly words: string; readonly check: string }>> =
  {
    whitelist: {
      level: 'error',
      words: 'its whitelist probably lacks our source address',
      check: 'ask the partner whether it still permits our address; its firewall drops connections without an answer',
    },
    'source-address': {
      level: 'error',
      words: 'our source address is not the expected one',
      check: 'correct the source address: npx eco-egress verify-ip names likely causes',
    },
    'nat-ports': {
      level: 'error',
      words: 'the NAT is out of ports towards it',
      check: "look at the NAT's dropped packets; use fewer connections (the gateway path pools them), or give the NAT more ports",
    },
    'stale-name': {
      level: 'error',
      words: 'the resolver fails, so it is dialled where it was before',
      check: "fix the resolver: the log has its faults, and the partner's name may lead elsewhere by now",
    },
    'way-out': {
      level: 'error',
      words: 'nothing comes back from outside, the echo endpoint does not answer either',
      check: 'look at the route, the firewall, the network policy and the NAT: the route out is broken, for every partner',
    },
    unproven: {
      level: 'warn',
      words: 'its whitelist, the NAT or the route; nothing proves the source address',
      check: 'configure sourceIp.expected and sourceIp.probe, and run npx eco-egress verify-ip',
    },
  };

/** Null while a probe is pending. */
export function judgeSilence({ source, stale, ports }: SilenceFacts): SilenceCause | null {
  if (source === 'mismatch') return 'source-address';
  if (ports.limit !== null && ports.used >= ports.limit * ALMOST_ALL) return 'nat-ports';
  if (stale) return 'stale-name';
  switch (source) {
    case 'match':
      return 'whitelist';
    case 'unknown':
      return 'way-out';
    case 'pending':
      return null;
    default:
      return 'unproven';
  }
}
