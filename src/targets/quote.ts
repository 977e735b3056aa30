/**
 * What our messages name, as people read it. Text from a client is quoted so
 * that it can neither flood nor forge a log line or a header.
 */

const LONGEST_QUOTE = 200;

/** Quoted, printable ASCII only (`\n`, `\u010d`), at most some 200 characters however long the text is. */
export function quote(text: string): string {
  let quoted = '"';
  for (let i = 0; i < text.length; i += 1) {
    const piece = escapeUnit(text.charCodeAt(i));
    if (quoted.length + piece.length > LONGEST_QUOTE) return `${quoted}..." (${text.length} characters)`;
    quoted += piece;
  }
  return `${quoted}"`;
}

/**
 * As quote, for text that is or should be a URL or an authority: without user
 * information and query, which may contain passwords and tokens.
 */
export function quoteTarget(text: string): string {
  return quote(redact(text));
}

/** Unchanged if it is short and plain (a name, an address, a path), otherwise quoted. */
export function show(text: string): string {
  return text.length <= LONGEST_QUOTE && /^[\w.:*/~-]+$/.test(text) ? text : quote(text);
}

/** As show, for text that is or should be a URL or an authority. */
export function showTarget(text: string): string {
  return show(redact(text));
}

/** `the port 443`, `the ports 443, 80`; a range of ports is several. */
export function enumerate(noun: string, values: readonly unknown[]): string {
  const text = values.join(', ');
  return `the ${noun}${values.length === 1 && !/^\d+-/.test(text) ? '' : 's'} ${text}`;
}

/**
 * `2026-03-02T12:00:00Z`: a moment for people, in UTC, to the second.
 * @param at ms since the epoch, or a date; NaN where a certificate has no time that can be read
 */
export function formatMoment(at: number | Date): string {
  const date = new Date(at);
  if (!Number.isNaN(date.getTime())) return `${date.toISOString().slice(0, 19)}Z`;
  return Number.isNaN(Number(at)) ? 'a time that cannot be read' : `${Number(at)} ms`;
}

function redact(text: string): string {
  const scheme = text.indexOf('://');
  const start = scheme === -1 ? 0 : scheme + 3;
  const slash = text.indexOf('/', start);
  // The last one: with an earlier one, a piece of the password would be shown.
  const at = (slash === -1 ? text : text.slice(0, slash)).lastIndexOf('@');
  const shown = at < start ? text : `${text.slice(0, start)}***${text.slice(at)}`;
  const query = shown.indexOf('?');
  return query === -1 ? shown : `${shown.slice(0, query)}?***`;
}

function escapeUnit(code: number): string {
  if (code === 0x22) return '\\"';
  if (code === 0x5c) return '\\\\';
  if (code >= 0x20 && code <= 0x7e) return String.fromCharCode(code);
  return `\\u${code.toString(16).padStart(4, '0')}`;
}
