/** What a drain sees of requests in progress, and its forecast or progress for the admin port and the log. */
import type { Fault } from '../errors.ts';

/** The drain's view of a tunnel. */
export interface DrainTunnel {
  /** Grows with every byte. */
  readonly moved: number;
  /** The proxy holds no bytes of it. */
  readonly still: boolean;
  /** It is ending already. */
  readonly ending: boolean;
  /** Ends it in order: both sides see the end of the stream. */
  leave(fault: Fault): void;
  /** Ends it by a reset. */
  end(fault: Fault): void;
}

/** A request in progress. */
export interface DrainSubject {
  readonly record: { readonly client: string; readonly destination: string; readonly startedAt: number; readonly bytesReceived: number };
  /** Its protocol marks its own end, as TLS does: a FIN is not taken for the end of the content. */
  readonly tellsItsEnd: boolean;
  /** Null: it is not a tunnel, or not yet. */
  readonly tunnel: DrainTunnel | null;
  /** As recorded by the clock of the connections. */
  readonly connection: { readonly stamp: number; readonly seen: number; readonly seenAt: number; guard(step: () => void): void };
}

/** Its state for operators: not started, still accepting, ending tunnels, ended. */
export type DrainState = 'running' | 'delay' | 'draining' | 'ended';

/** How the tunnels of a drain have ended so far. */
export interface DrainCounts {
  /** By their client or upstream, or for a reason other than the drain. */
  readonly byThemselves: number;
  /** By the drain, at a moment when no byte moved. */
  readonly quiet: number;
  /** By the drain, though bytes moved. */
  readonly busy: number;
  /** At the deadline, or by a second signal. */
  readonly cut: number;
  /** Exchanges, at the deadline or by a second signal. */
  readonly exchangesCut: number;
}

/** What `/drain` shows. */
export interface DrainView {
  readonly state: DrainState;
  /** Null: no drain has begun. */
  readonly deadline: string | null;
  readonly secondsLeft: number | null;
  readonly tunnels: {
    readonly open: number;
    /** Without a byte for a moment. */
    readonly idle: number;
    readonly busy: number;
    /** Of a drain that begins now, or of the rest of this one. */
    readonly endsPerSecond: number;
    /** Seconds; null: none is open. */
    readonly medianAge: number | null;
    readonly oldestAge: number | null;
    /** Most first. */
    readonly byClient: readonly { readonly client: string; readonly tunnels: number }[];
    readonly byDestination: readonly { readonly destination: string; readonly tunnels: number }[];
  };
  /** In progress now. */
  readonly exchanges: number;
  readonly ended: DrainCounts;
}

/** Times in ms. */
interface Situation {
  readonly requests: Iterable<DrainSubject>;
  readonly state: DrainState;
  readonly exchanges: number;
  readonly now: number;
  readonly wallNow: number;
  readonly deadline: number | null;
  readonly spreadFrom: number;
  readonly spreadUntil: number;
  readonly quietTime: number;
  readonly movedAt: (request: DrainSubject) => number;
  readonly counts: DrainCounts;
}

/** Its cost grows with the number of tunnels: for people, not for every scrape. */
export function forecast({
  requests,
  state,
  exchanges,
  now,
  wallNow,
  deadline,
  spreadFrom,
  spreadUntil,
  quietTime,
  movedAt,
  counts,
}: Situation): DrainView {
  const ages: number[] = [];
  const clients = new Map<string, number>();
  const destinations = new Map<string, number>();
  let idle = 0;
  for (const request of requests) {
    const { tunnel, record } = request;
    if (tunnel === null || tunnel.ending) continue;
    ages.push(Math.max(0, now - record.startedAt));
    increase(clients, record.client);
    increase(destinations, record.destination);
    if (tunnel.still && now - movedAt(request) >= quietTime) idle += 1;
  }
  ages.sort((one, other) => one - other);
  const open = ages.length;
  const secondsToSpread = (spreadUntil - spreadFrom) / 1000;
  const left = deadline === null || state === 'ended' ? null : Math.max(0, deadline - now);
  return {
    state,
    deadline: deadline === null ? null : new Date(wallNow + deadline - now).toISOString(),
    secondsLeft: left === null ? null : seconds(left),
    tunnels: {
      open,
      idle,
      busy: open - idle,
      endsPerSecond: state === 'ended' || secondsToSpread <= 0 ? 0 : Math.round((open / secondsToSpread) * 10) / 10,
      medianAge: open === 0 ? null : seconds(ages[Math.floor((open - 1) / 2)] ?? 0),
      oldestAge: open === 0 ? null : seconds(ages.at(-1) ?? 0),
      byClient: mostFirst(clients).map(([client, tunnels]) => ({ client, tunnels })),
      byDestination: mostFirst(destinations).map(([destination, tunnels]) => ({ destination, tunnels })),
    },
    exchanges,
    ended: { ...counts },
  };
}

/** The forecast as fields of a log line. */
export function describeForecast({ deadline, tunnels, exchanges }: DrainView): Record<string, unknown> {
  const { open, idle, busy, endsPerSecond, medianAge, oldestAge } = tunnels;
  return { exchanges, tunnels: open, idle, busy, endsPerSecond, medianAge, oldestAge, deadline };
}

function increase(counts: Map<string, number>, name: string): void {
  counts.set(name, (counts.get(name) ?? 0) + 1);
}

function mostFirst(counts: ReadonlyMap<string, number>): [string, number][] {
  return [...counts].toSorted((one, other) => other[1] - one[1]);
}

const seconds = (ms: number): number => Math.round(ms / 100) / 10;
