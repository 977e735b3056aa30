/**
 * The content of the status page as plain data: built in build-status.ts,
 * served at /status.json and /events, rendered by page/. It imports nothing, so
 * that the scripts in the browser are checked against the same types. Times are
 * ISO 8601, null: never. Texts are always printable, also those from clients.
 */

/** The band at the top, the most pressing first. */
export const BAND_STATES = ['draining', 'degraded', 'report', 'ok'] as const;
/** One of `BAND_STATES`. */
export type BandState = (typeof BAND_STATES)[number];

/** The state of this replica in one word, and why. */
export interface StatusBand {
  readonly state: BandState;
  /** One sentence each; empty where all is well. */
  readonly reasons: readonly string[];
  /** Warnings that do not affect the state: those of the configuration. */
  readonly notes: readonly string[];
}

/** How much of a limit is used. */
export interface StatusLimit {
  readonly name: string;
  readonly used: number;
  /** Null: not limited. */
  readonly limit: number | null;
}

/** A client that was active in the last minute, or holds tunnels. */
export interface StatusClient {
  readonly client: string;
  readonly requestsPerSecond: number;
  /** In the last minute. */
  readonly requests: number;
  readonly denials: number;
  readonly tunnels: number;
}

/** Number of events by code. */
export interface CodeCount {
  readonly code: string;
  readonly count: number;
}

/** The result of the latest request to a destination; `unused`: there was none since the start. */
export const DESTINATION_STATES = ['failed', 'error', 'ok', 'unused'] as const;
/** One of `DESTINATION_STATES`. */
export type DestinationState = (typeof DESTINATION_STATES)[number];

/** An address with consecutive failures. */
export interface StatusCircuit {
  /** `eco.example:443, tunnels`. */
  readonly of: string;
  readonly address: string;
  /** `closed`, `open`, or `trial`: one request is trying it. */
  readonly state: string;
  readonly failures: number;
  /** When it opened; null: it is closed. */
  readonly since: string | null;
  /** Of the latest failure. */
  readonly reason: string;
  /** When a request may try it; null: it is closed. */
  readonly nextTrial: string | null;
}

/** One destination. */
export interface StatusDestination {
  readonly name: string;
  readonly hosts: readonly string[];
  readonly ports: readonly string[];
  /** Hops between us and it; empty: direct. */
  readonly via: readonly string[];
  readonly state: DestinationState;
  /** Addresses with consecutive failures. */
  readonly circuits: readonly StatusCircuit[];
  readonly requestsPerSecond: number;
  /** In the last minute. */
  readonly requests: number;
  /** Failed dials and exchanges in the last minute and hour. */
  readonly failures: { readonly minute: readonly CodeCount[]; readonly hour: readonly CodeCount[] };
  /** Answers with 5xx: failures of the partner's application. */
  readonly errors: { readonly minute: number; readonly hour: number };
  /** Of exchanges of the last minute, ms; null: there was none. */
  readonly p50: number | null;
  readonly p99: number | null;
  readonly lastOk: string | null;
  readonly lastError: { readonly at: string; readonly status: number } | null;
  readonly lastFailure: { readonly at: string; readonly code: string; readonly detail: string } | null;
  /** Reached recently, the latest first. */
  readonly addresses: readonly { readonly address: string; readonly at: string }[];
  /** When its last certificate expires, and in how many days; null: none was seen. */
  readonly certificate: { readonly ends: string; readonly days: number } | null;
  readonly pool: { readonly active: number; readonly idle: number; readonly queued: number };
  readonly tunnels: number;
  readonly nat: { readonly used: number; readonly highWater: number; readonly refused: number };
}

/** A request that was denied or has failed. */
export interface StatusRequest {
  readonly requestId: string;
  readonly at: string;
  readonly verdict: 'deny' | 'report' | 'allow';
  readonly code: string;
  readonly detail: string;
  readonly client: string;
  readonly method: string;
  readonly host: string;
  readonly port: number;
  readonly destination: string;
}

/** A tunnel that is open. */
export interface StatusTunnel {
  readonly requestId: string;
  readonly client: string;
  readonly clientAddress: string;
  readonly host: string;
  readonly port: number;
  readonly ageMs: number;
  readonly bytesSent: number;
  readonly bytesReceived: number;
}

/** The source address, as partners see it. */
export interface StatusSource {
  /** `off`: no probe is configured; `pending`: not answered yet. */
  readonly result: 'match' | 'mismatch' | 'unknown' | 'unjudged' | 'pending' | 'off';
  readonly seen: string | null;
  readonly expected: readonly string[];
  readonly since: string | null;
  /** The latest probe. */
  readonly at: string | null;
  readonly reason: string | null;
  /** The latest change first. */
  readonly history: readonly { readonly at: string; readonly result: string; readonly seen: string | null; readonly code: string | null }[];
}

