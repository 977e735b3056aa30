/** The metrics of overload. */
import { type Exposition, gauge } from './exposition.ts';

const OVERLOAD_CAUSES = ['loop', 'memory'] as const;

/** Why new requests are refused, as metrics show it; null: they are not. */
interface WatchedOverload {
  readonly cause: (typeof OVERLOAD_CAUSES)[number] | null;
}

/** The source of the overload metric. */
export interface OverloadMetrics {
  /** This is read at every scrape from now on. */
  readonly watchOverload: (overload: WatchedOverload) => void;
}

/** Registers the metric; nothing is overloaded before `watchOverload`. */
export function createOverloadMetrics(exposition: Exposition): OverloadMetrics {
  let overload: WatchedOverload = { cause: null };
  gauge(exposition, 'overloaded', 'Whether new requests are refused because the event loop or the memory has reached its limit.', ['reason'], (set) => {
    for (const cause of OVERLOAD_CAUSES) set({ reason: cause }, overload.cause === cause ? 1 : 0);
  });
  return {
    watchOverload: (watched) => {
      overload = watched;
    },
  };
}
