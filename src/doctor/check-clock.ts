/** This host's clock beside those of the servers that answered. */
import { type Finding, fail, ok, skipped } from './finding.ts';

/** Certificates and tokens bear less than this; a Date field has whole seconds, and is as old as the answer. */
const MOST_MS = 60_000;

export function checkClock(clocks: readonly { readonly where: string; readonly ahead: number }[]): Finding[] {
  if (clocks.length === 0) return [skipped('', 'no answer had a Date to compare with')];
  // One server may be wrong by itself: the one nearest to ours counts.
  const nearest = clocks.reduce((best, clock) => (Math.abs(clock.ahead) < Math.abs(best.ahead) ? clock : best));
  const seconds = Math.round(Math.abs(nearest.ahead) / 1000);
  const seen = `this host is ${seconds} s ${nearest.ahead > 0 ? 'behind' : 'ahead of'} ${nearest.where}`;
  if (Math.abs(nearest.ahead) > MOST_MS) return [fail('', 'clock-skew', seen, 'Set the clock of this host (NTP): certificates and tokens are judged by it.')];
  return [ok('', seen)];
}
