/**
 * The live watchers of the status page: each gets an event every second, which is built once for all
 * (server-sent events, https://html.spec.whatwg.org/multipage/server-sent-events.html). A watcher that
 * does not read misses events, and is disconnected if it does not resume.
 */
import type { ServerResponse } from 'node:http';

/** The events. Each function returns JSON of one line. */
export interface WatcherOptions {
  /** The current view, sent at every beat. */
  readonly view: () => string;
  /** All curves, for a new watcher; the latest step, for a watcher that has the previous one. */
  readonly history: () => string;
  readonly latestStep: () => string;
  /** Number of the latest step of the curves. */
  readonly step: () => number;
  readonly most?: number;
  readonly mostOfOne?: number;
  /** Between two beats, ms. */
  readonly every?: number;
  /** The most that a slow beat delays the next one, ms. */
  readonly longest?: number;
  /** A monotonic clock, ms. */
  readonly now?: () => number;
}

interface Watcher {
  readonly response: ServerResponse;
  readonly address: string;
  /** Step of the curves that it had last; -1: none. */
  step: number;
  /** Since when it has not read; null: it reads. */
  stalledAt: number | null;
}

const MOST_WATCHERS = 32;
const MOST_WATCHERS_OF_ONE = 8;
const BEAT = 1_000;
/** A beat may take one hundredth of the time. */
const SHARE_OF_TIME = 100;
/** A page takes five seconds without an event for a lost connection, and one beat may have met a pause of the process. */
const LONGEST_BEAT = 4_000;
/** Bytes that may wait for a watcher before it misses an event. */
const MOST_UNREAD = 65_536;
/** How long it may read nothing, ms. */
const LONGEST_STALL = 15_000;
/** Delay before a browser reconnects, ms. */
const RETRY = 2_000;

/** Of the response to a watcher. */
export const STREAM_HEADERS = {
  'content-type': 'text/event-stream; charset=utf-8',
  'cache-control': 'no-store',
  'x-content-type-options': 'nosniff',
  'x-accel-buffering': 'no',
};

/** Holds the responses of all watchers until they leave, or `close`. Without watchers, no event is built. */
export class Watchers {
  readonly #options: Required<WatcherOptions>;
  readonly #watchers = new Set<Watcher>();
  #timer: NodeJS.Timeout | null = null;
  #closed = false;

  constructor(options: WatcherOptions) {
    this.#options = {
      most: MOST_WATCHERS,
      mostOfOne: MOST_WATCHERS_OF_ONE,
      every: BEAT,
      longest: LONGEST_BEAT,
      now: () => performance.now(),
      ...options,
    };
  }

  /** Watching now. */
  get size(): number {
    return this.#watchers.size;
  }

  /** Takes over the response. False: there are too many, of this address or in total, or it is closed; then nothing was written. */
  add(response: ServerResponse, address: string): boolean {
    const { most, mostOfOne } = this.#options;
    const ofOne = [...this.#watchers].filter((watcher) => watcher.address === address).length;
    if (this.#closed || this.#watchers.size >= most || ofOne >= mostOfOne) return false;
    const watcher: Watcher = { response, address, step: -1, stalledAt: null };
    this.#watchers.add(watcher);
    response.once('close', () => {
      this.#watchers.delete(watcher);
      if (this.#watchers.size === 0) this.#stop();
    });
    response.writeHead(200, STREAM_HEADERS);
    response.write(`retry: ${RETRY}\n\n`);
    this.#send(watcher, event('status', this.#options.view()));
    if (this.#timer === null) this.#schedule(this.#options.every);
    return true;
  }

  /** One event to each. Called by the timer, and by tests. */
  beat(): void {
    const { now, every, longest } = this.#options;
    const began = now();
    const view = event('status', this.#options.view());
    let late: string | null = null;
    for (const watcher of this.#watchers) {
      // To the others it is the same text.
      if (watcher.step === this.#options.step() - 1) late ??= event('step', this.#options.latestStep());
      this.#send(watcher, view, late);
    }
    if (this.#timer !== null) this.#schedule(Math.max(every, Math.min(longest, (now() - began) * SHARE_OF_TIME)));
  }

  /** Ends every response in order, and accepts no further watcher. */
  close(): void {
    this.#closed = true;
    this.#stop();
    for (const { response } of this.#watchers) response.end(event('end', '{}'));
  }

  #send(watcher: Watcher, view: string, latestStep: string | null = null): void {
    const { response } = watcher;
    const { now, step, history } = this.#options;
    if (response.writableLength > MOST_UNREAD) {
      watcher.stalledAt ??= now();
      if (now() - watcher.stalledAt >= LONGEST_STALL) response.destroy();
      return;
    }
    watcher.stalledAt = null;
    const current = step();
    let curves = '';
    if (watcher.step !== current) curves = watcher.step === current - 1 && latestStep !== null ? latestStep : event('history', history());
    watcher.step = current;
    response.write(curves + view);
  }

  #schedule(after: number): void {
    this.#timer = setTimeout(() => {
      this.beat();
    }, after);
    this.#timer.unref();
  }

  #stop(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
  }
}

/** @param data JSON of one line */
const event = (name: string, data: string): string => `event: ${name}\ndata: ${data}\n\n`;
