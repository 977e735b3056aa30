/** The open tunnels: a bounded list for the admin port, a number per client for the metrics. */
import type { AccessRecord } from './access-record.ts';
import type { Cells } from './cells.ts';

/** A tunnel as the admin port shows it. */
export interface OpenTunnel {
  readonly requestId: string;
  readonly client: string;
  readonly clientAddress: string;
  readonly form: string;
  readonly host: string;
  readonly port: number;
  readonly destination: string;
  readonly upstreamAddress: string;
  /** Since the request began. */
  readonly ageMs: number;
  readonly bytesSent: number;
  readonly bytesReceived: number;
}

/** What `/tunnels` shows. */
export interface TunnelsView {
  readonly open: number;
  /** By client, most first. */
  readonly byClient: readonly { readonly client: string; readonly tunnels: number }[];
  /** The oldest. */
  readonly oldest: readonly OpenTunnel[];
}

/** Records of all open tunnels, in no order. */
export function* openRecords(cells: Cells): Generator<AccessRecord, void, undefined> {
  for (const { forms } of cells.destinations.values()) for (const { open } of forms.values()) yield* open;
}

/** Configured clients are listed with 0; others count under `-`. */
export function countByClient(cells: Cells): Map<string, number> {
  const counts = new Map<string, number>([...cells.denials.keys()].map((client) => [client, 0]));
  for (const { client } of openRecords(cells)) {
    const name = counts.has(client) ? client : '-';
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  return counts;
}

/**
 * @param most maximum number of tunnels listed
 * @param now performance.now(), ms
 */
export function viewTunnels(cells: Cells, most: number, now: number): TunnelsView {
  const oldest: AccessRecord[] = [];
  let open = 0;
  for (const record of openRecords(cells)) {
    open += 1;
    insert(oldest, record, most);
  }
  const byClient = [...countByClient(cells)].filter(([, tunnels]) => tunnels > 0).toSorted((one, other) => other[1] - one[1]);
  return {
    open,
    byClient: byClient.map(([client, tunnels]) => ({ client, tunnels })),
    oldest: oldest.map(
      ({ requestId, client, clientAddress, form, host, port, destination, upstreamAddress, startedAt, bytesSent, bytesReceived }) => ({
        requestId,
        client,
        clientAddress,
        form,
        host,
        port,
        destination,
        upstreamAddress,
        ageMs: Math.round(now - startedAt),
        bytesSent,
        bytesReceived,
      }),
    ),
  };
}

/** Keeps the oldest in order, without sorting thousands. */
function insert(oldest: AccessRecord[], record: AccessRecord, most: number): void {
  if (oldest.length >= most && record.startedAt >= (oldest.at(-1)?.startedAt ?? -Infinity)) return;
  let place = oldest.length;
  while (place > 0 && (oldest[place - 1]?.startedAt ?? 0) > record.startedAt) place -= 1;
  oldest.splice(place, 0, record);
  if (oldest.length > most) oldest.pop();
}
