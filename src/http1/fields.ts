/** Field lines of header and trailer sections (RFC 9112 §5), read from text. */
import { CR, MessageError } from './head-reader.ts';

/** Names and values in turn, as received: order, case and repetition are kept. Latin-1, as RFC 9110 §5.5 requires. */
export type RawFields = readonly string[];

/** A section without a field line; compared by identity. */
export const NO_FIELDS: RawFields = [];

/** How strictly a section is read. */
export interface FieldRules {
  /** Most field lines accepted; one more is `too-large`, before it is parsed. */
  readonly most: number;
  /**
   * What a proxy must or may repair in a response, and must refuse in a
   * request: lines that end in LF alone (RFC 9112 §2.2), folded lines (§5.2),
   * blanks before the colon (§5.1).
   */
  readonly lenient: boolean;
}

/** RFC 9110 §5.6.2. */
const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
/** RFC 9110 §5.5: no control characters but HTAB. */
const VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;
const HTAB = 0x09;
const SPACE = 0x20;

/** RFC 9110 §5.6.2. */
export function isToken(text: string): boolean {
  return TOKEN.test(text);
}

/**
 * Calls `each` for every field line of `text` from `start` on, and collects them.
 * @param text a section without the empty line that ends it
 * @throws {MessageError} malformed or too-large
 */
export function readFields(
  text: string,
  start: number,
  { most, lenient }: FieldRules,
  each?: (name: string, value: string) => void,
): string[] {
  const fields: string[] = [];
  const { length } = text;
  let at = start;
  /** The field that the last line began or continued. */
  let name = '';
  let value = '';
  while (at < length) {
    let end = text.indexOf('\n', at);
    const next = end === -1 ? length : end + 1;
    if (end === -1) end = length;
    else if (text.charCodeAt(end - 1) === CR && end > at) end -= 1;
    else if (!lenient) throw new MessageError('malformed', 'a line ends in LF without CR');
    const first = text.charCodeAt(at);
    if (first === SPACE || first === HTAB) {
      value = unfold(name, value, text.slice(at, end), lenient);
      fields[fields.length - 1] = value;
      at = next;
      continue;
    }
    // Reported when nothing can be folded onto it any more.
    if (name !== '' && each !== undefined) each(name, value);
    if (fields.length >= most * 2) throw new MessageError('too-large', `the section has more than ${most} fields`);
    const colon = text.indexOf(':', at);
    if (colon === -1 || colon >= end) throw new MessageError('malformed', 'a field line has no colon');
    name = text.slice(at, lenient ? trimEnd(text, at, colon) : colon);
    if (!TOKEN.test(name)) throw new MessageError('malformed', 'a field name is not a token');
    const from = trimStart(text, colon + 1, end);
    value = text.slice(from, trimEnd(text, from, end));
    if (!VALUE.test(value)) throw new MessageError('malformed', `the value of ${name.slice(0, 40)} has a control character`);
    fields.push(name, value);
    at = next;
  }
  if (name !== '' && each !== undefined) each(name, value);
  return fields;
}

/** RFC 9112 §5.2: in a request it is refused, in a response replaced by one space. */
function unfold(name: string, value: string, line: string, lenient: boolean): string {
  if (!lenient || name === '' || !VALUE.test(line)) throw new MessageError('malformed', 'a field line begins with a blank');
  const more = trimBlanks(line);
  return value === '' || more === '' ? value + more : `${value} ${more}`;
}

/** Without the spaces and tabs at both ends: optional whitespace of RFC 9110 §5.6.3; JavaScript's `trim` removes more. */
export function trimBlanks(text: string): string {
  const from = trimStart(text, 0, text.length);
  return text.slice(from, trimEnd(text, from, text.length));
}

/** The position of the first character between `from` and `to` that is no blank. */
function trimStart(text: string, from: number, to: number): number {
  let at = from;
  for (let code = text.charCodeAt(at); at < to && (code === SPACE || code === HTAB); code = text.charCodeAt(at)) at += 1;
  return at;
}

/** The position after the last character between `from` and `to` that is no blank. */
function trimEnd(text: string, from: number, to: number): number {
  let at = to;
  for (let code = text.charCodeAt(at - 1); at > from && (code === SPACE || code === HTAB); code = text.charCodeAt(at - 1)) at -= 1;
  return at;
}

/** Whether a list of tokens has this one; `token` in lower case (RFC 9110 §5.6.1). */
export function listHas(value: string, token: string): boolean {
  if (value.length < token.length) return false;
  if (value.length === token.length) return value.toLowerCase() === token;
  return value
    .toLowerCase()
    .split(',')
    .some((element) => trimBlanks(element) === token);
}
