/**
 * Decides which requests are traced, and sends their spans. Whether a request
 * is traced is decided when it is admitted, before anything is sent upstream;
 * for a request that is refused earlier, when it ends. The exporter is loaded
 * only where tracing is configured.
 */
import { randomBytes } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import type { TracingConfig } from '../config/config.ts';
import { RateBuckets } from '../rate-buckets.ts';
import { type AccessRecord, RequestTrace, SAMPLED } from './access-record.ts';
import type { ExportTimes, SpanCounts, SpanExport } from './span-export.ts';
import type { TracedProcess } from './spans.ts';
import type { Telemetry } from './telemetry.ts';

/** Counters of tracing. */
export interface TracingFacts {
  readonly spans: Readonly<SpanCounts>;
  /** Requests that would have been traced, had their client not used up `tracing.perClient`. */
  readonly limited: number;
}

/** Where nothing is traced. */
export const NO_TRACING: TracingFacts = { spans: { exported: 0, failed: 0, dropped: 0 }, limited: 0 };

/** For `Traces`. */
export interface TracesOptions {
  readonly process: TracedProcess;
  readonly notice: Telemetry['notice'];
  /** The defaults suit production. */
  readonly times?: Partial<ExportTimes>;
}

/** Names of the configuration; a bucket each. */
const MOST_TRACED_CLIENTS = 100_000;

/** Off until a configuration is adopted. Its creator closes it. */
export class Traces {
  readonly #options: TracesOptions;
  readonly #spans: SpanCounts = { ...NO_TRACING.spans };
  readonly #closing = new Set<Promise<void>>();
  #config: TracingConfig | null = null;
  #export: SpanExport | null = null;
  #buckets = new RateBuckets([null], MOST_TRACED_CLIENTS);
  #limited = 0;
  /** Since when the collector refuses spans, or is not reached, ms since the epoch, and why; null: it takes them, or was not tried yet. */
  #trouble: { readonly since: number; readonly reason: string; spans: number } | null = null;

  constructor(options: TracesOptions) {
    this.#options = options;
  }

  get facts(): TracingFacts {
    return { spans: this.#spans, limited: this.#limited };
  }

  /** One sentence while the collector does not take every span. */
  warnings(): string[] {
    if (this.#trouble === null) return [];
    const { since, reason, spans } = this.#trouble;
    return [`The collector of traces has not taken every span since ${new Date(since).toISOString()}: ${reason}. Spans lost: ${spans}.`];
  }

  /**
   * Loads and creates what another configuration needs.
   * @returns applies it; earlier spans are still sent
   */
  async prepare(config: TracingConfig | null): Promise<() => void> {
    if (isDeepStrictEqual(config, this.#config)) return () => {};
    const next = config === null ? null : await this.#open(config);
    return () => {
      this.#retire();
      this.#config = config;
      this.#export = next;
      this.#trouble = null;
      this.#buckets.adopt([config?.perClient ?? null], MOST_TRACED_CLIENTS);
    };
  }

  /** A request is about to be forwarded. */
  admitted(record: AccessRecord): void {
    if (this.#config === null) return;
    record.admitted = true;
    this.#decide(record, this.#config);
  }

  /** A tunnel carries bytes from now on: its spans end here, because spans of a day would arrive too late for any collector. */
  tunnelOpened(record: AccessRecord): void {
    if (record.trace !== null) this.#tell(record, record.trace, performance.now() - record.startedAt);
  }

  /** Call it before the log, which needs the ids assigned here. */
  ended(record: AccessRecord): void {
    if (this.#config === null) return;
    if (!record.admitted) this.#decide(record, this.#config);
    if (record.trace !== null) this.#tell(record, record.trace, record.durationMs);
  }

  /** Sends the remaining spans, within a time limit. Never rejects. */
  async close(): Promise<void> {
    this.#retire();
    this.#config = null;
    await Promise.all(this.#closing);
  }

  /**
   * As the caller decided by the flag of its `traceparent`, or by random
   * sampling. Any client may set that flag, so each has its own limit: a client
   * that sets it always exhausts neither the collector nor the limits of
   * others.
   */
  #decide(record: AccessRecord, { sample }: TracingConfig): void {
    const wanted = record.traceId === '' ? Math.random() < sample : (record.traceFlags & SAMPLED) !== 0;
    if (!wanted) return;
    const now = performance.now();
    if (this.#buckets.wait(this.#buckets.find(record.client, now), 0) > 0) {
      this.#limited += 1;
      return;
    }
    this.#buckets.take(record.client, 0, 1, now);
    const ids = randomBytes(32).toString('hex');
    const parent = record.spanId;
    if (record.traceId === '') {
      record.traceId = ids.slice(0, 32);
      record.traceFlags = SAMPLED;
    }
    record.spanId = ids.slice(32, 48);
    record.trace = new RequestTrace(record, parent, ids.slice(48), now);
  }

  #tell(record: AccessRecord, trace: RequestTrace, lastedMs: number): void {
    if (trace.told) return;
    trace.told = true;
    this.#export?.add(record, trace, lastedMs);
  }

  async #open(config: TracingConfig): Promise<SpanExport> {
    const { SpanExport } = await import('./span-export.ts');
    const opened = new SpanExport(
      config,
      this.#options.process,
      {
        counts: this.#spans,
        onResult: (spans, reason) => {
          // The result of an earlier collector's last spans is reported when it is
          // closed.
          if (this.#export === opened) this.#noteResult(spans, reason);
        },
      },
      this.#options.times,
    );
    return opened;
  }

  #retire(): void {
    const over = this.#export;
    this.#export = null;
    if (over === null) return;
    const before = this.#lost;
    const closing = over.close().then(() => {
      this.#closing.delete(closing);
      const spans = this.#lost - before;
      if (spans > 0) this.#options.notice('warn', 'spans were lost: the collector did not take the last ones in time', { spans });
    });
    this.#closing.add(closing);
  }

  get #lost(): number {
    return this.#spans.failed + this.#spans.dropped;
  }

  /** Logged when it changes, and not for each batch. */
  #noteResult(spans: number, reason: string | null): void {
    if (reason === null) {
      if (this.#trouble === null) return;
      this.#options.notice('info', 'the collector of traces takes spans again', { spansLost: this.#trouble.spans });
      this.#trouble = null;
    } else if (this.#trouble === null) {
      this.#trouble = { since: Date.now(), reason, spans };
      this.#options.notice('warn', 'the collector of traces does not take every span', { reason, spansLost: spans });
    } else this.#trouble.spans += spans;
  }
}
