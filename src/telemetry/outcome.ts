/** How a request ended, in one word: what the counters and the level of a log line go by. */
import { type FaultCode, FAULTS } from '../errors.ts';
import type { AccessRecord } from './access-record.ts';

/**
 * - `allowed`: let through, and ended as it should.
 * - `denied`: refused by us: the policy, a malformed request, a full limit, draining.
 * - `failed`: not refused, yet the upstream or this proxy could not serve it to the end.
 * - `aborted`: the client went away first, or stopped reading.
 */
export type Outcome = 'allowed' | 'denied' | 'failed' | 'aborted';

const ABORTS: ReadonlySet<FaultCode> = new Set(['client-closed', 'client-stalled']);
/** These also end what was let through long ago. */
const REFUSED_UNLESS_DIALLED: ReadonlySet<FaultCode> = new Set(['limit-reached', 'draining']);

const CODES = Object.keys(FAULTS) as FaultCode[];
const isRefusal = (code: FaultCode): boolean => FAULTS[code].blame === 'client' || FAULTS[code].blame === 'policy';

/** Codes of `denied`, those aside that a verdict alone makes one. */
export const DENIAL_CODES: readonly FaultCode[] = CODES.filter((code) => !ABORTS.has(code) && (isRefusal(code) || REFUSED_UNLESS_DIALLED.has(code)));
/** Codes of a dial, or of an upstream that was dialled. */
export const UPSTREAM_CODES: readonly FaultCode[] = CODES.filter((code) => !isRefusal(code) || code === 'address-not-allowed');

/** Never throws; the same record gives the same answer until it changes. */
export function outcomeOf(record: AccessRecord): Outcome {
  const { code } = record;
  if (code === 'ok') return 'allowed';
  if (ABORTS.has(code)) return 'aborted';
  if (record.verdict === 'deny') return 'denied';
  if (isRefusal(code)) return 'denied';
  return REFUSED_UNLESS_DIALLED.has(code) && !record.dialled ? 'denied' : 'failed';
}

/** Whether the request became a tunnel: a CONNECT we answered, raw TLS that was dialled for, or an exchange that was upgraded. */
export function isTunnel({ became }: AccessRecord): boolean {
  return became === 'tunnel';
}

/** Whether it could have become nothing else. */
export function asksForTunnel({ form }: AccessRecord): boolean {
  return form === 'connect' || form === 'sni';
}
