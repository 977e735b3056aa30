/**
 * Detects that a partner has fallen silent: connects time out one after the
 * other and none succeeds, as when its firewall no longer permits our address.
 * Reports the cause, as far as the probe and the port budget show it, once for
 * each change, until the partner answers.
 */
import type { FaultCode } from '../errors.ts';
import type { Contain, Telemetry } from '../telemetry/telemetry.ts';
import { judgeSilence, SILENCE, type SilenceCause, type SilenceFacts } from './judge.ts';

/** For `PartnerWatch`. */
export interface PartnerWatchOptions {
  /** Names of the destinations that we dial ourselves; for those behind a hop, its answers give the cause. */
  readonly destinations: readonly string[];
  /** @param since when the silence began, ms since the epoch */
  readonly surroundings: (destination: string, since: number) => SilenceFacts;
  readonly telemetry: Pick<Telemetry, 'notice' | 'whitelistSuspected'>;
  /** Ms since the epoch. */
  readonly now: () => number;
}

/** A partner whose connects time out, with the likely cause. */
export interface SilentPartner {
  readonly destination: string;
  readonly cause: SilenceCause;
  /** Ms since the epoch: the first connect that timed out. */
  readonly since: number;
  /** Connects that timed out since. */
  readonly timeouts: number;
}

interface Silence {
  since: number;
  last: number;
  timeouts: number;
  /** What was reported; null: nothing yet. */
  cause: SilenceCause | null;
}

/** Fewer, or in a shorter time, may be a short burst. */
const LEAST_TIMEOUTS = 3;
const LEAST_MS = 20_000;

/** The partner's host answered, even if with a refusal: it does not drop our packets. */
const ANSWERS: ReadonlySet<FaultCode> = new Set<FaultCode>(['connection-refused', 'tls-certificate', 'tls-failed', 'tls-timeout']);
/** Neither silence nor an answer: these end a row of timeouts. Other failures happen before a dial. */
const NO_EVIDENCE: ReadonlySet<FaultCode> = new Set<FaultCode>(['name-not-found', 'resolver-failed', 'resolver-timeout', 'unreachable']);

/** Counts timeouts of connects to each destination. It has no timer: it checks at each event. */
export class PartnerWatch {
  readonly #options: PartnerWatchOptions;
  /** Only watched destinations; null: no timeouts. */
  readonly #partners = new Map<string, Silence | null>();

  constructor(options: PartnerWatchOptions) {
    this.#options = options;
    this.adopt(options.destinations);
  }

  /** Destinations that are gone are dropped; the state of the others is kept. */
  adopt(destinations: readonly string[]): void {
    const { telemetry } = this.#options;
    const kept = new Set(destinations);
    for (const name of this.#partners.keys()) {
      if (kept.has(name)) continue;
      this.#partners.delete(name);
      telemetry.whitelistSuspected(name, null);
    }
    for (const name of destinations) {
      if (this.#partners.has(name)) continue;
      this.#partners.set(name, null);
      telemetry.whitelistSuspected(name, false);
    }
  }

  /** Dial events are to be published through this: the watch listens, and its errors have no effect on them. */
  listenTo(telemetry: Telemetry, contain: Contain): Telemetry {
    const connected = contain('partner-watch', this.connected.bind(this));
    const failed = contain('partner-watch', this.failed.bind(this));
    return {
      ...telemetry,
      upstreamConnected: (destination, ...phases) => {
        telemetry.upstreamConnected(destination, ...phases);
        connected(destination);
      },
      upstreamFailed: (destination, code, detail) => {
        telemetry.upstreamFailed(destination, code, detail);
        failed(destination, code);
      },
    };
  }

  /** A connection to the partner is up. */
  connected(destination: string): void {
    // The usual case costs one look-up.
    const silence = this.#partners.get(destination);
    if (silence !== null && silence !== undefined) this.#end(destination, silence, 'the partner answers again');
  }

  /** A dial has failed. */
  failed(destination: string, code: FaultCode): void {
    const silence = this.#partners.get(destination);
    if (silence === undefined) return;
    if (code === 'connect-timeout') this.#timedOut(destination, silence);
    else if (silence !== null && ANSWERS.has(code)) this.#end(destination, silence, `the partner answers again, with ${code}`);
    else if (silence?.cause === null && NO_EVIDENCE.has(code)) this.#partners.set(destination, null);
  }

  /** A probe has ended: its result may change the cause. */
  reconsider(): void {
    for (const [destination, silence] of this.#partners) if (silence !== null) this.#consider(destination, silence);
  }

  /** Partners whose silence has been reported and is not over. */
  get silent(): SilentPartner[] {
    const found: SilentPartner[] = [];
    for (const [destination, silence] of this.#partners) {
      if (silence !== null && silence.cause !== null)
        found.push({ destination, cause: silence.cause, since: silence.since, timeouts: silence.timeouts });
    }
    return found;
  }

  #timedOut(destination: string, known: Silence | null): void {
    const now = this.#options.now();
    const silence = known ?? { since: now, last: now, timeouts: 0, cause: null };
    // The clock was set back: the silence so far is not shortened.
    if (now < silence.last) silence.since -= silence.last - now;
    silence.timeouts += 1;
    silence.last = now;
    this.#partners.set(destination, silence);
    this.#consider(destination, silence);
  }

  #consider(destination: string, silence: Silence): void {
    const { surroundings, telemetry } = this.#options;
    const { since, last, timeouts } = silence;
    if (timeouts < LEAST_TIMEOUTS || last - since < LEAST_MS) return;
    const around = surroundings(destination, since);
    const cause = judgeSilence(around);
    if (cause === null || cause === silence.cause) return;
    // A probe that fails later adds nothing to what is known already.
    if (cause === 'way-out' && silence.cause !== null) return;
    silence.cause = cause;
    telemetry.whitelistSuspected(destination, cause === 'whitelist');
    const { level, words, check } = SILENCE[cause];
    telemetry.notice(level, `the partner does not answer: ${words}`, {
      destination,
      cause,
      check,
      timeouts,
      since: new Date(since).toISOString(),
      sourceIp: around.source,
      portsUsed: around.ports.used,
      ...(around.ports.limit === null ? {} : { portsLimit: around.ports.limit }),
    });
  }

  #end(destination: string, { cause, since, last, timeouts }: Silence, words: string): void {
    const { telemetry, now } = this.#options;
    this.#partners.set(destination, null);
    if (cause === null) return;
    telemetry.whitelistSuspected(destination, false);
    telemetry.notice('info', words, { destination, was: cause, timeouts, silentMs: Math.round(Math.max(last, now()) - since) });
  }
}
