/**
 * Sends spans to a collector, by OTLP over HTTP, in batches. It has a bounded
 * queue and its own connections, and no request ever waits for it. It does not
 * depend on the environment: the SDK's exporter, which does, is not used
 * (docs/decisions/0160-traces.md).
 */
import { Agent } from 'node:http';
import { Agent as TlsAgent } from 'node:https';
import { createOtlpHttpExportDelegate } from '@opentelemetry/otlp-exporter-base/node-http';
import { ProtobufTraceSerializer, TraceExporterMetricsHelper } from '@opentelemetry/otlp-transformer';
import { BatchSpanProcessor, type SpanExporter } from '@opentelemetry/sdk-trace';
import type { TracingConfig } from '../config/config.ts';
import { clientContext } from '../config/tls-context.ts';
import type { AccessRecord, RequestTrace } from './access-record.ts';
import { createSpanWriter, type SpanWriter, type TracedProcess } from './spans.ts';

/** Spans by result; label values of `eco_egress_spans_total`. */
export interface SpanCounts {
  exported: number;
  /** The collector could not be reached, or refused them. */
  failed: number;
  /** The queue was full, or the process ended before they were sent. */
  dropped: number;
}

/** Receives the results of the spans. */
export interface ExportOwner {
  readonly counts: SpanCounts;
  /** For each batch: how many of its spans were lost, and why; `reason` null: it was accepted. */
  readonly onResult: (lost: number, reason: string | null) => void;
}

/** Maximum number of waiting spans: some megabytes. */
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
/** How much later than we the SDK gives up a batch, ms, if its exporter never answers. */
const LATER = 1_000;
/** Batches sent at once: one, and all that are left at the end. */
const CONCURRENT = SPAN_QUEUE / BATCH + 1;
const CONNECTIONS = 2;

type TraceResponse = ReturnType<typeof ProtobufTraceSerializer.deserializeResponse>;
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
  /** Spans of the batch of the latest answer that it refused, although it took the others. */
  #refused = 0;

  /** Opens no connection before there is something to send. */
  constructor(config: TracingConfig, traced: TracedProcess, owner: ExportOwner, given: Partial<ExportTimes> = {}) {
    const times = { ...EXPORT_TIMES, ...given };
    this.#owner = owner;
    this.#times = times;
    this.#write = createSpanWriter(config.serviceName, traced);
    // An agent of its own: the agent of the process may use a proxy from the environment.
    const keep = { keepAlive: true, maxSockets: CONNECTIONS };
    const { serverName } = config.tls;
    const agent = config.endpoint.startsWith('https:')
      ? new TlsAgent({
          ...keep,
          rejectUnauthorized: true,
          secureContext: clientContext(config.tls),
          ...(serverName === null ? {} : { servername: serverName }),
        })
      : new Agent(keep);
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
      { ...ProtobufTraceSerializer, deserializeResponse: (data) => this.#noteResponse(ProtobufTraceSerializer.deserializeResponse(data)) },
      'otlp_http_span_exporter',
      TraceExporterMetricsHelper,
      undefined,
    );
    const exporter: SpanExporter = {
      export: (spans, done) => {
        this.#waiting -= spans.length;
        this.#underWay += spans.length;
        // The SDK's time-out is for idle connections: a collector that sends a byte now and then would hold a batch
        // indefinitely.
        const clock = setTimeout(() => {
          agent.destroy();
        }, times.send);
        delegate.export(spans, (result) => {
          clearTimeout(clock);
          this.#noteResult(spans.length, result);
          done(result);
        });
      },
      shutdown: () => delegate.shutdown(),
    };
    this.#processor = new BatchSpanProcessor({
      exporter,
      maxQueueSize: SPAN_QUEUE,
      maxExportBatchSize: BATCH,
      scheduledDelayMillis: times.batch,
      exportTimeoutMillis: times.send + LATER,
    });
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

  /** Sends the waiting spans, within a time limit; the rest is lost. Never rejects. */
  async close(): Promise<void> {
    const enough = Promise.withResolvers<undefined>();
    const clock = setTimeout(() => {
      enough.resolve(undefined);
    }, this.#times.flush);
    // Failures have already been reported.
    await Promise.race([this.#processor.shutdown().catch(() => {}), enough.promise]);
    clearTimeout(clock);
    this.#closed = true;
    this.#owner.counts.dropped += this.#waiting + this.#underWay;
    this.#agent.destroy();
  }

  /** The SDK calls it for an answer of 200, and in the same turn reports the batch as sent. */
  #noteResponse(response: TraceResponse): TraceResponse {
    this.#refused = response.partialSuccess?.rejectedSpans ?? 0;
    return response;
  }

  #noteResult(spans: number, { error }: ExportResult): void {
    const refused = error === undefined ? Math.min(this.#refused, spans) : spans;
    this.#refused = 0;
    if (this.#closed) return;
    this.#underWay -= spans;
    const { counts, onResult } = this.#owner;
    counts.exported += spans - refused;
    counts.failed += refused;
    onResult(
      refused,
      error !== undefined ? describeExportError(error) : refused > 0 ? `it refused ${refused} of ${spans} spans of a batch` : null,
    );
  }
}

/** For an answer with a status, the status is the code; the collector's body is not logged. */
function describeExportError(error: Error): string {
  const { code } = error as { readonly code?: unknown };
  if (typeof code === 'number') return `it answered ${code} ${error.message}`;
  if (error.message !== '') return error.message;
  return typeof code === 'string' ? code : error.name;
}
