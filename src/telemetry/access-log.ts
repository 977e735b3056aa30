/**
 * Writes one line for each exchange or tunnel that has ended. docs/log.md lists
 * every field. The line is put together here and not by pino, which writes all
 * the others: this one is written for every request, and its fields are known
 * (docs/decisions/0040-metrics-and-log.md).
 */
import type { LogConfig } from '../config/config.ts';
import type { AccessRecord } from './access-record.ts';
import { isTunnel, outcomeOf } from './outcome.ts';
import { bound, jsonText } from './safe-text.ts';

/** Longest text of each field, characters: a client chooses some of these. */
const MAX_METHOD = 32;
const MAX_HOST = 256;
const MAX_PATH = 2048;
const MAX_DETAIL = 1024;
const MAX_NAME = 256;

/** Ends that a limit of ours brings about as it should: worth a look, no fault. */
const PLANNED = new Set(['idle-timeout', 'age-limit', 'draining']);

type Level = LogConfig['level'];
const LEVELS: readonly Level[] = ['debug', 'info', 'warn', 'error'];

/** The record is read at once and not kept. Neither throws nor waits. */
export type AccessLog = (record: AccessRecord) => void;

/** @param write takes one line of JSON at a time */
export function createAccessLog(least: Level, write: (line: string) => void): AccessLog {
  const enabled = (level: Level): boolean => LEVELS.indexOf(level) >= LEVELS.indexOf(least);
  const [info, warn, error] = [enabled('info'), enabled('warn'), enabled('error')];
  return (record) => {
    const { code } = record;
    switch (outcomeOf(record)) {
      case 'allowed':
        if (record.wouldDeny !== '') {
          if (warn) write(formatAccess(record, 'warn', `reported: ${record.wouldDeny}`));
        } else if (info) write(formatAccess(record, 'info', isTunnel(record) ? 'tunnel ok' : 'exchange ok'));
        return;
      case 'aborted':
        if (info) write(formatAccess(record, 'info', `aborted: ${code}`));
        return;
      case 'denied':
        if (warn) write(formatAccess(record, 'warn', `denied: ${code}`));
        return;
      case 'failed':
        if (!PLANNED.has(code)) {
          if (error) write(formatAccess(record, 'error', `failed: ${code}`));
        } else if (warn) write(formatAccess(record, 'warn', `closed: ${code}`));
        return;
    }
  };
}

/** In quotes as they are: names that the configuration's own rules keep plain, and words of ours. */
function formatAccess(record: AccessRecord, level: Level, message: string): string {
  let line = `{"level":"${level}","time":"${timestamp()}","requestId":${jsonText(record.requestId)},"form":"${record.form}","client":"${record.client}","clientAddress":${jsonText(record.clientAddress)}`;
  line += `,"method":${jsonText(bound(record.method, MAX_METHOD))},"host":${jsonText(bound(record.host, MAX_HOST))},"port":${record.port},"path":${jsonText(bound(record.path, MAX_PATH))}`;
  if (record.user !== '') line += `,"user":${jsonText(bound(record.user, MAX_NAME))}`;
  if (record.subject !== '') line += `,"subject":${jsonText(bound(record.subject, MAX_NAME))}`;
  if (record.san !== '') line += `,"san":${jsonText(bound(record.san, MAX_NAME))}`;
  line += `,"destination":"${record.destination}","rule":"${record.rule}","verdict":"${record.verdict}"`;
  if (record.wouldDeny !== '') line += `,"wouldDeny":"${record.wouldDeny}"`;
  line += `,"code":"${record.code}","status":${record.status},"upstreamAddress":${jsonText(record.upstreamAddress)}`;
  if (record.upstreamStatus !== 0) line += `,"upstreamStatus":${record.upstreamStatus}`;
  if (record.localPort !== 0) line += `,"localAddress":${jsonText(record.localAddress)},"localPort":${record.localPort}`;
  if (record.via !== '') line += `,"via":${jsonText(record.via)}`;
  if (record.attempts > 1) line += `,"attempts":${record.attempts}`;
  if (record.dials > 1) line += `,"dials":${record.dials}`;
  line += `,"reusedConnection":${record.reusedConnection},"phases":{${phases(record)}},"durationMs":${milliseconds(record.durationMs)}`;
  line += `,"bytesSent":${record.bytesSent},"bytesReceived":${record.bytesReceived},"closedBy":"${record.closedBy}"`;
  if (record.traceId !== '') line += `,"dt.trace_id":"${record.traceId}"`;
  if (record.spanId !== '') line += `,"dt.span_id":"${record.spanId}"`;
  if (record.detail !== '') line += `,"detail":${jsonText(bound(record.detail, MAX_DETAIL))}`;
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
