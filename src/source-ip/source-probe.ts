/**
 * Queries the echo endpoint at start and at intervals, keeps the results,
 * counts every probe and reports every change. Its effect on readiness is
 * decided elsewhere.
 */
import { isDeepStrictEqual } from 'node:util';
import type { ProbeConfig, SourceIpConfig } from '../config/config.ts';
import { Fault } from '../errors.ts';
import type { SourceResult, Telemetry } from '../telemetry/telemetry.ts';
import type { Sighting } from './ask-endpoint.ts';
import { checkSeenAddress, remarkOn } from './judge.ts';

/** For `SourceProbe`; `random` spreads the probes of several replicas. */
export interface SourceProbeOptions {
  readonly config: SourceIpConfig | null;
  /** One query on a connection of its own; rejects with a Fault. */
  readonly ask: (probe: ProbeConfig, signal: AbortSignal) => Promise<Sighting>;
  readonly telemetry: Pick<Telemetry, 'notice' | 'sourceAsked' | 'sourceProbed'>;
  /** Ms since the epoch. */
  readonly now: () => number;
  /** 0 to 1. */
  readonly random: () => number;
  /** Called when a probe has ended, with `finding` up to date. */
  readonly onProbed: () => void;
  /** May reject once `signal` is aborted. */
  readonly wait: (ms: number, signal: AbortSignal) => Promise<unknown>;
}

/** The result of the latest probe. */
export interface SourceFinding {
  readonly result: SourceResult;
  /** Null with `unknown`. */
  readonly seen: string | null;
  /** Only with `unknown`. */
  readonly fault: Fault | null;
  /** Ms since the epoch: when the probe ended, and when the first with this result did. */
  readonly at: number;
  readonly since: number;
}

/** Each wait is up to this share shorter or longer, so that replicas do not probe at the same time. */
const JITTER = 0.1;
/** The longest that a timer of Node can wait, ms: a longer one ends at once. */
const LONGEST_TIMER = 2 ** 31 - 1;
/** Most different findings of one result that are reported; a NAT with alternating addresses must not fill the log. */
const MOST_FINDINGS = 8;
/** How many changes of the finding are kept. */
const MOST_KEPT_FINDINGS = 20;

const RESULT_LEVELS = { match: 'info', mismatch: 'error', unknown: 'warn', unjudged: 'info' } as const;
const WORDS: Record<SourceResult, string> = {
  match: 'the source address is right',
  mismatch: 'the source address is WRONG: partners see another than expected',
  unknown: 'the source address is not known: the probe fails',
  unjudged: 'the source address is seen, and none is expected',
};

/** What an answer depends on: everything except when it is requested, and what follows from it. */
function probeQuestion(config: SourceIpConfig | null): unknown {
  return config === null
    ? null
    : { ...config, gateReadiness: null, probe: config.probe === null ? null : { ...config.probe, every: null, timeout: null } };
}

/** Runs one probe after the other from `start` to `close`. */
export class SourceProbe {
  readonly #options: SourceProbeOptions;
  #config: SourceIpConfig | null;
  #finding: SourceFinding | null = null;
  #lastJudged: SourceFinding | null = null;
  /** The latest last: only findings that differ from the previous one. */
  readonly #changes: SourceFinding[] = [];
  /** Findings reported since the result last changed. */
  #told = new Set<string>();
  #running: { readonly controller: AbortController; readonly ended: Promise<void> } | null = null;

  constructor(options: SourceProbeOptions) {
    this.#options = options;
    this.#config = options.config;
  }

  /** Null before the first probe has ended, and if no probe is configured. */
  get finding(): SourceFinding | null {
    return this.#finding;
  }

  /** The latest finding that is not `unknown`: the last known state. */
  get lastJudged(): SourceFinding | null {
    return this.#lastJudged;
  }

  /** The findings, one for each change; the latest first. */
  get changes(): readonly SourceFinding[] {
    return this.#changes.toReversed();
  }

