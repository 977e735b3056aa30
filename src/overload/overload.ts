/**
 * Refuses new requests before the process is too slow for all of them.
 *
 * There is one thread, so what is too much waits in the kernel, and each turn
 * of the event loop takes up all that has come during the turn before. Beyond
 * the capacity turns therefore grow without end, and a request waits for some
 * of them. Two steps follow:
 *
 * 1. A sampler looks at the mean turn of each window, in time of the processor. Only where it is too
 *    long in several windows on end, and the loop never rested, refusing
 *    begins: a pause of the garbage collector or a burst is one long turn among
 *    many, or over by then.
 * 2. While it lasts, each turn has a budget of time. What is found in it is
 *    served, and what is behind it is refused, which costs a tenth. So a turn
 *    hardly grows, and there is no controller to be tuned.
 *
 * Without enough memory, all new requests are refused.
 */
import { Fault } from '../errors.ts';
import { type MemoryUse, MemoryWatch } from './memory-use.ts';

/** Between two looks at the loop, ms. */
const WINDOW = 100;
/** So many windows on end have to be too slow before anything is refused, */
const SLOW_WINDOWS = 3;
/** and so many have to pass without a refusal before nothing is refused any more. */
const CALM_WINDOWS = 10;
/** Part of a window in which a loop that cannot follow is busy: all of it, but for what measuring loses. */
const SATURATED = 0.9;
/** Of the budget of a turn: accepting a connection is a quarter of what serving one costs. */
const CONNECTION_SHARE = 0.25;
/** Memory is free again so far below the limit. */
const HYSTERESIS = 0.05;
/** Looking at the memory reads a file or two. */
const MEMORY_EVERY = 5;
/** Refusals in one window that are logged each. */
const LOGGED = 10;
/** Clients that were refused together should not come back together: one of these, s, in turn. */
const RETRY_AFTER = [1, 2, 3] as const;

/** Why new requests are refused; null: they are not. */
export type OverloadCause = 'loop' | 'memory' | null;

/** What is configured of it. */
export interface OverloadTerms {
  /** Longest turn of the event loop that may last, ms; 0: nothing is refused for it. */
  readonly loopDelay: number;
  /** Of the memory that there is, in percent; 100: nothing is refused for it. */
  readonly memoryPercent: number;
}

/** What the event loop has done so far, ms and turns. */
export interface LoopUse {
  readonly busy: number;
  /** Of it, what the thread had a core for: a turn is long too where others have the core, and no request less would help. */
  readonly worked: number;
  readonly idle: number;
  readonly turns: number;
}

/** What is logged when refusing begins or ends. */
export interface OverloadChange {
  readonly cause: OverloadCause;
  /** Of the latest window: the mean turn, ms. */
  readonly turnMs: number;
  /** Null before the first look. */
  readonly memory: MemoryUse | null;
  /** Requests that have been refused since it began. */
  readonly refused: number;
}

/** What it looks at; all of it is for tests. */
export interface OverloadProbes {
  /** Monotonic ms. */
  readonly now?: () => number;
  readonly loop?: () => LoopUse;
  readonly memory?: Pick<MemoryWatch, 'read' | 'close'>;
  /** Calls back at the end of this turn of the loop. */
  readonly atTurnEnd?: (callback: () => void) => void;
}

interface OverloadOptions extends OverloadProbes {
  readonly terms: OverloadTerms;
  /** Told when refusing begins and ends. */
  readonly onChange: (change: OverloadChange) => void;
}

const REFUSALS = {
  loop: RETRY_AFTER.map((retryAfter) => new Fault('overloaded', 'this proxy has more to do than it can', { retryAfter, remedy: 'try again, or add a replica' })),
  memory: RETRY_AFTER.map((retryAfter) => new Fault('overloaded', 'this proxy is almost out of memory', { retryAfter, remedy: 'try again; give it more memory, or add a replica' })),
} as const;

/** Looks at the event loop and the memory, and says of each new request whether it is refused. */
export class Overload {
  readonly #options: OverloadOptions;
  readonly #now: () => number;
  readonly #loop: () => LoopUse;
  readonly #memory: Pick<MemoryWatch, 'read' | 'close'>;
  readonly #atTurnEnd: (callback: () => void) => void;
  #terms: OverloadTerms;
  #timer: NodeJS.Timeout | null = null;
  /** What comes up to here is served: the end of this turn's budget while refusing, else Infinity. */
  #until = Infinity;
  #before: LoopUse;
  #slow = 0;
  #calm = 0;
  #lookedAgo = 0;
  #use: MemoryUse | null = null;
  #turnMs = 0;
  /** The end of each turn is watched. */
  #watchesTurns = false;
  #cause: OverloadCause = null;
  #refused = 0;
  #refusedInWindow = 0;

