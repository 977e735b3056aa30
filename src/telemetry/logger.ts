/** The log: JSON lines, or text for people; notices by pino, and one line for each exchange or tunnel. */
import { type Logger, pino } from 'pino';
import type { LogConfig } from '../config/config.ts';
import { type AccessRecord, outcomeOf, PLANNED_ENDS } from './access-record.ts';
import { type AccessFields, accessFieldsOf, leadWith } from './log-profile.ts';
import { bound, escapeText, escapeUnsafe, jsonText } from './safe-text.ts';

/**
 * How a line of JSON is written, with its line feed.
 * @param colour applies to the text format alone
 */
export function createLineFormat({ format, profile }: Pick<LogConfig, 'format' | 'profile'>, colour: boolean): (json: string) => string {
  if (format === 'text') return (json) => formatTextLine(json, colour);
  return leadWith(profile);
}

/** @param writeLine takes one line of JSON without control characters, with its line feed */
export function createLogger(level: LogConfig['level'], writeLine: (line: string) => void): Logger {
  return pino(
    {
      level,
      base: null,
      formatters: { level: (label) => ({ level: label }) },
      timestamp: () => `,"time":"${new Date().toISOString()}"`,
    },
    {
      write: (line: string) => {
        writeLine(escapeUnsafe(line));
      },
    },
  );
}

// Turns one JSON log line into one line for people: what `format: text` and the demo show.

type LogFields = Readonly<Record<string, unknown>>;

const COLOURS: Readonly<Record<string, number>> = { debug: 90, info: 32, warn: 33, error: 31, fatal: 31 };

/** Times are UTC, as in the JSON. The result is always one printable line with its newline, for any value. */
export function formatTextLine(json: string, colour: boolean): string {
  const fields = JSON.parse(json) as LogFields;
  const level = text(fields, 'level');
  const label = level.toUpperCase().padEnd(5);
  const shade = COLOURS[level];
  const paint = colour && shade !== undefined ? `\u001b[${shade}m${label}\u001b[0m` : label;
  const rest = 'durationMs' in fields ? requestText(fields) : notice(fields);
  return `${text(fields, 'time').slice(11, 23)} ${paint} ${rest}\n`;
}

function requestText(fields: LogFields): string {
  const form = text(fields, 'form');
  const method = form === 'connect' || form === 'sni' ? '' : ` ${text(fields, 'method')}`;
  const host = text(fields, 'host');
  // Refused before its target was known.
  const authority = host === '-' ? 'no host' : `${host.includes(':') ? `[${host}]` : host}:${text(fields, 'port')}`;
  const asked = form === '-' ? 'no request' : `${form}${method} ${authority}${text(fields, 'path')}`;
  const what = `${asked} → ${text(fields, 'upstreamAddress')}${'via' in fields ? ` by way of ${text(fields, 'via')}` : ''}`;
  const would = 'wouldDeny' in fields ? ` would be denied: ${text(fields, 'wouldDeny')}` : '';
  const how = `${text(fields, 'status')} ${text(fields, 'code')}${would} ${text(fields, 'durationMs')} ms`;
  const bytes = `↑${text(fields, 'bytesSent')} ↓${text(fields, 'bytesReceived')}`;
  const shown = ['user', 'subject', 'san']
    .filter((name) => name in fields)
    .map((name) => ` ${name}=${text(fields, name)}`)
    .join('');
  const who = `client=${text(fields, 'client')}${shown} from=${text(fields, 'clientAddress')} id=${text(fields, 'requestId')}`;
  const why = 'detail' in fields ? ` (${text(fields, 'detail')})` : '';
  return `${what} ${how} ${bytes} ${who}${why}`;
}

function notice(fields: LogFields): string {
  let line = text(fields, 'msg');
  for (const [name, value] of Object.entries(fields)) {
    if (name !== 'level' && name !== 'time' && name !== 'msg') line += ` ${escapeText(name)}=${showField(value)}`;
  }
  return line;
}

function text(fields: LogFields, name: string): string {
  const value = fields[name];
  return typeof value === 'string' ? escapeText(value) : showField(value);
}

function showField(value: unknown): string {
  if (value === undefined) return '-';
  // An error as pino writes it: the message is enough here, the JSON format has the stack.
  if (typeof value === 'object' && value !== null && 'stack' in value && 'message' in value) return showField(value.message);
  return typeof value === 'string' && /^[\w.:/-]+$/.test(value) ? value : escapeText(JSON.stringify(value));
}

// Writes one line for each exchange or tunnel that has ended. docs/log.md lists
// every field. The line is built here, not by pino as all the others: it is
// written for every request, and its fields are known
// (docs/decisions/0040-metrics-and-log.md).

/** Longest text of each field, characters: a client chooses some of these. */
const MAX_LOGGED_METHOD = 32;
const MAX_LOGGED_HOST = 256;
const MAX_LOGGED_PATH = 2048;
const MAX_LOGGED_DETAIL = 1024;
const MAX_NAME = 256;

type LogLevel = LogConfig['level'];
const LOG_LEVELS: readonly LogLevel[] = ['debug', 'info', 'warn', 'error'];

