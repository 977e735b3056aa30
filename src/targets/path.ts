/**
 * The path for policy decisions: which paths are ambiguous between servers, and
 * the one spelling that patterns are compared with. The forwarded path stays
 * exactly as received.
 */
import { DOT } from './host.ts';

const PERCENT = 0x25;
/** Code unit of `/`. */
export const SLASH = 0x2f;
const SEMICOLON = 0x3b;
const QUERY_START = '?';
const BACKSLASH = 0x5c;
const DELETE = 0x7f;

/** The path of a request target (path and query). */
export function pathOf(target: string): string {
  const query = target.indexOf(QUERY_START);
  return query === -1 ? target : target.slice(0, query);
}

/**
 * Why a path is ambiguous, as the rest of a sentence that began with the path;
 * null when it is not. Servers differ in all of these: whether dot segments are
 * resolved before or after decoding, whether `\` is `/`, whether `;x` belongs
 * to a segment, whether empty segments count, whether a name is decoded twice.
 * `%23` and `%3F` are accepted: decoding them once, as part of a segment, is
 * the only reading in use.
 * @param slashes `allow`: an encoded slash is accepted, in either reading; dot segments between such slashes are not
 */
export function findAmbiguity(path: string, slashes: 'allow' | 'refuse' = 'refuse'): string | null {
  if (path === '*') return null;
  if (path.charCodeAt(0) !== SLASH) return 'does not begin with a slash';
  let dots = 0;
  let parameters = false;
  let others = false;
  /** The segment has an encoded slash. */
  let slashed = false;
  for (let i = 1; i <= path.length; i += 1) {
    let code = i === path.length ? SLASH : path.charCodeAt(i);
    if (code === SLASH) {
      if (!others && (dots === 1 || dots === 2)) return 'has a dot segment';
      if (!others && dots === 0 && !slashed && (parameters || i < path.length)) return 'has an empty segment';
      dots = 0;
      parameters = false;
      others = false;
      slashed = false;
      continue;
    }
    if (code <= 0x20 || code >= DELETE) return 'has a space, control or non-ASCII character';
    if (code === BACKSLASH) return 'has a backslash';
    if (code === PERCENT) {
      code = readByte(path, i + 1);
      if (code === -1) return 'has a percent sign without two hexadecimal digits after it';
      if (code === SLASH && slashes === 'allow') {
        if (!others && (dots === 1 || dots === 2)) return 'has a dot segment';
        dots = 0;
        parameters = false;
        others = false;
        slashed = true;
        i += 2;
        continue;
      }
      const trouble = troubleOf(code, path, i);
      if (trouble !== null) return trouble;
      i += 2;
    }
    // What follows a semicolon is a path parameter to some servers, so `..;x` is `..` to them.
    if (code === SEMICOLON) parameters = true;
    else if (parameters) continue;
    else if (code === DOT) dots += 1;
    else others = true;
  }
  return null;
}

/**
 * The spelling for comparison: escapes of unreserved characters decoded, other
 * escapes in upper case (RFC 3986 §6.2.2). Only for paths findAmbiguity passed.
 */
export function canonicalPath(path: string): string {
  if (!path.includes('%')) return path;
  return path.replace(/%[0-9a-f]{2}/gi, (escape) => {
    const character = String.fromCharCode(Number.parseInt(escape.slice(1), 16));
    return /[\w.~-]/.test(character) ? character : escape.toUpperCase();
  });
}

/** Why an escaped byte is refused in any position; `at` is the position of its percent sign. */
function troubleOf(byte: number, path: string, at: number): string | null {
  if (byte === SLASH) return 'has an encoded slash';
  if (byte === BACKSLASH) return 'has an encoded backslash';
  if (byte < 0x20 || byte === DELETE) return 'has an encoded control character';
  if (byte === PERCENT) return isDoubleEncoded(path, at) ? 'has a dot, slash, backslash or control character that is encoded twice' : null;
  return byte >= 0x80 && isOverlong(byte, path, at) ? 'has an overlong encoding' : null;
}

/**
 * `%252e`, with any number of further `25`, and with its digits escaped as well (`%25%32%65`): a server that decodes
 * twice would see what we did not.
 */
function isDoubleEncoded(path: string, at: number): boolean {
  let next = at + 3;
  for (;;) {
    const high = readDigit(path, next);
    const low = readDigit(path, high.end);
    if (high.value === -1 || low.value === -1) return false;
    next = low.end;
    const byte = high.value * 16 + low.value;
    if (byte !== PERCENT) return byte === DOT || byte === SLASH || byte === BACKSLASH || byte < 0x20 || byte === DELETE;
  }
}

/** A hexadecimal digit, which may be escaped; -1: there is none. */
function readDigit(path: string, at: number): { readonly value: number; readonly end: number } {
  const code = path.charCodeAt(at);
  return code === PERCENT ? { value: hexDigit(readByte(path, at + 1)), end: at + 3 } : { value: hexDigit(code), end: at + 1 };
}

/** UTF-8 that encodes a character in more bytes than it needs, once read as `/` and `.` (RFC 3629 §10). */
function isOverlong(byte: number, path: string, at: number): boolean {
  if (byte === 0xc0 || byte === 0xc1) return true;
  if ((byte !== 0xe0 && byte !== 0xf0) || path.charCodeAt(at + 3) !== PERCENT) return false;
  const next = readByte(path, at + 4);
  return next >= 0x80 && next < (byte === 0xe0 ? 0xa0 : 0x90);
}

function readByte(path: string, at: number): number {
  const high = hexDigit(path.charCodeAt(at));
  const low = hexDigit(path.charCodeAt(at + 1));
  return high === -1 || low === -1 ? -1 : high * 16 + low;
}

function hexDigit(code: number): number {
  if (code >= 0x30 && code <= 0x39) return code - 0x30;
  const letter = code | 0x20;
  return letter >= 0x61 && letter <= 0x66 ? letter - 0x57 : -1;
}
