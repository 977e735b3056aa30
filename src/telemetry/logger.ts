/** The one pino logger: JSON lines, or lines for people, into a sink. */
import { pino } from 'pino';
import type { Logger } from 'pino';
import type { LogConfig } from '../config/config.ts';
import type { LogSink } from './log-sink.ts';
import { escapeUnsafe } from './safe-text.ts';
import { formatTextLine } from './text-line.ts';

/** `colour` applies to the text format alone. */
export function createLogger(config: LogConfig, sink: LogSink, colour: boolean): Logger {
  const write =
    config.format === 'text'
      ? (line: string): void => {
          sink.write(formatTextLine(line, colour));
        }
      : (line: string): void => {
          sink.write(escapeUnsafe(line));
        };
  return pino(
    {
      level: config.level,
      base: null,
      formatters: { level: (level) => ({ level }) },
      timestamp: () => `,"time":"${new Date().toISOString()}"`,
    },
    { write },
  );
}
