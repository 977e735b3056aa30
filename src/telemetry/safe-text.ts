/** Makes text from peers harmless for people and terminals. */

/**
 * Characters that JSON does not escape and that may affect a terminal or reader: DEL
 * and the C1 controls, line and paragraph separators, and the marks that reorder or
 * hide text.
 */
const UNSAFE = /[\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/;
const ALL_UNSAFE = new RegExp(UNSAFE, 'g');

const escape = (character: string): string => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;

/** JSON text stays JSON text of the same value; the text within has no control characters. */
export function escapeUnsafe(json: string): string {
  return UNSAFE.test(json) ? json.replace(ALL_UNSAFE, escape) : json;
}

/** Any text for people: one line, printable, with the escapes of JSON; quotes stay as they are. */
export function escapeText(text: string): string {
  return escapeUnsafe(JSON.stringify(text).slice(1, -1)).replaceAll('\\"', '"');
}

/** The same for text that has its own backslashes, such as quotes of what was sent: they stay as they are. */
export function printableLine(line: string): string {
  return escapeUnsafe(JSON.stringify(line).slice(1, -1).replaceAll('\\"', '"').replaceAll('\\\\', '\\'));
}

/** A document for programs, which people print all the same. */
export function printableJson(value: unknown): string {
  return `${escapeUnsafe(JSON.stringify(value, null, 2))}\n`;
}

/** Nothing in it needs an escape. */
const PLAIN_TEXT = /^[ !#-[\]-~]*$/;

/** Any text as a JSON string, quotes included: one line, without control characters. */
export function jsonText(text: string): string {
  return PLAIN_TEXT.test(text) ? `"${text}"` : escapeUnsafe(JSON.stringify(text));
}

/** Half of a character beyond the basic plane: the escape of it in JSON is one that many readers take for an error. */
const HALF_AT_END = /[\ud800-\udbff]$/;

/** At most `length` characters; a cut is shown as an ellipsis. */
export function bound(text: string, length: number): string {
  return text.length <= length ? text : `${text.slice(0, length - 1).replace(HALF_AT_END, '')}…`;
}

const ENTITIES: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };

/** Text in HTML or XML, also within an attribute. */
export function escapeMarkup(text: string): string {
  return text.replace(/[&<>"']/g, (character) => ENTITIES[character] ?? '');
}
