/** JSON lines, or lines for people, into a sink: those of pino, and those that are put together already. */
import { pino } from 'pino';
import type { Logger } from 'pino';
import type { LogConfig } from '../config/config.ts';
import type { LogSink } from './log-sink.ts';
import { escapeUnsafe } from './safe-text.ts';
import { formatTextLine } from './text-line.ts';

export interface LogWriter {
  readonly logger: Logger;
  /** Takes one line of JSON in which no character acts, with its line feed. */
  readonly writeLine: (line: string) => void;
}

/** `colour` applies to the text format alone. */
export function createLogWriter(config: LogConfig, sink: LogSink, colour: boolean): LogWriter {
  const writeLine =
    config.format === 'text'
      ? (line: string): void => {
          sink.write(formatTextLine(line, colour));
        }
      : (line: string): void => {
          sink.write(line);
        };
  const write = (line: string): void => {
    writeLine(escapeUnsafe(line));
  };
  const logger = pino(
    {
      level: config.level,
      base: null,
      formatters: { level: (level) => ({ level }) },
      timestamp: () => `,"time":"${new Date().toISOString()}"`,
    },
    { write },
  );
  return { logger, writeLine };
}
