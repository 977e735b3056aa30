/** The circuits for operators: plain data, counts for the metrics, and warnings. */
import type { CircuitState } from './circuit.ts';
import { type Carried, place } from './dial.ts';

/** One address whose circuit is open, or that has failed recently. Times are ISO 8601. */
interface AddressCircuitView {
  readonly address: string;
  readonly state: CircuitState;
  /** In a row. */
  readonly failures: number;
  /** When it opened; null: it is closed. */
  readonly since: string | null;
  /** Reason of the latest failure. */
  readonly reason: string;
  /** When a request may try it; null: it is closed. */
  readonly nextTrial: string | null;
  /** The only client whose requests failed, and are refused; null: those of any. */
  readonly client: string | null;
}

/** One host and port of a destination, with the addresses that have failed. */
export interface CircuitsView {
  readonly destination: string;
  readonly host: string;
  readonly port: number;
  readonly carries: Carried;
  /** No address is left: requests are refused with `circuit-open`. */
  readonly refuses: boolean;
  readonly addresses: readonly AddressCircuitView[];
}

/** Of one destination, for the metrics. */
export interface CircuitCounts {
  /** Addresses whose circuit is open. */
  readonly open: number;
  /** Hosts and ports without any other address. */
  readonly refusing: number;
}

/** One sentence for each host and port whose requests are refused. */
export function warnOfCircuits(views: readonly CircuitsView[]): string[] {
  return views
    .filter(({ refuses }) => refuses)
    .map(({ destination, host, port, carries, addresses }) => {
      const since = addresses.flatMap((one) => one.since ?? []).toSorted()[0] ?? '-';
      const reasons = addresses.map(({ address, reason }) => `${address}: ${reason}`).join('; ');
      return `Requests to ${destination} (${carries}, ${place(host, port)}) are refused with circuit-open since ${since}: every address has failed (${reasons}).`;
    });
}
