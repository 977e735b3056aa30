/** Turns one JSON log line into one line for people: what `format: text` and the demo show. */
import { escapeText } from './safe-text.ts';

type Fields = Readonly<Record<string, unknown>>;

const COLOURS: Readonly<Record<string, number>> = { debug: 90, info: 32, warn: 33, error: 31, fatal: 31 };

/** Times are UTC, as in the JSON. Whatever a value holds, the result is one printable line with its newline. */
export function formatTextLine(json: string, colour: boolean): string {
  const fields = JSON.parse(json) as Fields;
  const level = text(fields, 'level');
  const label = level.toUpperCase().padEnd(5);
  const shade = COLOURS[level];
  const paint = colour && shade !== undefined ? `\u001b[${shade}m${label}\u001b[0m` : label;
  const rest = 'durationMs' in fields ? request(fields) : notice(fields);
  return `${text(fields, 'time').slice(11, 23)} ${paint} ${rest}\n`;
}

function request(fields: Fields): string {
  const form = text(fields, 'form');
  const method = form === 'connect' || form === 'sni' ? '' : ` ${text(fields, 'method')}`;
  const host = text(fields, 'host');
  // Refused before it said where to.
  const authority = host === '-' ? 'no host' : `${host.includes(':') ? `[${host}]` : host}:${text(fields, 'port')}`;
  const asked = form === '-' ? 'no request' : `${form}${method} ${authority}${text(fields, 'path')}`;
  const what = `${asked} → ${text(fields, 'upstreamAddress')}${'via' in fields ? ` by way of ${text(fields, 'via')}` : ''}`;
  const would = 'wouldDeny' in fields ? ` would be denied: ${text(fields, 'wouldDeny')}` : '';
  const how = `${text(fields, 'status')} ${text(fields, 'code')}${would} ${text(fields, 'durationMs')} ms`;
  const bytes = `↑${text(fields, 'bytesSent')} ↓${text(fields, 'bytesReceived')}`;
  const shown = ['user', 'subject', 'san'].filter((name) => name in fields).map((name) => ` ${name}=${text(fields, name)}`).join('');
  const who = `client=${text(fields, 'client')}${shown} from=${text(fields, 'clientAddress')} id=${text(fields, 'requestId')}`;
  const why = 'detail' in fields ? ` (${text(fields, 'detail')})` : '';
  return `${what} ${how} ${bytes} ${who}${why}`;
}

function notice(fields: Fields): string {
  let line = text(fields, 'msg');
  for (const [name, value] of Object.entries(fields)) {
    if (name !== 'level' && name !== 'time' && name !== 'msg') line += ` ${escapeText(name)}=${show(value)}`;
  }
  return line;
}

function text(fields: Fields, name: string): string {
  const value = fields[name];
  return typeof value === 'string' ? escapeText(value) : show(value);
}

function show(value: unknown): string {
  if (value === undefined) return '-';
  // An error as pino writes it: its message is enough here, the JSON format has the stack.
  if (typeof value === 'object' && value !== null && 'stack' in value && 'message' in value) return show(value.message);
  return typeof value === 'string' && /^[\w.:/-]+$/.test(value) ? value : escapeText(JSON.stringify(value)).replaceAll('\\"', '"');
}
