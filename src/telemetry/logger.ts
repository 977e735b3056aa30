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
export function createLineFormat({ format, profile }: Pick<LogConfig, 'format' | 'profile'>, colour: boolean): (json: string) => string {
  if (format === 'text') return (json) => formatTextLine(json, colour);
  return profile === 'google' ? addGoogleFields : (json) => json;
}

/** https://cloud.google.com/logging/docs/reference/v2/rest/v2/LogEntry#logseverity */
const SEVERITIES: Readonly<Record<string, string>> = { debug: 'DEBUG', info: 'INFO', warn: 'WARNING', error: 'ERROR', fatal: 'CRITICAL' };
/** `level` is the first field of every line, and `msg` the last. A quote inside a text is escaped, so no text looks like that end. */
const LEVEL = /^\{"level":"(\w+)"/;
const MESSAGE = ',"msg":';

/**
 * Cloud Logging takes every line for INFO unless it has a `severity`, and shows `message` in its list.
 * https://cloud.google.com/logging/docs/structured-logging#structured_logging_special_fields
 */
function addGoogleFields(json: string): string {
  const severity = SEVERITIES[LEVEL.exec(json)?.[1] ?? ''];
  const at = json.lastIndexOf(MESSAGE);
  const text = at === -1 ? '' : json.slice(at + MESSAGE.length, json.lastIndexOf('}'));
  // That of a nested object ends with its brace.
  const message = text.endsWith('"') ? `"message":${text},` : '';
  return severity === undefined ? json : `{"severity":"${severity}",${message}${json.slice(1)}`;
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