  /** Whether an endpoint is configured. */
  get asks(): boolean {
    return (this.#config?.probe ?? null) !== null;
  }

  /** The options in force. */
  get config(): SourceIpConfig | null {
    return this.#config;
  }

  /** The first probe begins now. */
  start(): void {
    const config = this.#config;
    const probe = config?.probe ?? null;
    if (config === null || probe === null || this.#running !== null) return;
    const controller = new AbortController();
    this.#running = { controller, ended: this.#run(config, probe, controller.signal) };
  }

  /** Probes at once if anything has changed, and drops findings that answered another question. Only after `start`. */
  adopt(config: SourceIpConfig | null): void {
    if (isDeepStrictEqual(config, this.#config)) return;
    this.#running?.controller.abort();
    this.#running = null;
    const sameQuestion = isDeepStrictEqual(probeQuestion(config), probeQuestion(this.#config));
    this.#config = config;
    if (!sameQuestion) {
      this.#finding = null;
      this.#lastJudged = null;
      this.#told = new Set();
      this.#options.telemetry.sourceAsked();
    }
    this.start();
  }

  /** Ends the current probe, and its socket. */
  async close(): Promise<void> {
    const running = this.#running;
    this.#running = null;
    running?.controller.abort();
    await running?.ended;
  }

  async #run(config: SourceIpConfig, probe: ProbeConfig, signal: AbortSignal): Promise<void> {
    do await this.#probe(config, probe, signal);
    while (await this.#pause(probe.every, signal));
  }

  /** False once it is over. */
  async #pause(every: number, signal: AbortSignal): Promise<boolean> {
    if (signal.aborted) return false;
    const { random, wait } = this.#options;
    const share = 1 - JITTER + 2 * JITTER * random();
    return wait(Math.min(every * share, LONGEST_TIMER), signal).then(
      () => !signal.aborted,
      (error: unknown) => {
        if (signal.aborted) return false;
        throw error;
      },
    );
  }

  async #probe(config: SourceIpConfig, probe: ProbeConfig, signal: AbortSignal): Promise<void> {
    const { ask, now, onProbed, telemetry } = this.#options;
    let seen: string | null = null;
    let fault: Fault | null = null;
    try {
      ({ address: seen } = await ask(probe, signal));
    } catch (error) {
      fault = Fault.from(error);
    }
    if (signal.aborted) return;
    const result = seen === null ? 'unknown' : checkSeenAddress(seen, config.expected);
    const at = now();
    const since = this.#finding?.result === result ? this.#finding.since : at;
    this.#tell(config, { result, seen, fault, at, since });
    if (this.#changes.length === 0 || this.#finding?.result !== result || this.#finding.seen !== seen)
      this.#changes.push({ result, seen, fault, at, since });
    if (this.#changes.length > MOST_KEPT_FINDINGS) this.#changes.shift();
    this.#finding = { result, seen, fault, at, since };
    if (result !== 'unknown') this.#lastJudged = this.#finding;
    telemetry.sourceProbed(result, seen, at);
    onProbed();
  }

  /** Once per change of the result, of a wrong address, and of the reason why none is known. */
  #tell({ expected }: SourceIpConfig, { result, seen, fault }: SourceFinding): void {
    if (this.#finding?.result !== result) this.#told = new Set();
    const what = result === 'match' ? '' : (seen ?? fault?.code ?? '');
    if (this.#told.has(what) || this.#told.size >= MOST_FINDINGS) return;
    this.#told.add(what);
    const remark = seen === null || result === 'match' ? null : remarkOn(seen);
    this.#options.telemetry.notice(RESULT_LEVELS[result], WORDS[result], {
      ...(seen === null ? {} : { seen }),
      expected,
      ...(fault === null ? {} : { code: fault.code, reason: fault.advice }),
      ...(remark === null ? {} : { remark }),
    });
  }
}
