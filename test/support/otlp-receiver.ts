/**
 * A collector of traces that takes OTLP over HTTP, and decodes it by the
 * message definitions of the protocol itself: nothing of the exporter is used.
 */
import { EventEmitter, once } from 'node:events';
import { createServer as createHttpServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import { gunzipSync } from 'node:zlib';
import protobuf from 'protobufjs';
import type { Test } from 'tap';
import { listen } from './listen.ts';

/** https://github.com/open-telemetry/opentelemetry-proto, as far as traces need it. */
const PROTO = `
  syntax = "proto3";
  message AnyValue { oneof value { string string_value = 1; bool bool_value = 2; int64 int_value = 3; double double_value = 4; ArrayValue array_value = 5; KeyValueList kvlist_value = 6; bytes bytes_value = 7; } }
  message ArrayValue { repeated AnyValue values = 1; }
  message KeyValueList { repeated KeyValue values = 1; }
  message KeyValue { string key = 1; AnyValue value = 2; }
  message Resource { repeated KeyValue attributes = 1; uint32 dropped_attributes_count = 2; }
  message InstrumentationScope { string name = 1; string version = 2; repeated KeyValue attributes = 3; uint32 dropped_attributes_count = 4; }
  message Status { string message = 2; int32 code = 3; }
  message Event { fixed64 time_unix_nano = 1; string name = 2; repeated KeyValue attributes = 3; }
  message Link { bytes trace_id = 1; bytes span_id = 2; string trace_state = 3; repeated KeyValue attributes = 4; }
  message Span {
    bytes trace_id = 1; bytes span_id = 2; string trace_state = 3; bytes parent_span_id = 4; string name = 5; int32 kind = 6;
    fixed64 start_time_unix_nano = 7; fixed64 end_time_unix_nano = 8; repeated KeyValue attributes = 9; uint32 dropped_attributes_count = 10;
    repeated Event events = 11; uint32 dropped_events_count = 12; repeated Link links = 13; uint32 dropped_links_count = 14; Status status = 15; fixed32 flags = 16;
  }
  message ScopeSpans { InstrumentationScope scope = 1; repeated Span spans = 2; string schema_url = 3; }
  message ResourceSpans { Resource resource = 1; repeated ScopeSpans scope_spans = 2; string schema_url = 3; }
  message ExportTraceServiceRequest { repeated ResourceSpans resource_spans = 1; }
`;
const Request = protobuf.parse(PROTO).root.lookupType('ExportTraceServiceRequest');

export type Attributes = Readonly<Record<string, unknown>>;

export interface ReceivedSpan {
  readonly traceId: string;
  readonly spanId: string;
  /** Empty: none. */
  readonly parentSpanId: string;
  readonly name: string;
  readonly kind: 'server' | 'client' | 'other';
  /** Nanoseconds since the epoch. */
  readonly start: bigint;
  readonly end: bigint;
  readonly error: boolean;
  readonly statusMessage: string;
  readonly attributes: Attributes;
  readonly resource: Attributes;
}

interface Encoded {
  readonly key: string;
  readonly value: Readonly<Record<string, unknown>>;
}

interface EncodedSpan {
  readonly traceId: Uint8Array;
  readonly spanId: Uint8Array;
  readonly parentSpanId?: Uint8Array;
  readonly name: string;
  readonly kind: number;
  readonly startTimeUnixNano: string;
  readonly endTimeUnixNano: string;
  readonly attributes?: readonly Encoded[];
  readonly status?: { readonly code?: number; readonly message?: string };
}

/** What the collector does with a batch; by default it takes it. */
export type Answering = (res: ServerResponse, req: IncomingMessage) => void;

export interface OtlpReceiver {
  readonly url: string;
  readonly spans: readonly ReceivedSpan[];
  /** Decompressed, of everything that came. */
  readonly raw: readonly Buffer[];
  readonly headers: readonly IncomingHttpHeaders[];
  /** Batches that came, also those that were not taken. */
  readonly batches: number;
  answer: Answering;
  /** All spans that fit, once there are so many. */
  received(count: number, fits?: (span: ReceivedSpan) => boolean): Promise<ReceivedSpan[]>;
  /** Once so many batches have come. */
  asked(count: number): Promise<void>;
}

const take: Answering = (res) => {
  res.writeHead(200, { 'content-type': 'application/x-protobuf' }).end();
};

/** Over TLS where there is a certificate. Ends with the test. */
export async function startOtlpReceiver(t: Test, { certPem, keyPem, path = '/v1/traces' }: { readonly certPem?: string; readonly keyPem?: string; readonly path?: string } = {}): Promise<OtlpReceiver> {
  const spans: ReceivedSpan[] = [];
  const raw: Buffer[] = [];
  const headers: IncomingHttpHeaders[] = [];
  const events = new EventEmitter().setMaxListeners(0);
  const onRequest = (req: IncomingMessage, res: ServerResponse): void => {
    const chunks: Buffer[] = [];
    req.on('data', (chunk: Buffer) => chunks.push(chunk));
    req.on('end', () => {
      const sent = Buffer.concat(chunks);
      const body = req.headers['content-encoding'] === 'gzip' ? gunzipSync(sent) : sent;
      headers.push(req.headers);
      raw.push(body);
      if (req.method !== 'POST' || req.url !== path || req.headers['content-type'] !== 'application/x-protobuf') res.writeHead(404).end();
      else {
        receiver.answer(res, req);
        if (res.statusCode < 300 && res.headersSent) spans.push(...decode(body));
      }
      events.emit('batch');
    });
    req.on('error', () => {});
  };
  const server = certPem === undefined || keyPem === undefined ? createHttpServer(onRequest) : createHttpsServer({ cert: certPem, key: keyPem }, onRequest);
  const bound = await listen(t, server);
  const until = async (done: () => boolean): Promise<void> => {
    while (!done()) await once(events, 'batch', { signal: AbortSignal.timeout(60_000) });
  };
  const receiver: OtlpReceiver = {
    url: `${certPem === undefined ? 'http' : 'https'}://127.0.0.1:${bound}${path}`,
    spans,
    raw,
    headers,
    get batches() {
      return raw.length;
    },
    answer: take,
    received: async (count, fits = () => true) => {
      await until(() => spans.filter(fits).length >= count);
      return spans.filter(fits);
    },
    asked: (count) => until(() => raw.length >= count),
  };
  return receiver;
}

function decode(body: Buffer): ReceivedSpan[] {
  const { resourceSpans = [] } = Request.toObject(Request.decode(body), { longs: String }) as { resourceSpans?: { resource: { attributes?: Encoded[] }; scopeSpans?: { spans?: EncodedSpan[] }[] }[] };
  return resourceSpans.flatMap(({ resource, scopeSpans = [] }) => scopeSpans.flatMap(({ spans = [] }) => spans.map((span) => readSpan(span, readAttributes(resource.attributes)))));
}

function readSpan({ traceId, spanId, parentSpanId, name, kind, startTimeUnixNano, endTimeUnixNano, attributes, status }: EncodedSpan, resource: Attributes): ReceivedSpan {
  const hex = (bytes: Uint8Array | undefined): string => Buffer.from(bytes ?? []).toString('hex');
  return {
    traceId: hex(traceId),
    spanId: hex(spanId),
    parentSpanId: hex(parentSpanId),
    name,
    kind: kind === 2 ? 'server' : kind === 3 ? 'client' : 'other',
    start: BigInt(startTimeUnixNano),
    end: BigInt(endTimeUnixNano),
    error: status?.code === 2,
    statusMessage: status?.message ?? '',
    attributes: readAttributes(attributes),
    resource,
  };
}

function readAttributes(encoded: readonly Encoded[] = []): Attributes {
  return Object.fromEntries(
    encoded.map(({ key, value }) => {
      const [kind = '', inner] = Object.entries(value)[0] ?? [];
      return [key, kind === 'intValue' ? Number(inner) : inner];
    }),
  );
}
