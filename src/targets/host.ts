/**
 * The one canonical spelling of a host and of an authority. All code that
 * compares, checks, dials or logs a host uses this form, so a host is parsed in
 * one way only (CVE-2022-24825, CVE-2022-29188).
 *
 * Stricter than WHATWG URL on purpose, and equal to it where both accept.
 */
import { isIPv4, isIPv6 } from 'node:net';
import { domainToASCII, domainToUnicode } from 'node:url';

/** A host with its port. */
export interface Authority {
  /** Canonical: lower case name without final dot, or IP literal without brackets. */
  readonly host: string;
  readonly port: number;
}

/** Default ports of the two schemes (RFC 9110 §4.2). */
export const DEFAULT_PORT = { http: 80, https: 443 } as const;

const HYPHEN = 0x2d;
/** Code unit of `.`. */
export const DOT = 0x2e;
/** Code unit of `0`. */
export const ZERO = 0x30;
const NINE = 0x39;
const COLON = 0x3a;
const OPEN_BRACKET = 0x5b;

/** RFC 1035 §2.3.4, counted without the final dot. */
const LONGEST_HOST = 253;
const LONGEST_LABEL = 63;
/** Also where the first group of the address looks like a name: `fd40::9:443`. */
const MORE_COLONS = 'has more than one colon; an IPv6 address needs brackets';

const LOWER = 1;
const UPPER = 2;
/** The class of each ASCII character in a name; 0: not allowed. */
const NAME_CHARACTERS = new Uint8Array(128);
for (const character of 'abcdefghijklmnopqrstuvwxyz0123456789-_') NAME_CHARACTERS[character.charCodeAt(0)] = LOWER;
for (const character of 'ABCDEFGHIJKLMNOPQRSTUVWXYZ') NAME_CHARACTERS[character.charCodeAt(0)] = UPPER;

/** A last label that every URL parser takes for (part of) an IPv4 address: WHATWG URL §3.5, "ends in a number". */
const NUMERIC_LABEL = /^(?:[0-9]+|0x[0-9a-f]*)$/;

/**
 * The canonical form of a host in a URI authority, or null when it is invalid.
 *
 * Names: letters, digits, hyphen and underscore (real DNS names have them), in
 * lower case, one final dot dropped. A label may not begin or end with a hyphen
 * (RFC 1123 §2.1): resolvers disagree about such names, and no partner's
 * allowlist entry needs one. A-labels must survive the round trip through
 * Unicode, so that a name has one spelling. IPv4: any spelling that WHATWG URL
 * reads as one (`0x7f.1`, `2130706433`), as four decimals. IPv6: only in
 * brackets, without zone; returned without brackets, compressed as in RFC 5952
 * §4.
 */
export function parseHost(text: string): string | null {
  if (text.charCodeAt(0) === OPEN_BRACKET) return parseBracketed(text);

  const end = text.charCodeAt(text.length - 1) === DOT ? text.length - 1 : text.length;
  if (end === 0 || end > LONGEST_HOST) return null;
  let labelStart = 0;
  let lastLabel = 0;
  let lower = end === text.length;
  let encoded = false;
  for (let i = 0; i <= end; i += 1) {
    const code = i === end ? DOT : text.charCodeAt(i);
    if (code !== DOT) {
      const kind = code < 128 ? NAME_CHARACTERS[code] : 0;
      if (kind === UPPER) lower = false;
      else if (kind !== LOWER) return null;
      continue;
    }
    const length = i - labelStart;
    if (length === 0 || length > LONGEST_LABEL) return null;
    if (text.charCodeAt(labelStart) === HYPHEN || text.charCodeAt(i - 1) === HYPHEN) return null;
    if (text.charCodeAt(labelStart + 2) === HYPHEN && text.charCodeAt(labelStart + 3) === HYPHEN) encoded = true;
    lastLabel = labelStart;
    labelStart = i + 1;
  }
  const name = lower ? text : text.slice(0, end).toLowerCase();
  const first = name.charCodeAt(lastLabel);
  if (first >= ZERO && first <= NINE && NUMERIC_LABEL.test(name.slice(lastLabel))) return parseIPv4(name);
  return encoded && !hasOneSpelling(name) ? null : name;
}

/**
 * As parseHost, for hosts written by people in a configuration file: Unicode
 * names become A-labels (UTS 46), an IPv6 address needs no brackets, and an
 * IPv4 address is four decimals: few would know that `010.0.0.1` is 8.0.0.1.
 */