/** The record is read at once and not kept. Neither throws nor waits. */
type AccessLog = (record: AccessRecord) => void;

/** @param write takes one line of JSON at a time */
export function createAccessLog(log: LogConfig, write: (line: string) => void): AccessLog {
  const { level: least } = log;
  const more = accessFieldsOf(log);
  const enabled = (level: LogLevel): boolean => LOG_LEVELS.indexOf(level) >= LOG_LEVELS.indexOf(least);
  const [info, warn, error] = [enabled('info'), enabled('warn'), enabled('error')];
  return (record) => {
    const { code } = record;
    switch (outcomeOf(record)) {
      case 'allowed':
        if (record.wouldDeny !== '') {
          if (warn) write(formatAccess(record, 'warn', `reported: ${record.wouldDeny}`, more));
        } else if (info) write(formatAccess(record, 'info', record.became === 'tunnel' ? 'tunnel ok' : 'exchange ok', more));
        return;
      case 'aborted':
        if (info) write(formatAccess(record, 'info', `aborted: ${code}`, more));
        return;
      case 'denied':
        if (warn) write(formatAccess(record, 'warn', `denied: ${code}`, more));
        return;
      case 'failed':
        if (!PLANNED_ENDS.has(code)) {
          if (error) write(formatAccess(record, 'error', `failed: ${code}`, more));
        } else if (warn) write(formatAccess(record, 'warn', `closed: ${code}`, more));
        return;
    }
  };
}

/** Quoted without escaping: names that the configuration restricts to plain characters, and our own words. */
function formatAccess(record: AccessRecord, level: LogLevel, message: string, more: AccessFields | null): string {
  const clientAddress = jsonText(record.clientAddress);
  const method = jsonText(bound(record.method, MAX_LOGGED_METHOD));
  const host = jsonText(bound(record.host, MAX_LOGGED_HOST));
  const path = jsonText(bound(record.path, MAX_LOGGED_PATH));
  const upstreamAddress = jsonText(record.upstreamAddress);
  let line = `{"level":"${level}","time":"${timestamp()}","requestId":${jsonText(record.requestId)},"form":"${record.form}","client":"${record.client}","clientAddress":${clientAddress}`;
  line += `,"method":${method},"host":${host},"port":${record.port},"path":${path}`;
  if (record.user !== '') line += `,"user":${jsonText(bound(record.user, MAX_NAME))}`;
  if (record.subject !== '') line += `,"subject":${jsonText(bound(record.subject, MAX_NAME))}`;
  if (record.san !== '') line += `,"san":${jsonText(bound(record.san, MAX_NAME))}`;
  line += `,"destination":"${record.destination}","rule":"${record.rule}","verdict":"${record.verdict}"`;
  if (record.wouldDeny !== '') line += `,"wouldDeny":"${record.wouldDeny}"`;
  line += `,"code":"${record.code}","status":${record.status},"upstreamAddress":${upstreamAddress}`;
  if (record.upstreamStatus !== 0) line += `,"upstreamStatus":${record.upstreamStatus}`;
  if (record.localPort !== 0) line += `,"localAddress":${jsonText(record.localAddress)},"localPort":${record.localPort}`;
  if (record.via !== '') line += `,"via":${jsonText(record.via)}`;
  if (record.attempts > 1) line += `,"attempts":${record.attempts}`;
  if (record.dials > 1) line += `,"dials":${record.dials}`;
  line += `,"reusedConnection":${record.reusedConnection},"phases":{${phases(record)}},"durationMs":${milliseconds(record.durationMs)}`;
  line += `,"bytesSent":${record.bytesSent},"bytesReceived":${record.bytesReceived},"closedBy":"${record.closedBy}"`;
  if (record.traceId !== '') line += `,"dt.trace_id":"${record.traceId}"`;
  if (record.spanId !== '') line += `,"dt.span_id":"${record.spanId}"`;
  if (more !== null) line += more(record, { method, host, path, clientAddress, upstreamAddress });
  if (record.detail !== '') line += `,"detail":${jsonText(bound(record.detail, MAX_LOGGED_DETAIL))}`;
  return `${line},"msg":"${message}"}\n`;
}

function phases({ dnsMs, tcpMs, hopMs, tlsMs, firstByteMs }: AccessRecord): string {
  let text = '';
  if (dnsMs >= 0) text += `,"dns":${milliseconds(dnsMs)}`;
  if (tcpMs >= 0) text += `,"tcp":${milliseconds(tcpMs)}`;
  if (hopMs >= 0) text += `,"hop":${milliseconds(hopMs)}`;
  if (tlsMs >= 0) text += `,"tls":${milliseconds(tlsMs)}`;
  if (firstByteMs >= 0) text += `,"firstByte":${milliseconds(firstByteMs)}`;
  return text.slice(1);
}

/** To the hundredth: finer is noise, and makes lines longer. */
const milliseconds = (value: number): number => Math.round(value * 100) / 100;

let stampedAt = 0;
let stamp = '';

/** Many lines end within one millisecond. */
function timestamp(): string {
  const now = Date.now();
  if (now !== stampedAt) {
    stampedAt = now;
    stamp = new Date(now).toISOString();
  }
  return stamp;
}