  constructor(options: OverloadOptions) {
    this.#options = options;
    this.#terms = options.terms;
    this.#now = options.now ?? performance.now.bind(performance);
    this.#loop = options.loop ?? loopUse;
    this.#memory = options.memory ?? new MemoryWatch();
    this.#atTurnEnd = options.atTurnEnd ?? setImmediate;
    this.#before = this.#loop();
  }

  /** Other terms from now on; what refusing has begun by others, ends. */
  adopt(terms: OverloadTerms): void {
    this.#terms = terms;
    this.#slow = 0;
    if (this.#cause === 'loop' && terms.loopDelay === 0) this.#become(null);
    if (this.#cause === 'memory' && !this.#isFull()) this.#become(null);
  }

  /** Looks by itself from now on. */
  watch(): void {
    this.#before = this.#loop();
    this.#timer = setInterval(() => {
      this.look();
    }, WINDOW).unref();
  }

  /** Ends `watch`, and refuses nothing any more. */
  close(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#memory.close();
    this.#until = Infinity;
    this.#cause = null;
  }

  /** Why new requests are refused now. */
  get cause(): OverloadCause {
    return this.#cause;
  }

  /**
   * The answer to a new request; null: it is let in.
   * @param at when its header section was there, monotonic ms
   */
  refusal(at: number): Fault | null {
    if (at <= this.#until || this.#cause === null) return null;
    this.#refused += 1;
    this.#refusedInWindow += 1;
    return REFUSALS[this.#cause][this.#refused % RETRY_AFTER.length] ?? null;
  }

  /** The same of a new connection, which is accepted in a turn of its own before its request is read: only in the first part of a turn. */
  connectionRefusal(): Fault | null {
    return this.#cause === null ? null : this.refusal(this.#now() + this.#terms.loopDelay * (1 - CONNECTION_SHARE));
  }

  /** Whether the latest refusal gets a line of its own in the log: of thousands a second, a line would cost a quarter of the refusal. */
  get logsRefusal(): boolean {
    return this.#refusedInWindow <= LOGGED;
  }

  /** Looks now, at the end of a window; the interval calls it. */
  look(): void {
    const use = this.#loop();
    const before = this.#before;
    this.#before = use;
    const busy = use.busy - before.busy;
    const turns = Math.max(1, use.turns - before.turns);
    this.#turnMs = Math.min(busy, use.worked - before.worked) / turns;
    const { loopDelay } = this.#terms;
    const slow = loopDelay > 0 && this.#turnMs > loopDelay && busy >= SATURATED * (busy + use.idle - before.idle);
    this.#slow = slow ? this.#slow + 1 : 0;
    this.#calm = slow || this.#refusedInWindow > 0 ? 0 : this.#calm + 1;
    this.#refusedInWindow = 0;
    this.#lookedAgo += 1;
    if (this.#terms.memoryPercent < 100 && (this.#use === null || this.#lookedAgo >= MEMORY_EVERY)) {
      this.#lookedAgo = 0;
      this.#use = this.#memory.read();
    }
    if (this.#isFull()) this.#become('memory');
    else if (this.#cause === 'memory') this.#become(null);
    else if (this.#cause === null && this.#slow >= SLOW_WINDOWS) this.#become('loop');
    else if (this.#cause === 'loop' && this.#calm >= CALM_WINDOWS) this.#become(null);
  }

  #isFull(): boolean {
    const { memoryPercent } = this.#terms;
    if (this.#use === null || memoryPercent >= 100) return false;
    return this.#use.share > memoryPercent / 100 - (this.#cause === 'memory' ? HYSTERESIS : 0);
  }

  #become(cause: OverloadCause): void {
    if (cause === this.#cause) return;
    this.#options.onChange({ cause, turnMs: this.#turnMs, memory: this.#use, refused: this.#refused });
    this.#cause = cause;
    this.#refused = 0;
    this.#calm = 0;
    this.#slow = 0;
    this.#until = cause === 'memory' ? -Infinity : Infinity;
    if (cause !== 'loop') return;
    this.#until = this.#now() + this.#terms.loopDelay;
    if (this.#watchesTurns) return;
    this.#watchesTurns = true;
    this.#atTurnEnd(this.#onTurnEnd);
  }

  /** While the budget of turns counts, the loop never sleeps: only so is it known when a turn began. */
  readonly #onTurnEnd = (): void => {
    this.#watchesTurns = this.#cause === 'loop';
    if (!this.#watchesTurns) return;
    this.#until = this.#now() + this.#terms.loopDelay;
    this.#atTurnEnd(this.#onTurnEnd);
  };
}

function loopUse(): LoopUse {
  const { active, idle } = performance.eventLoopUtilization();
  const { user, system } = process.threadCpuUsage();
  return { busy: active, worked: (user + system) / 1000, idle, turns: performance.nodeTiming.uvMetricsInfo.loopCount };
}
