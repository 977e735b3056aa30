/**
 * The events of the data path, for metrics, log and traces. The data path knows
 * this interface only, and never waits for its implementation. A request
 * continues if it cannot be counted or logged.
 */
import type { DescriptorRefusal } from '../descriptors.ts';
import type { FaultCode } from '../errors.ts';
import type { AccessRecord } from './access-record.ts';
import type { AdminRefusal, PolicyFacts, ReloadResult } from './cells.ts';

/** Of a probe of the source address: as expected, another, no usable answer, or no expected address configured. */
export type SourceResult = 'match' | 'mismatch' | 'unknown' | 'unjudged';

/** Level of a line other than an access record. */
export type NoticeLevel = 'debug' | 'info' | 'warn' | 'error';

/** The parts that listen to the data path. */
export const PARTS = ['metrics', 'log', 'traces', 'denials', 'decisions', 'partner-watch'] as const;
/** One of `PARTS`. */
export type Part = (typeof PARTS)[number];

/** The same action, which never throws; created once, called often. @returns whether it threw nothing */
export type Contain = <Args extends readonly unknown[]>(part: Part, action: (...args: Args) => void) => (...args: Args) => boolean;

/** Receives all events of the data path. No method blocks or throws. */
export interface Telemetry {
  /** A request was admitted, and nothing has been sent for it yet. From now on its record says whether it is traced. */
  admitted(record: AccessRecord): void;
  /** An exchange or tunnel has ended, well or not: one log line, the counters, its spans. @param logged false: no log line */
  ended(record: AccessRecord, logged?: boolean): void;
  /**
   * A tunnel carries bytes from now on, until `ended` of the same record. Its
   * bytes are counted as they move, not only hours later.
   */
  tunnelOpened(record: AccessRecord): void;
  /** The upstream has sent its first bytes in a tunnel. */
  tunnelAnswered(record: AccessRecord): void;
  /** A connection to an upstream is up; its phases in ms, -1: did not happen. */
  upstreamConnected(destination: string, dnsMs: number, tcpMs: number, tlsMs: number, hopMs: number): void;
  /** The address of the peer, `-` where only a parent knows it; `certificateEnds` in ms since the epoch, 0: without TLS of our own. */
  upstreamReached(destination: string, address: string, certificateEnds: number): void;
  /** A connection has passed a parent proxy with TLS. @param parent its host @param certificateEnds ms since the epoch */
  parentReached(hop: string, parent: string, certificateEnds: number): void;
  /** A dial, or an upstream we were talking to, failed. @param detail one sentence */
  upstreamFailed(destination: string, code: FaultCode, detail: string): void;
  /** Pooled connections of a destination: changes, +1 or -1, of either state. */
  upstreamPooled(destination: string, active: number, idle: number): void;
  /** A client connection opened or closed (+1, -1). */
  clientConnections(change: number): void;
  /** The admin port has refused something. */
  adminRefused(reason: AdminRefusal): void;
  /** Something was refused because file descriptors are short. */
  descriptorsRefused(what: DescriptorRefusal): void;
  /** Another policy is in force: its names may become labels. */
  policyChanged(facts: PolicyFacts): void;
  /** A configuration was offered to the running proxy. */
  policyReloaded(result: ReloadResult): void;
  /** The probe of the source address has been restarted or stopped: its earlier result is no longer valid. */
  sourceAsked(): void;
  /** A probe of the source address has ended: the address that was seen, null with `unknown`; `at` in ms since the epoch. */
  sourceProbed(result: SourceResult, address: string | null, at: number): void;
  /** Whether a partner seems to have removed us from its whitelist; null: the destination is gone. */
  whitelistSuspected(destination: string, suspected: boolean | null): void;
  /** The self-test has a result: whether requests that must be refused were refused; null: no longer tested. `at` in ms since the epoch. */
  enforcementTested(holds: boolean | null, at: number): void;
  /** Something an operator should see: one line, with fields that are safe to print. */
  notice(level: NoticeLevel, message: string, fields?: Record<string, unknown>): void;
}

// Failures of telemetry: each is counted, and the first of each part is logged.

/** Runs an action and catches what it throws. @returns whether it threw nothing */
export type Attempt = (part: Part, action: () => void) => boolean;

/** Runs actions that may fail, and counts their failures by part. */
export class Attempts {
  readonly failures: Record<Part, number> = { metrics: 0, log: 0, traces: 0, denials: 0, decisions: 0, 'partner-watch': 0 };
  readonly #onFirst: (part: Part, error: unknown) => void;

  /** @param onFirst called for the first failure of each part; may throw */
  constructor(onFirst: (part: Part, error: unknown) => void) {
    this.#onFirst = onFirst;
  }

  readonly contain: Contain =
    (part, action) =>
    (...args) => {
      try {
        action(...args);
        return true;
      } catch (error) {
        this.#count(part, error);
        return false;
      }
    };

  readonly run: Attempt = (part, action) => this.contain(part, action)();

  #count(part: Part, error: unknown): void {
    this.failures[part] += 1;
    if (this.failures[part] > 1) return;
    try {
      this.#onFirst(part, error);
    } catch {
      // The log itself fails. The failure has been counted.
    }
  }
}

/** The same listeners, as functions that never throw. */
export function makeTotal<Listeners extends object>(listeners: Listeners, part: Part, contain: Contain): Listeners {
  const methods = Object.entries(listeners) as [string, (...args: readonly unknown[]) => void][];
  return Object.fromEntries(methods.map(([name, method]) => [name, contain(part, method)])) as Listeners;
}
