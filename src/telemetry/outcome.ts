/** How a request ended, in one word: what the counters and the level of a log line go by. */
import { FAULTS } from '../errors.ts';
import type { AccessRecord } from './access-record.ts';

/**
 * - `allowed`: let through, and ended as it should.
 * - `denied`: refused by us: the policy, a malformed request, a full limit, draining.
 * - `failed`: not refused, yet the upstream or this proxy could not serve it to the end.
 * - `aborted`: the client went away first, or stopped reading.
 */
export type Outcome = 'allowed' | 'denied' | 'failed' | 'aborted';

/** Never throws; the same record gives the same answer until it changes. */
export function outcomeOf(record: AccessRecord): Outcome {
  const { code } = record;
  if (code === 'ok') return 'allowed';
  if (code === 'client-closed' || code === 'client-stalled') return 'aborted';
  if (record.verdict === 'deny') return 'denied';
  const { blame, status } = FAULTS[code];
  if (blame === 'client' || blame === 'policy') return 'denied';
  // The same code also ends what was let through long ago, and then the client has seen another status.
  if (code === 'limit-reached' || code === 'draining') return record.status === status ? 'denied' : 'failed';
  return 'failed';
}

/** Whether the request became a tunnel: a CONNECT we answered, raw TLS that was dialled for, or an exchange that was upgraded. */
export function isTunnel({ became }: AccessRecord): boolean {
  return became === 'tunnel';
}

/** Whether it could have become nothing else. */
export function asksForTunnel({ form }: AccessRecord): boolean {
  return form === 'connect' || form === 'sni';
}
