/** Puts the metrics and the log behind the one interface the data path knows. */
import type { Writable } from 'node:stream';
import type { Registry } from 'prom-client';
import type { LogConfig } from '../config/config.ts';
import { createAccessLog } from './access-log.ts';
import type { PolicyFacts } from './cells.ts';
import { createLogSink } from './log-sink.ts';
import type { LogSinkOptions } from './log-sink.ts';
import { createLogWriter } from './logger.ts';
import { createMetrics } from './metrics.ts';
import type { NatPorts } from './port-metrics.ts';
import { bound } from './safe-text.ts';
import type { Telemetry } from './telemetry.ts';

/** Longest text of a field of a notice, characters; room for a stack. */
const MAX_FIELD = 4096;
/** Names pino writes itself; the same name twice in a line would leave it to the reader which one counts. */
const RESERVED = new Set(['level', 'time', 'msg']);

export interface TelemetryOptions {
  readonly log: LogConfig;
  readonly policy: PolicyFacts;
  /** Where log lines go, usually `process.stdout`; stays open. Coloured if it is a terminal and the format is text. */
  readonly output: Writable & { readonly isTTY?: boolean };
  readonly version: string;
  readonly sink?: LogSinkOptions;
  /** Asked for at every scrape. */
  readonly natPorts?: () => NatPorts;
}

export interface RunningTelemetry extends Telemetry {
  /** For the admin listener's `/metrics`. */
  readonly registry: Registry;
  /** Tunnels open now, all destinations together. */
  openTunnels(): number;
  /** By client: tunnels that were over soon, most first. */
  shortTunnels(): (readonly [client: string, tunnels: number])[];
  /** Writes the log lines still waiting. Call it last: what is told afterwards is lost. */
  close(): Promise<void>;
}

export function createTelemetry(options: TelemetryOptions): RunningTelemetry {
  const { log, policy, output, version } = options;
  const sink = createLogSink(output, options.sink);
  const { logger, writeLine } = createLogWriter(log, sink, output.isTTY === true);
  const writeAccess = createAccessLog(log.level, writeLine);
  const metrics = createMetrics({ policy, version, droppedLogLines: sink.dropped, ...(options.natPorts === undefined ? {} : { natPorts: options.natPorts }) });
  return {
    ...metrics,
    ended: (record) => {
      metrics.ended(record);
      writeAccess(record);
    },
    notice: (level, message, fields) => {
      logger[level](fields === undefined ? {} : printable(fields), bound(message, MAX_FIELD));
      // Notices are few, and somebody may be waiting for this one.
      sink.flush();
    },
    close: async () => {
      await sink.close();
      metrics.close();
    },
  };
}

function printable(fields: Record<string, unknown>): Record<string, unknown> {
  const result: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(fields)) {
    result[RESERVED.has(name) ? `${name}_` : name] = typeof value === 'string' ? bound(value, MAX_FIELD) : value;
  }
  return result;
}
