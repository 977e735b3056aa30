/** Counts what proves, or disproves, that partners see the right source address. docs/source-ip.md says what each result means. */
import type { Exposition } from './exposition.ts';
import { counter, gauge } from './register.ts';
import type { SourceResult, Telemetry } from './telemetry.ts';

/** Registers the metrics; each of the functions returned is the method of Telemetry of that name. */
export function createSourceMetrics(exposition: Exposition): Pick<Telemetry, 'sourceAsked' | 'sourceProbed' | 'whitelistSuspected'> {
  const probes = new Map<SourceResult, number>();
  const suspects = new Map<string, boolean>();
  let match: 0 | 1 | null = null;
  let seen: string | null = null;
  let lastSuccess: number | null = null;

  gauge(exposition, 'source_ip_match', 'Whether the source address seen by the latest probe is expected; absent while that is not known.', [], (set) => {
    if (match !== null) set({}, match);
  });
  gauge(exposition, 'source_ip_info', 'Source address seen by the latest probe; the value is always 1.', ['ip'], (set) => {
    if (seen !== null) set({ ip: seen }, 1);
  });
  counter(exposition, 'source_ip_probes_total', 'Probes of the source address, by result.', ['result'], (set) => {
    for (const [result, count] of probes) set({ result }, count);
  });
  gauge(exposition, 'source_ip_last_success_timestamp_seconds', 'When a probe was last answered with an address, Unix time.', [], (set) => {
    if (lastSuccess !== null) set({}, lastSuccess);
  });
  gauge(exposition, 'whitelist_suspect', 'Whether connects to the partner time out although resolver and source address are well.', ['destination'], (set) => {
    for (const [destination, suspected] of suspects) set({ destination }, suspected ? 1 : 0);
  });

  return {
    sourceAsked: () => {
      match = null;
      seen = null;
      lastSuccess = null;
    },
    sourceProbed: (result, address, at) => {
      probes.set(result, (probes.get(result) ?? 0) + 1);
      match = result === 'match' ? 1 : result === 'mismatch' ? 0 : null;
      seen = address;
      if (address !== null) lastSuccess = at / 1000;
    },
    whitelistSuspected: (destination, suspected) => {
      if (suspected === null) suspects.delete(destination);
      else suspects.set(destination, suspected);
    },
  };
}