export function parseConfigHost(text: string): string | null {
  if (isIPv6(text)) return parseBracketed(`[${text}]`);
  // Its A-labels would be longer still, and computing them takes quadratic time.
  if (text.length > LONGEST_HOST + 1) return null;
  // domainToASCII would decode percent-escapes and stop at URL delimiters; neither is valid in a name.
  // UTS 46 allows the quotes and dashes of a word processor too, but no name has them.
  const host = !/[^\0-\x7f]/.test(text)
    ? parseHost(text)
    : /[\0-\x20%/\\?#@:[\]\x7f\p{Pi}\p{Pf}]|(?!-)\p{Pd}|[\u201a\u201e]/u.test(text)
      ? null
      : parseHost(domainToASCII(text));
  return host !== null && isIPv4(host) && host !== text.replace(/\.$/, '') ? null : host;
}

/**
 * A host of a destination: as parseConfigHost, or `*.suffix`, which matches the
 * names below the suffix and never the suffix itself.
 */
export function parseHostPattern(text: string): string | null {
  if (!text.startsWith('*.')) return parseConfigHost(text);
  const suffix = parseConfigHost(text.slice(2));
  return suffix === null || isIPv4(suffix) || isIPv6(suffix) ? null : `*.${suffix}`;
}

/**
 * Splits `host:port` (RFC 3986 §3.2 without userinfo). For an invalid authority
 * it returns the reason, as the rest of a sentence that began with the quoted
 * text.
 *
 * `defaultPort` null: the port must be written out, as in CONNECT (RFC 9112
 * §3.2.3). Otherwise it may be absent or empty (RFC 3986 §3.2.3).
 */
export function parseAuthority(text: string, defaultPort: number | null): Authority | string {
  if (text === '') return 'is empty';
  if (text.includes('@')) return 'has user information before the host, which is never part of a target';
  const colon = text.indexOf(':');
  const nameEnd = colon === -1 ? text.length : colon;
  const hostEnd = text.charCodeAt(0) === OPEN_BRACKET ? text.lastIndexOf(']') + 1 : nameEnd;
  const host = parseHost(text.slice(0, hostEnd));
  if (host === null) return explainHost(text, hostEnd);
  if (hostEnd < text.length && text.charCodeAt(hostEnd) !== COLON) return 'has something other than a port after the host';

  const portStart = hostEnd + 1;
  if (portStart >= text.length) return defaultPort === null ? 'has no port' : { host, port: defaultPort };
  const port = parsePort(text, portStart);
  if (port !== null) return { host, port };
  return text.includes(':', portStart) ? MORE_COLONS : 'has a port that is not a number from 1 to 65535';
}

/** `host:port` as in an authority: brackets around IPv6. */
export function formatAuthority(host: string, port: number): string {
  return `${bracketed(host)}:${port}`;
}

/** As in an authority without its port: `[::1]`. */
export function bracketed(host: string): string {
  return host.includes(':') ? `[${host}]` : host;
}

/** Where a listener on all addresses is reached from its own host. */
export function reachable(host: string): string {
  if (host === '0.0.0.0') return '127.0.0.1';
  return host === '::' ? '::1' : host;
}

/** Plain decimal only: no sign, no `0x`, and no leading zero, which some parsers take for octal. */
function parsePort(text: string, start: number): number | null {
  if (text.length - start > 5 || text.charCodeAt(start) === ZERO) return null;
  let port = 0;
  for (let i = start; i < text.length; i += 1) {
    const code = text.charCodeAt(i);
    if (code < ZERO || code > NINE) return null;
    port = port * 10 + (code - ZERO);
  }
  return port <= 65_535 ? port : null;
}

function parseIPv4(name: string): string | null {
  const read = URL.parse(`http://${name}/`)?.hostname ?? '';
  return isIPv4(read) ? read : null;
}

/** Whether a URL leads to this machine: what is sent there is not seen on the network. */
export function isThisMachine({ hostname }: Pick<URL, 'hostname'>): boolean {
  return /^(?:127\.\d+\.\d+\.\d+|::1|\[::1\]|localhost)$/.test(hostname);
}

function parseBracketed(text: string): string | null {
  const inner = text.slice(1, -1);
  // isIPv6 accepts a zone (`fe80::1%eth0`), which means nothing off the client's own host; URL refuses it.
  if (!text.endsWith(']') || !isIPv6(inner)) return null;
  return URL.parse(`http://${text}/`)?.hostname.slice(1, -1) ?? null;
}

/** The platform leaves an A-label that it cannot decode unchanged, so one that stays ASCII is invalid; RFC 5890 §2.3.2.1. */
function hasOneSpelling(name: string): boolean {
  return name.split('.').every((label) => {
    if (!label.startsWith('xn--')) return true;
    const unicode = domainToUnicode(label);
    return /[^\0-\x7f]/.test(unicode) && domainToASCII(unicode) === label;
  });
}

/** Why parseHost refused: called only for refusals. */
function explainHost(text: string, hostEnd: number): string {
  const host = text.slice(0, hostEnd);
  if (text.startsWith('[')) {
    return host === '' ? 'has an opening bracket without its closing one' : 'has brackets around something that is not an IPv6 address';
  }
  if (text.includes(':', hostEnd + 1)) return MORE_COLONS;
  if (host === '') return 'has no host';
  if (/[^\x21-\x7e]/.test(host))
    return 'has a host with spaces, control or non-ASCII characters; write an international name in its xn-- form';
  if (host.endsWith('..') || host.startsWith('.') || host.includes('..')) return 'has a host with an empty label';
  if (/^[0-9]/.test(host)) return 'has a host that is neither a name nor a valid IPv4 address';
  return 'has a host that is not a valid name';
}
