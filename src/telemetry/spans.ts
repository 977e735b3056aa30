/**
 * The spans of a request, from its access record: a server span for the
 * client's request, and a client span below it for the request to the upstream.
 * Names and attributes are those of OpenTelemetry's stable semantic conventions
 * for HTTP, besides `eco_egress.*`. Spans contain no header fields, no query,
 * and no detail that could quote them (docs/tracing.md).
 */
import { type Attributes, type HrTime, type SpanContext, SpanKind, type SpanStatus, SpanStatusCode } from '@opentelemetry/api';
import { resourceFromAttributes } from '@opentelemetry/resources';
import type { ReadableSpan } from '@opentelemetry/sdk-trace';
import { FAULTS } from '../errors.ts';
import { type AccessRecord, asksForTunnel, outcomeOf, type RequestTrace, SAMPLED } from './access-record.ts';
import { bound } from './safe-text.ts';

/** The attributes of the process in its spans. */
export interface TracedProcess {
  readonly version: string;
  /** Of the proxy, as in `Via`. */
  readonly name: string;
  /** Of this replica; `-`: it has none. */
  readonly instance: string;
  readonly hostName: string;
  /** Name of the Kubernetes pod; null: not known. */
  readonly pod: string | null;
}

/** @param endedAt ms since the epoch; the request began `lastedMs` earlier */
export type SpanWriter = (record: AccessRecord, trace: RequestTrace, endedAt: number, lastedMs: number) => ReadableSpan[];

const MAX_TRACED_HOST = 256;
const MAX_TRACED_PATH = 2_048;
const MAX_TRACED_METHOD = 32;
const NONE: never[] = [];
const UNSET: SpanStatus = { code: SpanStatusCode.UNSET };
const FAILED: SpanStatus = { code: SpanStatusCode.ERROR };
/** Others are `_OTHER`, so that a client cannot create span names. */
const NAMED_METHODS: ReadonlySet<string> = new Set([
  'CONNECT',
  'DELETE',
  'GET',
  'HEAD',
  'OPTIONS',
  'PATCH',
  'POST',
  'PUT',
  'QUERY',
  'TRACE',
]);

type SpanOf = Pick<ReadableSpan, 'name' | 'kind' | 'status' | 'attributes' | 'resource' | 'instrumentationScope'>;

/** A span that has ended. @param times ms since the epoch */
function finish(span: SpanOf, context: SpanContext, parent: SpanContext | null, [from, until]: readonly [number, number]): ReadableSpan {
  return {
    ...span,
    spanContext: () => context,
    ...(parent === null ? {} : { parentSpanContext: parent }),
    startTime: hrTime(from),
    endTime: hrTime(until),
    duration: hrTime(until - from),
    links: NONE,
    events: NONE,
    ended: true,
    droppedAttributesCount: 0,
    droppedEventsCount: 0,
    droppedLinksCount: 0,
  };
}

/** Writes the spans of requests of this process. */
export function createSpanWriter(serviceName: string | null, { version, name, instance, hostName, pod }: TracedProcess): SpanWriter {
  const resource = resourceFromAttributes({
    'service.name': serviceName ?? name,
    'service.version': version,
    ...(instance === '-' ? {} : { 'service.instance.id': instance }),
    'host.name': hostName,
    ...(pod === null ? {} : { 'k8s.pod.name': pod }),
  });
  const process = { resource, instrumentationScope: { name: 'eco-egress', version } };
  return (record, trace, endedAt, lastedMs) => {
    const startedAt = endedAt - lastedMs;
    const { traceId, traceFlags } = record;
    const server: SpanContext = { traceId, spanId: record.spanId, traceFlags };
    const parent = trace.parentSpanId === '' ? null : { traceId, spanId: trace.parentSpanId, traceFlags, isRemote: true };
    const spans = [
      finish(
        {
          ...process,
          name: serverName(record),
          kind: SpanKind.SERVER,
          status: isFailed(record) ? FAILED : UNSET,
          attributes: serverAttributes(record),
        },
        server,
        parent,
        [startedAt, endedAt],
      ),
    ];
    if (wentOut(record)) {
      const client: SpanContext = { traceId, spanId: trace.clientSpanId, traceFlags: traceFlags | SAMPLED };
      const since = Math.min(endedAt, startedAt + Math.max(0, trace.admittedAt - record.startedAt));
      spans.push(
        finish(
          {
            ...process,
            name: clientName(record),
            kind: SpanKind.CLIENT,
            status: upstreamError(record) === '' ? UNSET : FAILED,
            attributes: clientAttributes(record),
          },
          client,
          server,
          [since, endedAt],
        ),
      );
    }
    return spans;
  };
}

/** Only names of the configuration and known methods. */
function serverName(record: AccessRecord): string {
  const what = record.form === 'sni' ? 'TLS' : record.method === '-' ? 'HTTP' : methodOf(record.method, 'HTTP');
  return record.destination === '-' ? what : `${what} ${record.destination}`;
}

