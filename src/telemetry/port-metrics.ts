/** NAT ports and who uses them up: what the port budget counts, and the clients that take a port for each request. */
import type { Exposition } from './exposition.ts';
import type { AccessRecord } from './access-record.ts';
import type { Cells } from './cells.ts';
import { asksForTunnel, isTunnel } from './outcome.ts';
import { counter, gauge } from './register.ts';

/** NAT ports of a destination: of the addresses it went to, those of the one with the most in use. */
export interface NatPortUsage {
  readonly used: number;
  readonly highWater: number;
  readonly refused: number;
}

export interface NatPorts {
  /** Null: not limited. */
  readonly limit: number | null;
  readonly destinations: ReadonlyMap<string, NatPortUsage>;
}

export const NO_NAT_PORTS: NatPorts = { limit: null, destinations: new Map() };

/**
 * A tunnel that is over sooner than this, ms, has held its NAT port longer
 * closed than open: Cloud NAT keeps it for 30 s or more. How many requests
 * were in it nobody sees; it is what a client makes that opens one for each.
 */
const SHORT_MS = 30_000;

/** Whether a tunnel carried something and was over soon, without being cut. */
export function isShortTunnel(record: AccessRecord): boolean {
  return record.code === 'ok' && asksForTunnel(record) && isTunnel(record) && record.durationMs < SHORT_MS && record.bytesSent > 0 && record.bytesReceived > 0;
}

/** @param natPorts asked at every scrape */
export function registerPorts(exposition: Exposition, cells: Cells, natPorts: () => NatPorts): void {
  gauge(exposition, 'nat_ports_limit', 'NAT ports for connections to one address and port.', [], (set) => {
    const { limit } = natPorts();
    if (limit !== null) set({}, limit);
  });
  const each = (metric: keyof NatPortUsage, set: (labels: { destination: string }, value: number) => void): void => {
    const { destinations } = natPorts();
    for (const destination of cells.destinations.keys()) {
      const usage = destinations.get(destination);
      if (usage !== undefined || destination !== '-') set({ destination }, usage?.[metric] ?? 0);
    }
  };
  gauge(exposition, 'nat_ports_used', 'NAT ports in use, those the NAT still keeps included; of the addresses of a destination the one with the most.', ['destination'], (set) => {
    each('used', set);
  });
  gauge(exposition, 'nat_ports_high_water', 'The most NAT ports that were in use at once since the start.', ['destination'], (set) => {
    each('highWater', set);
  });
  counter(exposition, 'nat_ports_refused_total', 'Dials that got no NAT port.', ['destination'], (set) => {
    each('refused', set);
  });
  counter(exposition, 'port_per_request_total', 'Tunnels that were over within 30 seconds: a NAT port each.', ['client'], (set) => {
    for (const [client, count] of cells.shortTunnels) set({ client }, count);
  });
}
