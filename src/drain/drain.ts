/**
 * Ends the tunnels of a proxy that shuts down. If all ended at the deadline,
 * every client would reconnect in the same second, so they end at an even rate
 * over the window, idle ones first, and while no bytes move. One timer for all;
 * each step plans again with the tunnels that are open then.
 */
import { Fault } from '../errors.ts';
import { lookEvery } from '../time-limit.ts';
import { type DrainCounts, type DrainState, type DrainSubject, type DrainTunnel, type DrainView, forecast } from './drain-view.ts';

/** The monotonic clock of a drain. Tests have their own. */
export interface DrainClock {
  /** Ms; `performance.now()` of the same moment. */
  now(): number;
  /** Calls `step` at this interval, ms. @returns a function that stops it */
  every(ms: number, step: () => void): () => void;
}

/** For `Drain`. */
export interface DrainOptions {
  readonly requests: Iterable<DrainSubject>;
  /** In progress now. */
  readonly exchanges: () => number;
  /** In force, ms. */
  readonly times: () => { readonly drainDelay: number; readonly drain: number };
  readonly clock?: DrainClock;
  /** Ms since the epoch. */
  readonly wallClock: () => number;
}

const MONOTONIC_CLOCK: DrainClock = {
  now: () => performance.now(),
  every: (ms, step) => lookEvery(ms, step, true),
};

/** Steps in a window; a step takes between these times, ms. */
const STEPS = 250;
const SHORTEST_STEP = 10;
const LONGEST_STEP = 100;
/** A tunnel without a byte for this number of steps is quiet. */
const QUIET_STEPS = 5;
/** The same where the client spoke last: it may be waiting for an answer. */
const UNANSWERED_STEPS = 50;
/** Until this part of the window tunnels end only at quiet moments; those without one are ended in the rest. */
const PATIENT = 0.8;
/** By this part of the window all have been ended: the rest is for both sides to close. */
const SPREAD = 0.95;
/** Time after the FIN to both sides until tunnels that have not closed are reset, ms. */
const PARTING_TIME = 5000;

/** The state of a tunnel in the plan. */
interface TunnelPace {
  readonly request: DrainSubject;
  readonly tunnel: DrainTunnel;
  moved: number;
  /** From the upstream, bytes. */
  received: number;
  /** The last bytes came only from the client. */
  unanswered: boolean;
  /** When `moved` was seen to change last, ms. */
  since: number;
  /** When it was ended, ms; null: it has not been. */
  leftAt: number | null;
}

/** The moments of a drain, ms of its clock. */
interface Window {
  readonly from: number;
  readonly patientUntil: number;
  readonly spreadUntil: number;
  /** From then on active tunnels are ended too. */
  readonly last: number;
  readonly deadline: number;
  readonly step: number;
}

/** One for each proxy; it can forecast a drain before there is one. */
export class Drain {
  state: DrainState = 'running';
  /** How tunnels have ended since the drain began. */
  readonly counts: { -readonly [name in keyof DrainCounts]: DrainCounts[name] } = {
    byThemselves: 0,
    quiet: 0,
    busy: 0,
    cut: 0,
    exchangesCut: 0,
  };
  readonly #options: DrainOptions;
  readonly #clock: DrainClock;
  /** Why tunnels and exchanges end. */
  readonly fault = new Fault('draining', 'the proxy is shutting down', { retryAfter: 1, remedy: 'try again: another replica answers' });
  readonly #paces = new WeakMap<DrainTunnel, TunnelPace>();
  /** Tunnels that were open at some step. */
  #known = 0;
  #window: Window | null = null;
  /** When the latest end was due: the next one follows after an even part of the remaining time. */
  #mark = 0;
  /** An end was due, and no tunnel was quiet. */
  #owed: 0 | 1 = 0;

  constructor(options: DrainOptions) {
    this.#options = options;
    this.#clock = options.clock ?? MONOTONIC_CLOCK;
  }

  /** The proxy is no longer ready, but still accepts during the delay. */
  begin(): void {
    const { drainDelay, drain } = this.#options.times();
    this.state = 'delay';
    const now = this.#clock.now();
    this.#window = windowOf(now + drainDelay, drain);
    this.#look(now);
  }