/** For a tunnel, the upstream operation is the dial. */
function clientName(record: AccessRecord): string {
  return asksForTunnel(record) ? `dial ${record.destination}` : `${methodOf(record.method, 'HTTP')} ${record.destination}`;
}

const methodOf = (method: string, other: string): string => (NAMED_METHODS.has(method) ? method : other);

/** A request to an upstream was sent or tried. */
function wentOut({ became, dialled, code }: AccessRecord): boolean {
  return became !== null || dialled || (code !== 'ok' && code !== 'circuit-open' && FAULTS[code].blame === 'upstream');
}

/** Refusals with 4xx are no errors (semantic conventions: for a server, an error is 5xx), nor is a client that disconnects. */
function isFailed(record: AccessRecord): boolean {
  const outcome = outcomeOf(record);
  return record.status >= 500 || outcome === 'failed';
}

/** The error of the upstream; empty: none. */
function upstreamError({ code, upstreamStatus }: AccessRecord): string {
  if (code !== 'ok' && FAULTS[code].blame === 'upstream') return code;
  return upstreamStatus >= 400 ? String(upstreamStatus) : '';
}

function serverAttributes(record: AccessRecord): Attributes {
  const { method, host, path, status, code } = record;
  const attributes: Attributes = {
    'client.address': record.clientAddress,
    'eco_egress.code': code,
    'eco_egress.verdict': record.verdict,
    'eco_egress.form': record.form,
    'eco_egress.client': record.client,
    'eco_egress.destination': record.destination,
    'eco_egress.rule': record.rule,
    'eco_egress.request_id': record.requestId,
  };
  if (record.wouldDeny !== '') attributes['eco_egress.would_deny'] = record.wouldDeny;
  if (method !== '-') {
    noteMethod(attributes, method);
    attributes['url.scheme'] = record.secure ? 'https' : 'http';
  }
  if (host !== '-') {
    attributes['server.address'] = bound(host, MAX_TRACED_HOST);
    attributes['server.port'] = record.port;
  }
  if (path !== '') attributes['url.path'] = bound(path, MAX_TRACED_PATH);
  if (status !== 0) attributes['http.response.status_code'] = status;
  if (code !== 'ok') attributes['error.type'] = code;
  else if (status >= 500) attributes['error.type'] = String(status);
  return attributes;
}

function clientAttributes(record: AccessRecord): Attributes {
  const { host, port, upstreamAddress, upstreamStatus, via, scheme, path, attempts } = record;
  const address = bound(host, MAX_TRACED_HOST);
  const attributes: Attributes = {
    'server.address': address,
    'server.port': port,
    'eco_egress.destination': record.destination,
    'eco_egress.reused_connection': record.reusedConnection,
  };
  if (!asksForTunnel(record)) {
    noteMethod(attributes, record.method);
    // Without the query, which belongs to the partner and the client.
    if (scheme !== '')
      attributes['url.full'] = `${scheme}://${address.includes(':') ? `[${address}]` : address}:${port}${bound(path, MAX_TRACED_PATH)}`;
  }
  // Through a parent, the address is not the peer of our connection.
  if (via !== '') attributes['eco_egress.via'] = via;
  else if (upstreamAddress !== '-') {
    attributes['network.peer.address'] = upstreamAddress;
    attributes['network.peer.port'] = port;
  }
  if (upstreamStatus !== 0) attributes['http.response.status_code'] = upstreamStatus;
  if (attempts > 1) attributes['http.request.resend_count'] = attempts - 1;
  if (record.dnsMs >= 0) attributes['eco_egress.dns_ms'] = record.dnsMs;
  if (record.tcpMs >= 0) attributes['eco_egress.tcp_ms'] = record.tcpMs;
  if (record.hopMs >= 0) attributes['eco_egress.hop_ms'] = record.hopMs;
  if (record.tlsMs >= 0) attributes['eco_egress.tls_ms'] = record.tlsMs;
  if (record.firstByteMs >= 0) attributes['eco_egress.first_byte_ms'] = record.firstByteMs;
  if (record.became === 'exchange') {
    attributes['eco_egress.bytes_sent'] = record.bytesSent;
    attributes['eco_egress.bytes_received'] = record.bytesReceived;
  }
  const error = upstreamError(record);
  if (error !== '') attributes['error.type'] = error;
  return attributes;
}

function noteMethod(attributes: Attributes, method: string): void {
  attributes['http.request.method'] = methodOf(method, '_OTHER');
  if (!NAMED_METHODS.has(method)) attributes['http.request.method_original'] = bound(method, MAX_TRACED_METHOD);
}

/** Seconds, and nanoseconds besides. */
function hrTime(ms: number): HrTime {
  const seconds = Math.floor(ms / 1_000);
  return [seconds, Math.floor((ms - seconds * 1_000) * 1e6)];
}