/** A rule that has an end. */
export interface StatusRuleEnd {
  readonly rule: string;
  readonly clients: readonly string[];
  readonly destinations: readonly string[];
  readonly until: string;
  readonly state: 'ended' | 'soon' | 'later';
  readonly owner: string | null;
  readonly ticket: string | null;
  readonly reason: string | null;
}

/** The configuration in force, and since when. */
export interface StatusConfiguration {
  /** Null: not from a file. */
  readonly file: string | null;
  readonly hash: string;
  readonly loadedAt: string;
  readonly mode: 'enforce' | 'report';
  /** What the self-test found. */
  readonly enforcement: string;
  readonly listeners: readonly { readonly name: string; readonly addresses: readonly string[] }[];
  /** What the latest reload changed in decisions; null: there was none, or it is being compared. */
  readonly reload: { readonly at: string; readonly sentence: string; readonly classes: readonly string[] } | null;
  readonly ruleEnds: readonly StatusRuleEnd[];
  readonly ruleEndsLeftOut: number;
}

/** A drain, or what it would do now. */
export interface StatusDrain {
  /** `running`: there is none. */
  readonly state: 'running' | 'delay' | 'draining' | 'ended';
  /** When the remaining requests are cut; null: there is none. */
  readonly deadline: string | null;
  readonly secondsLeft: number | null;
  /** Ages in seconds. */
  readonly tunnels: {
    readonly open: number;
    readonly idle: number;
    readonly busy: number;
    readonly endsPerSecond: number;
    readonly medianAge: number | null;
    readonly oldestAge: number | null;
  };
  readonly exchanges: number;
  /** So far. */
  readonly ended: {
    readonly byThemselves: number;
    readonly quiet: number;
    readonly busy: number;
    readonly cut: number;
    readonly exchangesCut: number;
  };
}

/** Everything at one moment. */
export interface StatusView {
  readonly at: string;
  /** Name of this replica. */
  readonly instance: string;
  readonly version: string;
  readonly uptimeSeconds: number;
  readonly band: StatusBand;
  readonly drain: StatusDrain;
  readonly requestsPerSecond: number;
  /** In the last minute: failed dials and exchanges, answers with 5xx, denials. */
  readonly failures: number;
  readonly errors: number;
  readonly denials: number;
  readonly limits: readonly StatusLimit[];
  /** The busiest first. */
  readonly clients: readonly StatusClient[];
  readonly clientsLeftOut: number;
  readonly source: StatusSource;
  /** NAT ports towards one address and port; null: not limited. */
  readonly natLimit: number | null;
  /** Those that fail first, then the busiest. */
  readonly destinations: readonly StatusDestination[];
  readonly destinationsLeftOut: number;
  readonly tunnels: {
    readonly open: number;
    readonly byClient: readonly { readonly client: string; readonly tunnels: number }[];
    readonly oldest: readonly StatusTunnel[];
  };
  /** Short tunnels by client. */
  readonly shortTunnels: readonly { readonly client: string; readonly tunnels: number }[];
  /** The latest first. */
  readonly latestFailures: readonly StatusRequest[];
  readonly latestDenials: readonly StatusRequest[];
  readonly frequentDenials: readonly {
    readonly client: string;
    readonly host: string;
    readonly count: number;
    readonly overcount: number;
    readonly code: string;
    readonly requestId: string;
  }[];
  readonly denialsTotal: number;
  readonly configuration: StatusConfiguration;
  /** Certificates of configured files, by key. */
  readonly certificates: readonly { readonly name: string; readonly ends: string; readonly days: number }[];
}

/** One number for each step, the oldest first; null: not known. */
export type CurveValues = readonly (number | null)[];

/** The curves of a destination, or of all together (`name` is empty). */
export interface StatusCurves {
  readonly name: string;
  /** Per second. */
  readonly requests: CurveValues;
  /** Per minute, with answers of 5xx. */
  readonly failures: CurveValues;
  /** Per minute; only for all together. */
  readonly denials: CurveValues;
  /** Ms. */
  readonly p99: CurveValues;
}

/** The last 15 minutes. */
export interface StatusHistory {
  /** Number of the latest step: a client that misses one requests all again. */
  readonly step: number;
  readonly stepSeconds: number;
  readonly at: string;
  readonly curves: readonly StatusCurves[];
}

/** What a page shows. */
export type PageContent =
  | { readonly kind: 'status'; readonly view: StatusView }
  /** The answer to a question about a decision or an incident, as text and JSON, with the question. */
  | {
      readonly kind: 'answer';
      readonly about: 'why' | 'incident';
      readonly words: string;
      readonly json: string;
      readonly question: Readonly<Record<string, string>>;
    };

/** What page/server.js exports. */
export interface PageRenderer {
  /** The body as markup; every text in it is escaped. */
  readonly renderBody: (content: PageContent) => string;
}
