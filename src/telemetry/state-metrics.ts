/** The metrics of states in which new requests are refused: a shutdown, and overload. */
import { counter, type Exposition, gauge } from './exposition.ts';

const DRAIN_ENDS = ['quiet', 'busy', 'cut'] as const;

/** A drain, as metrics show it. */
interface WatchedDrain {
  readonly state: 'running' | 'delay' | 'draining' | 'ended';
  /** Tunnels that it has ended. */
  readonly counts: Readonly<Record<(typeof DRAIN_ENDS)[number], number>>;
}

/** The source of the drain metrics. */
export interface DrainMetrics {
  /** This drain is read at every scrape from now on. */
  readonly watchDrain: (drain: WatchedDrain) => void;
}

/** Registers the metrics; there is none to show before `watchDrain`. */
export function createDrainMetrics(exposition: Exposition): DrainMetrics {
  let drain: WatchedDrain = { state: 'running', counts: { quiet: 0, busy: 0, cut: 0 } };
  gauge(exposition, 'draining', 'Whether the proxy is shutting down: 1 from the signal on, 0 before.', [], (set) => {
    set({}, drain.state === 'running' ? 0 : 1);
  });
  counter(exposition, 'drain_tunnels_ended_total', 'Tunnels that the shutdown has ended: at a quiet moment, while bytes moved, or cut at the deadline.', ['result'], (set) => {
    for (const result of DRAIN_ENDS) set({ result }, drain.counts[result]);
  });
  return {
    watchDrain: (watched) => {
      drain = watched;
    },
  };
}

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
