/** Implements the telemetry interface of the data path with metrics, log and traces. */
import type { Writable } from 'node:stream';
import type { LogConfig, TracingConfig } from '../config/config.ts';
import { createAccessLog, createLineFormat, createLogger } from './logger.ts';
import type { PolicyFacts } from './cells.ts';
import { LogOutput, openLogOutput } from './log-output.ts';
import { explainLoss, LogSink, type LogSinkOptions, type Loss } from './log-sink.ts';
import { createMetrics, type Metrics } from './metrics.ts';
import { bound, escapeUnsafe } from './safe-text.ts';
import { Attempts, type Contain, type NoticeLevel, type Part, PARTS, type Telemetry } from './telemetry.ts';
import type { TracedProcess } from './spans.ts';
import { Traces } from './traces.ts';

/** Longest text of a field of a notice, characters; room for a stack. */
const MAX_FIELD = 4096;
/** Names that pino and the profiles write; with duplicate names in a line, parsers differ in which one counts. */
const RESERVED = new Set(['level', 'time', 'msg', 'severity', 'message', 'loglevel', 'timestamp', 'content']);

const NAMELESS: Omit<TracedProcess, 'version'> = { name: 'eco-egress', instance: '-', hostName: '-', pod: null };

/** For `createTelemetry`. */
export interface TelemetryOptions {
  readonly log: LogConfig;
  readonly policy: PolicyFacts;
  /** Where log lines go, usually `process.stdout`; stays open. Coloured if it is a terminal and the format is text. */
  readonly output: LogOutput | (Writable & { readonly isTTY?: boolean });
  readonly version: string;
  /** The process attributes of spans; without names by default. */
  readonly process?: Omit<TracedProcess, 'version'>;
  readonly sink?: LogSinkOptions;
}

/** Metrics and log of one process. */
export interface RunningTelemetry extends Metrics, Pick<Telemetry, 'admitted' | 'notice'> {
  /** Lines from now on have this level, format and profile. */
  adoptLog(log: LogConfig): void;
  /** For other listeners of the data path: their exceptions are counted, and the first of each part is logged. */
  readonly contain: Contain;
  /** One sentence for each thing about the log that deserves a look. */
  warnings(): string[];
  /** Creates what another configuration of traces needs. @returns applies it: later requests are traced by it */
  prepareTracing(config: TracingConfig | null): Promise<() => void>;
  /** Sends the spans still waiting, within a bound; requests from then on are not traced. */
  closeTracing(): Promise<void>;
  /** Writes the log lines still waiting. Call it last: later lines are lost. */
  close(): Promise<void>;
}

/** Its methods never throw: no request ends because it could not be counted or logged. */
export function createTelemetry(options: TelemetryOptions): RunningTelemetry {
  const { log, policy, version } = options;
  const output = options.output instanceof LogOutput ? options.output : openLogOutput(options.output);
  let format = createLineFormat(log, output.isTTY);
  const attempts = new Attempts((part, error) => {
    sink.write(format(failureLine(part, error)));
    sink.flush();
  });
  const sink = new LogSink(output, {
    ...options.sink,
    describeLoss: (loss) => {
      let line = '';
      attempts.run('log', () => {
        line = format(lossLine(loss));
      });
      return line;
    },
  });
  const writeLine = (line: string): void => {
    sink.write(format(line));
  };
  const logger = createLogger(log.level, writeLine);
  const traces = new Traces({
    process: { ...(options.process ?? NAMELESS), version },
    notice: (level, message, fields) => {
      notice(level, message, fields);
    },
  });
  const metrics = createMetrics({ policy, version, lostLogLines: () => sink.losses(), tracing: () => traces.facts, attempts });
  const admitted = attempts.contain('traces', traces.admitted.bind(traces));
  const traceTunnel = attempts.contain('traces', traces.tunnelOpened.bind(traces));
  const traceEnd = attempts.contain('traces', traces.ended.bind(traces));
  let writeRecord = attempts.contain('log', createAccessLog(log, writeLine));
  const writeNotice = attempts.contain('log', (level: NoticeLevel, message: string, fields?: Record<string, unknown>) => {
    logger[level](fields === undefined ? {} : printableFields(fields), bound(message, MAX_FIELD));
  });
  const notice: Telemetry['notice'] = (level, message, fields) => {
    if (!writeNotice(level, message, fields)) sink.lose('unwritable');
    // Notices are few, and an operator may be waiting for this one.
    sink.flush();
  };
  return {
    ...metrics,
    // Called for every request: one try block for each part is enough.
    admitted,
    tunnelOpened: (record) => {
      metrics.tunnelOpened(record);
      traceTunnel(record);
    },
    ended: (record, logged = true) => {
      metrics.ended(record);
      // Before the log, which has the ids of the spans.
      traceEnd(record);
      if (logged && !writeRecord(record)) sink.lose('unwritable');
    },
    notice,
    adoptLog: (changed) => {
      format = createLineFormat(changed, output.isTTY);
      logger.level = changed.level;
      writeRecord = attempts.contain('log', createAccessLog(changed, writeLine));
    },
    contain: attempts.contain,
    warnings: () => [
      ...[sink.trouble()].flatMap((loss) => (loss === null ? [] : explainLoss(loss))),
      ...warnAboutFailures(attempts.failures),
      ...traces.warnings(),
    ],
    prepareTracing: (config) => traces.prepare(config),
    closeTracing: () => traces.close(),
    close: () => sink.close(),
  };
}

function warnAboutFailures(failures: Readonly<Record<Part, number>>): string[] {
  const failed = PARTS.filter((part) => failures[part] > 0);
  return failed.length === 0
    ? []
    : [
        `Some events could not be recorded (${failed.map((part) => `${part}: ${failures[part]}`).join(', ')}); the log has the first error of each.`,
      ];
}

/** Written directly, not by the logger, which may have failed. */
function failureLine(part: Part, error: unknown): string {
  const stack = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return noticeLine('telemetry failed; requests go on, further failures of this part are only counted', {
    part,
    error: bound(stack, MAX_FIELD),
  });
}

function lossLine({ lines, reasons: linesByReason, error, since }: Loss): string {
  return noticeLine('log lines were lost', { lines, linesByReason, error: error ?? undefined, since: new Date(since).toISOString() });
}

/** At the level that no `log.level` leaves out. */
function noticeLine(msg: string, fields: object): string {
  return `${escapeUnsafe(JSON.stringify({ level: 'error', time: new Date().toISOString(), ...fields, msg }))}\n`;
}

function printableFields(fields: Record<string, unknown>): Record<string, unknown> {
  const result: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(fields)) {
    result[RESERVED.has(name) ? `${name}_` : name] = typeof value === 'string' ? bound(value, MAX_FIELD) : value;
  }
  return result;
}
