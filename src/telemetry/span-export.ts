/**
 * Sends spans to a collector, by OTLP over HTTP, in batches. It has a queue of
 * bounded length and connections of its own, and no request ever waits for it.
 * Nothing of it depends on the environment: the exporter of the SDK that does
 * so is not used (docs/decisions/0160-traces.md).
 */
import { Agent } from 'node:http';
import { Agent as TlsAgent } from 'node:https';
import { createOtlpHttpExportDelegate } from '@opentelemetry/otlp-exporter-base/node-http';
import { ProtobufTraceSerializer, TraceExporterMetricsHelper } from '@opentelemetry/otlp-transformer';
import { BatchSpanProcessor, type SpanExporter } from '@opentelemetry/sdk-trace';
import type { TracingConfig } from '../config/config.ts';
import { clientContext } from '../config/tls-context.ts';
import type { AccessRecord } from './access-record.ts';
import { createSpanWriter, type SpanWriter, type TracedProcess } from './spans.ts';
import type { RequestTrace } from './trace-context.ts';

/** Spans by what became of them; label values of `eco_egress_spans_total`. */
export interface SpanCounts {
  exported: number;
  /** The collector could not be reached, or refused them. */
  failed: number;
  /** The queue was full, or the process ended before they were sent. */
  dropped: number;
}

/** Who learns what became of the spans. */
export interface ExportOwner {
  readonly counts: SpanCounts;
  /** Of each batch; `reason` null: it was taken. */
  readonly onResult: (spans: number, reason: string | null) => void;
}

/** Spans that wait at most: some megabytes. */
const SPAN_QUEUE = 2_048;
const BATCH = 512;
/** How long sending may take, ms. */
export interface ExportTimes {
  /** A batch that is not full waits no longer. */
  readonly batch: number;
  /** For a batch with all attempts; then its connections are closed. */
  readonly send: number;
  /** For what is left at the end, or when another collector is configured. */
  readonly flush: number;
}

const EXPORT_TIMES: ExportTimes = { batch: 1_000, send: 10_000, flush: 3_000 };
/** The SDK gives a batch up so much later than we do, ms, should its exporter never answer. */
const LATER = 1_000;
/** Batches under way at once: one, and all that are left at the end. */
const CONCURRENT = SPAN_QUEUE / BATCH + 1;
const CONNECTIONS = 2;

type ExportResult = Parameters<Parameters<SpanExporter['export']>[1]>[0];

/** One collector, until it is closed. */
export class SpanExport {
  readonly #owner: ExportOwner;
  readonly #times: ExportTimes;
  readonly #write: SpanWriter;
  readonly #agent: Agent;
  readonly #processor: BatchSpanProcessor;
  #waiting = 0;
  #underWay = 0;
  #closed = false;

  constructor(config: TracingConfig, traced: TracedProcess, owner: ExportOwner, times: ExportTimes) {
    this.#owner = owner;
    this.#times = times;
    this.#write = createSpanWriter(config.serviceName, traced);
    // An agent of its own: the one of the process may lead through a proxy that the environment names.
    const keep = { keepAlive: true, maxSockets: CONNECTIONS };
    const { serverName } = config.tls;
    const agent = config.endpoint.startsWith('https:') ? new TlsAgent({ ...keep, rejectUnauthorized: true, secureContext: clientContext(config.tls), ...(serverName === null ? {} : { servername: serverName }) }) : new Agent(keep);
    this.#agent = agent;
    const delegate = createOtlpHttpExportDelegate(
      {
        url: config.endpoint,
        headers: () => Promise.resolve({ ...Object.fromEntries(config.headers), 'Content-Type': 'application/x-protobuf' }),
        agentFactory: () => agent,
        userAgent: `eco-egress/${traced.version}`,
        timeoutMillis: times.send,
        concurrencyLimit: CONCURRENT,
        compression: 'gzip',
      },
      ProtobufTraceSerializer,
      'otlp_http_span_exporter',
      TraceExporterMetricsHelper,
      undefined,
    );
    const exporter: SpanExporter = {
      export: (spans, done) => {
        this.#waiting -= spans.length;
        this.#underWay += spans.length;
        // The time-out of the SDK is for silence: one that answers a byte now and then would hold a batch for ever.
        const clock = setTimeout(() => { agent.destroy(); }, times.send);
        delegate.export(spans, (result) => {
          clearTimeout(clock);
          this.#noteResult(spans.length, result);
          done(result);
        });
      },
      shutdown: () => delegate.shutdown(),
    };
    this.#processor = new BatchSpanProcessor({ exporter, maxQueueSize: SPAN_QUEUE, maxExportBatchSize: BATCH, scheduledDelayMillis: times.batch, exportTimeoutMillis: times.send + LATER });
  }

  /** The record is read at once and not kept. */
  add(record: AccessRecord, trace: RequestTrace, lastedMs: number): void {
    const spans = this.#write(record, trace, Date.now(), lastedMs);
    if (this.#waiting + spans.length > SPAN_QUEUE) {
      this.#owner.counts.dropped += spans.length;
      return;
    }
    for (const span of spans) {
      this.#waiting += 1;
      this.#processor.onEnd(span);
    }
  }

  /** Sends what waits, within a bound; what is left then is lost. Never rejects. */
  async close(): Promise<void> {
    const enough = Promise.withResolvers<undefined>();
    const clock = setTimeout(() => { enough.resolve(undefined); }, this.#times.flush);
    // What fails has been told where it failed.
    await Promise.race([this.#processor.shutdown().catch(() => {}), enough.promise]);
    clearTimeout(clock);
    this.#closed = true;
    this.#owner.counts.dropped += this.#waiting + this.#underWay;
    this.#agent.destroy();
  }

  #noteResult(spans: number, { error }: ExportResult): void {
    if (this.#closed) return;
    this.#underWay -= spans;
    const { counts, onResult } = this.#owner;
    if (error === undefined) counts.exported += spans;
    else counts.failed += spans;
    onResult(spans, error === undefined ? null : describeExportError(error));
  }
}

/** Opens no connection before there is something to send. */
export function openSpanExport(config: TracingConfig, traced: TracedProcess, owner: ExportOwner, times: Partial<ExportTimes> = {}): SpanExport {
  return new SpanExport(config, traced, owner, { ...EXPORT_TIMES, ...times });
}

/** An answer with a status has it as its code; its body is the collector's, and not repeated. */
function describeExportError(error: Error): string {
  const { code } = error as { readonly code?: unknown };
  if (typeof code === 'number') return `it answered ${code} ${error.message}`;
  if (error.message !== '') return error.message;
  return typeof code === 'string' ? code : error.name;
}
