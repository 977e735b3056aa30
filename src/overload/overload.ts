/**
 * Refuses new requests before the process is too slow for all of them.
 *
 * There is one thread, so excess requests wait in the kernel, and each turn of
 * the event loop takes all that arrived during the previous turn. Above
 * capacity, turns therefore grow without bound, and a request waits for several
 * of them. So there are two steps:
 *
 * 1. A sampler measures the mean turn of each window, in CPU time. Refusing begins only if it is too
 * long in several consecutive windows and the loop was never idle: a pause of the garbage collector
 * or a burst is one long turn among many, or over by then. 2. While it lasts, each turn has a budget
 * of time. Requests within it are served, and later ones are refused, which costs a fraction. So a
 * turn hardly grows, and there is no controller to tune.
 *
 * Excess connections wait in the accept queue of their listener instead. libuv accepts one
 * connection per turn (libuv#3696), so turns stay short. The signal is that every turn of a window
 * accepted one. Then the budget is that of the queue: it begins when a turn has found the queue
 * empty, so what is served has waited in it no longer than the budget.
 *
 * Without enough memory, all new requests are refused.
 */
import { Fault } from '../errors.ts';
import { type MemoryUse, MemoryWatch } from './memory-use.ts';

/** Between two samples of the loop, ms. */
const WINDOW = 100;
/** Consecutive windows that have to be too slow before requests are refused, */
const SLOW_WINDOWS = 3;
/** and consecutive windows without a refusal before refusing ends. */
const CALM_WINDOWS = 10;
/** Part of a window in which an overloaded loop is busy, and of its turns that accept a connection from a queue that is never empty: all, minus measurement losses. */
const SATURATED = 0.9;
/** Of the budget of a turn: accepting a connection is a quarter of what serving one costs. */
const CONNECTION_SHARE = 0.25;
/** A queue that refusing cannot empty gets a new budget after so many of them: otherwise it would never be served. */
const MOST_BUDGETS = 8;
/** How far below the limit memory counts as free again. */
const HYSTERESIS = 0.05;
/** Sampling the memory reads a file or two. */
const MEMORY_EVERY = 5;
/** Refusals per window that are logged individually. */
const LOGGED = 10;
/** Clients that were refused together should not return together: these values, s, are used in turn. */
const RETRY_AFTER = [1, 2, 3] as const;

/** Why new requests are refused; null: they are not. */
export type OverloadCause = 'loop' | 'memory' | null;

/** Its configuration. */
export interface OverloadTerms {
  /** Longest sustained turn of the event loop, and longest wait in an accept queue, ms; 0: not limited. */
  readonly loopDelay: number;
  /** Limit of memory in use, percent; 100: not limited. */
  readonly memoryPercent: number;
}

/** Totals of the event loop, ms and turns. */
export interface LoopUse {
  readonly busy: number;
  /** The CPU time of it: a turn is also long when other processes use the core, and then refusing requests would not help. */
  readonly worked: number;
  readonly idle: number;
  readonly turns: number;
}

/** What is logged when refusing begins or ends. */
export interface OverloadChange {
  readonly cause: OverloadCause;
  /** Of the latest window: the mean turn, ms. */
  readonly turnMs: number;
  /** Of the latest window: connections from the busiest listener; near 1, its accept queue was never empty. */
  readonly acceptsPerTurn: number;
  /** Null before the first sample. */
  readonly memory: MemoryUse | null;
  /** Requests that have been refused since it began. */
  readonly refused: number;
}

/** Its inputs; all of them are for tests. */
export interface OverloadProbes {
  /** Monotonic ms. */
  readonly now?: () => number;
  readonly loop?: () => LoopUse;
  readonly memory?: Pick<MemoryWatch, 'read' | 'close'>;
  /** Calls back at the end of this turn of the loop. */
  readonly atTurnEnd?: (callback: () => void) => void;
}

/** The accept queue of one listening socket, as far as its accepted connections show it. */
export class AcceptQueue {
  /** How many connections were accepted in this window, */
  accepted = 0;
  /** its number, */
  window = 0;
  /** the turn of the latest one, while turns have a budget, */
  turn = 0;
  /** and when the first one after an empty queue was accepted, monotonic ms. */
  since = -Infinity;
}

interface OverloadOptions extends OverloadProbes {
  readonly terms: OverloadTerms;
  /** Called when refusing begins and ends. */
  readonly onChange: (change: OverloadChange) => void;
}

const REFUSALS = {
  loop: RETRY_AFTER.map(
    (retryAfter) => new Fault('overloaded', 'this proxy has more to do than it can', { retryAfter, remedy: 'try again, or add a replica' }),
  ),
  memory: RETRY_AFTER.map(
    (retryAfter) =>
      new Fault('overloaded', 'this proxy is almost out of memory', {
        retryAfter,
        remedy: 'try again; give it more memory, or add a replica',
      }),
  ),
} as const;

/** Samples the event loop and the memory, and decides whether each new request is refused. */
export class Overload {
  /** Why new requests are refused now. */
  cause: OverloadCause = null;
  readonly #options: OverloadOptions;
  readonly #now: () => number;
  readonly #loop: () => LoopUse;
  readonly #memory: Pick<MemoryWatch, 'read' | 'close'>;
  readonly #atTurnEnd: (callback: () => void) => void;
  #terms: OverloadTerms;
  #timer: NodeJS.Timeout | null = null;
  /** Requests up to this time are served: the end of this turn's budget while refusing, else Infinity. */
  #until = Infinity;
  #before: LoopUse;
  /** The number of this window, and of this turn while turns have a budget. */
  #window = 1;
  #turn = 1;
  /** The most connections that were accepted from one queue in this window. */
  #accepted = 0;
  #slow = 0;
  #calm = 0;
  #lookedAgo = 0;
  #use: MemoryUse | null = null;
  #turnMs = 0;
  #acceptsPerTurn = 0;
  /** The end of each turn is watched. */
  #watchesTurns = false;
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

