/** JSON lines, or lines for people: those of pino, and those that are put together already. */
import { pino } from 'pino';
import type { Logger } from 'pino';
import type { LogConfig } from '../config/config.ts';
import { escapeUnsafe } from './safe-text.ts';
import { formatTextLine } from './text-line.ts';

/**
 * How a line of JSON is written, with its line feed.
 * @param colour applies to the text format alone
 */
export function createLineFormat(format: LogConfig['format'], colour: boolean): (json: string) => string {
  return format === 'text' ? (json) => formatTextLine(json, colour) : (json) => json;
}

/** @param writeLine takes one line of JSON in which no character acts, with its line feed */
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
