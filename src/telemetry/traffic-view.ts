/** The traffic of one destination, for the status page: counters, history, pool, tunnels, addresses. */
import type { Cells } from './cells.ts';
import { type HealthView, type ReachedAddress, viewHealth } from './destination-health.ts';
import type { DestinationNow, History } from './history.ts';

/** Of one destination now. */
export interface DestinationTraffic {
  readonly health: HealthView;
  readonly now: DestinationNow;
  /** Pooled connections. */
  readonly pool: { readonly active: number; readonly idle: number };
  /** Open. */
  readonly tunnels: number;
  readonly addresses: readonly ReachedAddress[];
  /** Expiry of the last certificate shown there, ms since the epoch; 0: none was. */
  readonly certificateEnds: number;
}

/** Null where the configuration has no such name. @param now of the history's clock, ms */
export function viewTraffic(cells: Cells, history: History, name: string, now: number): DestinationTraffic | null {
  const counted = cells.destinations.get(name);
  const recent = history.destination(name, now);
  if (counted === undefined || recent === null) return null;
  const { health, errors, connectionsActive, connectionsIdle, forms, reached } = counted;
  let tunnels = 0;
  for (const { open } of forms.values()) tunnels += open.size;
  return {
    health: viewHealth(name, health, errors),
    now: recent,
    pool: { active: connectionsActive, idle: connectionsIdle },
    tunnels,
    addresses: reached.list(),
    certificateEnds: reached.certificateEnds,
  };
}