  /** Replaces the terms; refusing that began by the previous ones ends. */
  adopt(terms: OverloadTerms): void {
    this.#terms = terms;
    this.#slow = 0;
    if (this.cause === 'loop' && terms.loopDelay === 0) this.#become(null);
    if (this.cause === 'memory' && !this.#isFull()) this.#become(null);
  }

  /** Starts periodic sampling. */
  watch(): void {
    this.#before = this.#loop();
    this.#timer = setInterval(() => {
      this.look();
    }, WINDOW).unref();
  }

  /** Ends `watch`, and stops refusing. */
  close(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#memory.close();
    this.#until = Infinity;
    this.cause = null;
  }

  /**
   * The answer to a new request; null: it is let in.
   * @param at when its header section was complete, monotonic ms
   */
  refusal(at: number): Fault | null {
    if (at <= this.#until || this.cause === null) return null;
    this.#refused += 1;
    this.#refusedInWindow += 1;
    return REFUSALS[this.cause][this.#refused % RETRY_AFTER.length] ?? null;
  }

  /**
   * The same for a new connection, which is accepted in a separate turn before
   * its request is read: only in the first part of a turn, and of the budget of its queue.
   * To be called once for each accepted connection.
   */
  connectionRefusal(queue: AcceptQueue): Fault | null {
    if (queue.window !== this.#window) queue.accepted = 0;
    queue.window = this.#window;
    queue.accepted += 1;
    if (queue.accepted > this.#accepted) this.#accepted = queue.accepted;
    if (this.cause === null) return null;
    const now = this.#now();
    const { loopDelay } = this.#terms;
    return this.refusal(this.#isLate(queue, now) ? Infinity : now + loopDelay * (1 - CONNECTION_SHARE));
  }

  /** Whether what is accepted now may have waited in the queue for longer than the budget. */
  #isLate(queue: AcceptQueue, now: number): boolean {
    const { loopDelay } = this.#terms;
    // A turn without a connection has found the queue empty.
    if (queue.turn < this.#turn - 1 || now - queue.since > loopDelay * MOST_BUDGETS) queue.since = now;
    queue.turn = this.#turn;
    return now - queue.since > loopDelay;
  }

  /** Whether the latest refusal gets a line of its own in the log: with thousands a second, a line would cost a quarter of the refusal. */
  get logsRefusal(): boolean {
    return this.#refusedInWindow <= LOGGED;
  }

  /** Samples now, at the end of a window; called by the interval. */
  look(): void {
    const use = this.#loop();
    const before = this.#before;
    this.#before = use;
    const busy = use.busy - before.busy;
    const turns = Math.max(1, use.turns - before.turns);
    this.#turnMs = Math.min(busy, use.worked - before.worked) / turns;
    const { loopDelay } = this.#terms;
    this.#acceptsPerTurn = this.#accepted / turns;
    this.#accepted = 0;
    this.#window += 1;
    const slow =
      loopDelay > 0 &&
      (this.#turnMs > loopDelay || this.#acceptsPerTurn >= SATURATED) &&
      busy >= SATURATED * (busy + use.idle - before.idle);
    this.#slow = slow ? this.#slow + 1 : 0;
    this.#calm = slow || this.#refusedInWindow > 0 ? 0 : this.#calm + 1;
    this.#refusedInWindow = 0;
    this.#lookedAgo += 1;
    if (this.#terms.memoryPercent < 100 && (this.#use === null || this.#lookedAgo >= MEMORY_EVERY)) {
      this.#lookedAgo = 0;
      this.#use = this.#memory.read();
    }
    if (this.#isFull()) this.#become('memory');
    else if (this.cause === 'memory') this.#become(null);
    else if (this.cause === null && this.#slow >= SLOW_WINDOWS) this.#become('loop');
    else if (this.cause === 'loop' && this.#calm >= CALM_WINDOWS) this.#become(null);
  }

  #isFull(): boolean {
    const { memoryPercent } = this.#terms;
    if (this.#use === null || memoryPercent >= 100) return false;
    return this.#use.share > memoryPercent / 100 - (this.cause === 'memory' ? HYSTERESIS : 0);
  }

  #become(cause: OverloadCause): void {
    if (cause === this.cause) return;
    this.#options.onChange({
      cause,
      turnMs: this.#turnMs,
      acceptsPerTurn: this.#acceptsPerTurn,
      memory: this.#use,
      refused: this.#refused,
    });
    this.cause = cause;
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

  /** While turns have a budget, the loop never sleeps: only then is the start of a turn known. */
  readonly #onTurnEnd = (): void => {
    this.#watchesTurns = this.cause === 'loop';
    if (!this.#watchesTurns) return;
    this.#turn += 1;
    this.#until = this.#now() + this.#terms.loopDelay;
    this.#atTurnEnd(this.#onTurnEnd);
  };
}

function loopUse(): LoopUse {
  const { active, idle } = performance.eventLoopUtilization();
  const { user, system } = process.threadCpuUsage();
  return { busy: active, worked: (user + system) / 1000, idle, turns: performance.nodeTiming.uvMetricsInfo.loopCount };
}
