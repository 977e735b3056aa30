/** What the upstream's status line and header section must be before a client may see them. */
import { STATUS_CODES } from 'node:http';
import { Fault } from '../errors.ts';
import type { RawFields } from './raw-fields.ts';

/** Node refuses other characters in a reason phrase. */
const REASON_PHRASE = /^[\t\x20-\x7e\x80-\xff]+$/;

/** The upstream's own words where they can be passed on, the standard ones otherwise. */
export function reasonPhrase(statusCode: number, statusMessage: string | undefined): string {
  return statusMessage !== undefined && REASON_PHRASE.test(statusMessage) ? statusMessage : (STATUS_CODES[statusCode] ?? '');
}

/** Why a response head cannot be passed on; null when it can. Upgrades that were asked for do not come here. */
export function findHeadFault(statusCode: number, raw: RawFields): Fault | null {
  // RFC 9110 §15: 100 to 599, of which clients take whatever has three digits. §15.2.2: 101 only answers an Upgrade.
  if (statusCode < 100) return new Fault('upstream-malformed', `the upstream answered with the status ${statusCode}, which is none`);
  if (statusCode === 101) return new Fault('upstream-malformed', 'the upstream switched protocols without being asked to');
  for (let i = 0; i + 1 < raw.length; i += 2) {
    // Only this name is so long and matters here.
    if (raw[i]?.length !== 17 || String(raw[i]).toLowerCase() !== 'transfer-encoding') continue;
    // We ask for no other coding (RFC 9112 §7.4), and would pass the coded bytes on as if they were the content.
    if (String(raw[i + 1]).toLowerCase() !== 'chunked') return new Fault('upstream-malformed', 'the upstream used a transfer coding other than chunked');
  }
  return null;
}
