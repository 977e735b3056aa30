/** What the admin port shows of the source address, as JSON and for people. */
import type { SourceResult } from '../telemetry/telemetry.ts';

/** Times are ISO 8601. */
export interface SourceView {
  readonly result: SourceResult | 'pending' | 'off';
  readonly expected: readonly string[];
  readonly seen: string | null;
  readonly at: string | null;
  readonly since: string | null;
  readonly code: string | null;
  readonly reason: string | null;
  readonly remark: string | null;
  /** Partners whose connects time out. */
  readonly silentPartners: readonly { readonly destination: string; readonly cause: string; readonly since: string; readonly timeouts: number; readonly words: string; readonly check: string }[];
  /** What was seen when an address was last known. */
  readonly lastSeen: { readonly address: string | null; readonly at: string } | null;
}
