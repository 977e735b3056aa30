/** Writes one line for each exchange or tunnel that has ended. docs/log.md lists every field. */
import type { Logger } from 'pino';
import type { AccessRecord } from './access-record.ts';
import { isTunnel, outcomeOf } from './outcome.ts';
import { bound } from './safe-text.ts';

/** Longest text of each field, characters: a client chooses some of these. */
const MAX_METHOD = 32;
const MAX_HOST = 256;
const MAX_PATH = 2048;
const MAX_DETAIL = 1024;

/** Ends that a limit of ours brings about as it should: worth a look, no fault. */
const PLANNED = new Set(['idle-timeout', 'age-limit', 'draining']);

/** The record is read at once and not kept. Never throws, never waits. */
export function writeAccess(logger: Logger, record: AccessRecord): void {
  const { code } = record;
  switch (outcomeOf(record)) {
    case 'allowed':
      if (record.wouldDeny !== '') {
        if (logger.isLevelEnabled('warn')) logger.warn(accessFields(record), `reported: ${record.wouldDeny}`);
      } else if (logger.isLevelEnabled('info')) logger.info(accessFields(record), isTunnel(record) ? 'tunnel ok' : 'exchange ok');
      return;
    case 'aborted':
      if (logger.isLevelEnabled('info')) logger.info(accessFields(record), `aborted: ${code}`);
      return;
    case 'denied':
      if (logger.isLevelEnabled('warn')) logger.warn(accessFields(record), `denied: ${code}`);
      return;
    case 'failed':
      if (!PLANNED.has(code)) logger.error(accessFields(record), `failed: ${code}`);
      else if (logger.isLevelEnabled('warn')) logger.warn(accessFields(record), `closed: ${code}`);
      return;
  }
}

interface Phases {
  dns?: number;
  tcp?: number;
  hop?: number;
  tls?: number;
  firstByte?: number;
}

/** Undefined fields are left out of the line. */
function accessFields(record: AccessRecord): object {
  return {
    requestId: record.requestId,
    form: record.form,
    client: record.client,
    clientAddress: record.clientAddress,
    method: bound(record.method, MAX_METHOD),
    host: bound(record.host, MAX_HOST),
    port: record.port,
    path: bound(record.path, MAX_PATH),
    destination: record.destination,
    rule: record.rule,
    verdict: record.verdict,
    wouldDeny: record.wouldDeny === '' ? undefined : record.wouldDeny,
    code: record.code,
    status: record.status,
    upstreamAddress: record.upstreamAddress,
    via: record.via === '' ? undefined : record.via,
    reusedConnection: record.reusedConnection,
    phases: phases(record),
    durationMs: milliseconds(record.durationMs),
    bytesSent: record.bytesSent,
    bytesReceived: record.bytesReceived,
    closedBy: record.closedBy,
    'dt.trace_id': record.traceId === '' ? undefined : record.traceId,
    'dt.span_id': record.spanId === '' ? undefined : record.spanId,
    detail: record.detail === '' ? undefined : bound(record.detail, MAX_DETAIL),
  };
}

function phases(record: AccessRecord): Phases {
  const times: Phases = {};
  if (record.dnsMs >= 0) times.dns = milliseconds(record.dnsMs);
  if (record.tcpMs >= 0) times.tcp = milliseconds(record.tcpMs);
  if (record.hopMs >= 0) times.hop = milliseconds(record.hopMs);
  if (record.tlsMs >= 0) times.tls = milliseconds(record.tlsMs);
  if (record.firstByteMs >= 0) times.firstByte = milliseconds(record.firstByteMs);
  return times;
}

/** To the hundredth: finer is noise, and makes lines longer. */
const milliseconds = (value: number): number => Math.round(value * 100) / 100;
