/** Fields that Dynatrace and Google Cloud Logging recognise, in addition to ours. Ours do not change, for people and for `suggest`. */
import type { LogConfig } from '../config/config.ts';
import type { AccessRecord } from './access-record.ts';

/** Texts of an access line as JSON, bounded and escaped, quotes included. */
export interface AccessTexts {
  readonly method: string;
  readonly host: string;
  readonly path: string;
  readonly clientAddress: string;
  readonly upstreamAddress: string;
}

/** Made from a record and escaped texts: it writes nothing else that a client sent. */
export type AccessFields = (record: AccessRecord, texts: AccessTexts) => string;

/** What a profile adds. */
interface LogProfile {
  /** Fields before all others, in every line; each with its comma. @param message JSON text; empty where the line has none */
  readonly lead: (level: string, time: string, message: string) => string;
  /** Fields of access lines, each after its comma. */
  readonly access: AccessFields;
}

/** https://cloud.google.com/logging/docs/reference/v2/rest/v2/LogEntry#logseverity */
const SEVERITIES: Readonly<Record<string, string>> = { debug: 'DEBUG', info: 'INFO', warn: 'WARNING', error: 'ERROR', fatal: 'CRITICAL' };

/**
 * Cloud Logging treats every line as INFO unless it has a `severity`, and shows `message` in its list.
 * https://cloud.google.com/logging/docs/structured-logging#structured_logging_special_fields
 */
const google: LogProfile = {
  lead: (level, _time, message) => `"severity":"${SEVERITIES[level] ?? 'DEFAULT'}",${message === '' ? '' : `"message":${message},`}`,
  access: (record, { method, host, path, clientAddress, upstreamAddress }) => {
    let request = record.method === '-' ? '' : `"requestMethod":${method},`;
    if (record.host !== '-') request += `"requestUrl":"${urlInQuotes(record, host, path)}",`;
    if (record.status !== 0) request += `"status":${record.status},`;
    request += `"requestSize":"${record.bytesSent}","responseSize":"${record.bytesReceived}","remoteIp":${clientAddress}`;
    if (record.upstreamAddress !== '-') request += `,"serverIp":${upstreamAddress}`;
    let fields = `,"httpRequest":{${request},"latency":"${(record.durationMs / 1_000).toFixed(5)}s"}`;
    if (record.traceId !== '') fields += `,"logging.googleapis.com/trace":"${record.traceId}"`;
    if (record.spanId !== '') fields += `,"logging.googleapis.com/spanId":"${record.spanId}"`;
    return fields;
  },
};

/** Without the scheme, which is not in the record. For a tunnel, host and port only. */
function urlInQuotes({ form, host, port }: AccessRecord, hostText: string, pathText: string): string {
  const inside = hostText.slice(1, -1);
  const authority = `${host.includes(':') ? `[${inside}]` : inside}:${port}`;
  return form === 'connect' || form === 'sni' ? authority : `//${authority}${pathText.slice(1, -1)}`;
}

/**
 * Dynatrace takes the level from the first of `loglevel`, `status`, `severity` and `level` that it
 * finds, and our `status` is a number; the text of the record is `content`, its time `timestamp`.
 * https://docs.dynatrace.com/docs/shortlink/lma-ingest-json-txt-logs Its other names are those of
 * OpenTelemetry, with which its dictionary agrees.
 * https://docs.dynatrace.com/docs/ingest-from/opentelemetry/otlp-api/otel-semantic-mapping-extended
 */
const dynatrace: LogProfile = {
  lead: (level, time, message) =>
    `"loglevel":"${level.toUpperCase()}","timestamp":"${time}",${message === '' ? '' : `"content":${message},`}`,
  access: (record, { method, host, path, clientAddress, upstreamAddress }) => {
    let fields = `,"client.address":${clientAddress}`;
    if (record.method !== '-') fields += `,"http.request.method":${method}`;
    if (record.status !== 0) fields += `,"http.response.status_code":${record.status}`;
    if (record.host !== '-') fields += `,"server.address":${host},"server.port":${record.port}`;
    if (record.path !== '') fields += `,"url.path":${path}`;
    if (record.upstreamAddress !== '-') fields += `,"network.peer.address":${upstreamAddress}`;
    if (record.code !== 'ok') fields += `,"error.type":"${record.code}"`;
    if (record.traceId !== '') fields += `,"trace_id":"${record.traceId}"`;
    if (record.spanId !== '') fields += `,"span_id":"${record.spanId}"`;
    return fields;
  },
};

const PROFILES: Readonly<Record<LogConfig['profile'], LogProfile | null>> = { plain: null, google, dynatrace };

/** Null: none; `text` has no fields. */
export function accessFieldsOf({ format, profile }: Pick<LogConfig, 'format' | 'profile'>): AccessFields | null {
  return format === 'text' ? null : (PROFILES[profile]?.access ?? null);
}

/** `level` and `time` are the first fields of every line, and `msg` the last. A quote inside a text is escaped, so no text can look like that end. */
const LEVEL_AND_TIME = /^\{"level":"(\w+)","time":"([^"]*)"/;
const MESSAGE = ',"msg":';

/** A line of JSON with the leading fields of its profile. */
export function leadWith(profile: LogConfig['profile']): (json: string) => string {
  const lead = PROFILES[profile]?.lead;
  if (lead === undefined) return (json) => json;
  return (json) => {
    const [, level, time] = LEVEL_AND_TIME.exec(json) ?? [];
    if (level === undefined || time === undefined) return json;
    const at = json.lastIndexOf(MESSAGE);
    const text = at === -1 ? '' : json.slice(at + MESSAGE.length, json.lastIndexOf('}'));
    // That of a nested object ends with its brace.
    return `{${lead(level, time, text.endsWith('"') ? text : '')}${json.slice(1)}`;
  };
}