  /** Ends the tunnels. Resolves at the deadline, or when `hurry` is aborted. */
  run(hurry: AbortSignal): Promise<void> {
    if (hurry.aborted) return Promise.resolve();
    this.state = 'draining';
    const window = windowOf(this.#clock.now(), this.#options.times().drain);
    this.#window = window;
    this.#mark = window.from;
    return new Promise((resolve) => {
      const over = (): void => {
        stop();
        hurry.removeEventListener('abort', over);
        resolve();
      };
      const stop = this.#clock.every(window.step, () => {
        const now = this.#clock.now();
        if (now >= window.deadline) over();
        else this.#step(now, window);
      });
      hurry.addEventListener('abort', over);
    });
  }

  /** The requests in progress now will be cut. */
  finish(): DrainCounts {
    const counts = this.counts;
    for (const { tunnel } of this.#options.requests) {
      if (tunnel === null) counts.exchangesCut += 1;
      else if (!tunnel.ending) counts.cut += 1;
    }
    const { open } = this.#look(this.#clock.now());
    this.#countOwnEnds(open);
    this.state = 'ended';
    return counts;
  }

  /** The forecast or progress of a drain. */
  view(): DrainView {
    const { requests, exchanges, times, wallClock } = this.#options;
    const now = this.#clock.now();
    const { drainDelay, drain } = times();
    const window = this.#window;
    const planned = window ?? windowOf(now + drainDelay, drain);
    return forecast({
      requests,
      state: this.state,
      exchanges: exchanges(),
      now,
      wallNow: wallClock(),
      deadline: window?.deadline ?? null,
      spreadFrom: Math.max(now, planned.from),
      spreadUntil: planned.spreadUntil,
      quietTime: planned.step * QUIET_STEPS,
      movedAt: (request) => this.#movedAt(request, now),
      counts: this.counts,
    });
  }

  /** Records which tunnels moved bytes. @returns tunnels that are quiet, and those that are not */
  #look(now: number): { readonly open: number; readonly quiet: TunnelPace[]; readonly busy: TunnelPace[] } {
    const quiet: TunnelPace[] = [];
    const busy: TunnelPace[] = [];
    const step = this.#window?.step ?? LONGEST_STEP;
    for (const request of this.#options.requests) {
      const { tunnel } = request;
      if (tunnel === null) continue;
      const pace = this.#paceOf(request, tunnel, now);
      if (tunnel.ending) {
        if (pace.leftAt !== null && now - pace.leftAt >= PARTING_TIME)
          request.connection.guard(() => {
            tunnel.end(this.fault);
          });
      } else if (now - pace.since >= step * (pace.unanswered ? UNANSWERED_STEPS : QUIET_STEPS) && tunnel.still) quiet.push(pace);
      else busy.push(pace);
    }
    return { open: quiet.length + busy.length, quiet, busy };
  }

  #paceOf(request: DrainSubject, tunnel: DrainTunnel, now: number): TunnelPace {
    const known = this.#paces.get(tunnel);
    if (known !== undefined) {
      if (known.moved !== tunnel.moved) {
        const { bytesReceived } = request.record;
        known.unanswered = bytesReceived === known.received;
        known.received = bytesReceived;
        known.moved = tunnel.moved;
        known.since = now;
      }
      return known;
    }
    const pace: TunnelPace = {
      request,
      tunnel,
      moved: tunnel.moved,
      received: request.record.bytesReceived,
      unanswered: false,
      since: movedAtByClock(request, now),
      leftAt: null,
    };
    this.#paces.set(tunnel, pace);
    if (!tunnel.ending) this.#known += 1;
    return pace;
  }

  #movedAt(request: DrainSubject, now: number): number {
    const pace = request.tunnel === null ? undefined : this.#paces.get(request.tunnel);
    if (pace === undefined) return movedAtByClock(request, now);
    return pace.moved === pace.tunnel.moved ? pace.since : now;
  }

  #step(now: number, window: Window): void {
    const { open, quiet, busy } = this.#look(now);
    this.#countOwnEnds(open);
    const due = this.#due(now, open, window);
    const wanted = due + this.#owed;
    if (wanted === 0) return;
    for (const pace of pickLongest(quiet, wanted)) this.#end(pace, now, 'quiet');
    // One waits for the next quiet moment; if there are more, the rest is spread
    // again.
    this.#owed = wanted > quiet.length ? 1 : 0;
    // Between the two, the few remaining ones have more time to become quiet.
    const pressed = now >= window.last || (now >= window.patientUntil && now < window.spreadUntil);
    if (!pressed || due <= quiet.length) return;
    for (const pace of pickLongest(busy, due - quiet.length)) this.#end(pace, now, 'busy');
  }

  /** How many ends have become due since the step before. */
  #due(now: number, open: number, { spreadUntil }: Window): number {
    if (now >= spreadUntil) return open;
    if (open === 0) this.#mark = now;
    let due = 0;
    for (; due < open; due += 1) {
      const next = this.#mark + (spreadUntil - this.#mark) / (open - due);
      if (next > now) break;
      this.#mark = next;
    }
    return due;
  }

  #end(pace: TunnelPace, now: number, how: 'quiet' | 'busy'): void {
    pace.leftAt = now;
    this.counts[how] += 1;
    pace.request.connection.guard(() => {
      // A FIN in a pause of plain bytes would end a response that is delimited by the close (RFC 9112 §6.3).
      if (how === 'quiet' && pace.request.tellsItsEnd) pace.tunnel.leave(this.fault);
      else pace.tunnel.end(this.fault);
    });
  }

  #countOwnEnds(open: number): void {
    const { quiet, busy } = this.counts;
    this.counts.byThemselves = Math.max(0, this.#known - open - quiet - busy);
  }
}

/** Those idle for the longest. Numbers are sorted, not tunnels: for 10,000 that takes a millisecond. */
function pickLongest(paces: readonly TunnelPace[], most: number): readonly TunnelPace[] {
  if (most >= paces.length) return paces;
  const limit = Float64Array.from(paces, ({ since }) => since).sort()[most - 1] ?? 0;
  return paces.filter(({ since }) => since <= limit).slice(0, most);
}

function windowOf(from: number, length: number): Window {
  const step = Math.min(LONGEST_STEP, Math.max(SHORTEST_STEP, length / STEPS));
  const deadline = from + length;
  return { from, patientUntil: from + length * PATIENT, spreadUntil: from + length * SPREAD, last: deadline - 2 * step, deadline, step };
}

/** When the connection moved last, by its clock: at most one tick late. */
function movedAtByClock({ connection }: DrainSubject, now: number): number {
  return connection.stamp === connection.seen ? Math.min(connection.seenAt, now) : now;
}
