/**
 * The names in a client certificate, as the policy writes them: `DNS:name`,
 * `URI:uri`, `IP:address`, `email:address`. Ambiguous names are left out: a
 * missing name can only lead to a denial.
 */
import type { X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';
import { classifyAddress } from '../policy/address-class.ts';
import { parseHost } from '../targets/host.ts';

/**
 * One entry of Node's text of subject alternative names: values with a comma,
 * quote or control character are JSON strings (CVE-2021-44532), all others are
 * unchanged.
 */
const ENTRY = /([A-Za-z0-9 ]+):(?:("(?:[^"\\\0-\x1f]|\\["\\/bfnrtu])*")|([^"',\\\0-\x1f]*))(?:, (?=.)|$)/y;

/** RFC 3986 §2 without percent-encoded dots and slashes, dot segments and backslashes, which could make a pattern with `*` match more than intended. */
const URI = /^[A-Za-z][A-Za-z0-9+.-]*:[\x21\x23-\x5b\x5d-\x7e]+$/;
const URI_ESCAPES = /%(?:2e|2f|5c)|\/\.{1,2}(?:[/?#]|$)/i;
/** SPIFFE-ID §2: a trust domain in lower case, segments of few characters, nothing else. */
const SPIFFE = /^spiffe:\/\/[a-z0-9._-]{1,255}(?:\/[A-Za-z0-9._-]+)*$/;
const LONGEST_URI = 2_048;
const LOCAL_PART = /^[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+$/;

/** @param certificate verified by the TLS layer; it is only parsed here */
export function sansOf({ subjectAltName }: X509Certificate): string[] {
  return readAltNames(subjectAltName ?? '');
}

/** @param text Node's rendering of the extension; malformed text yields nothing */
export function readAltNames(text: string): string[] {
  const sans = new Set<string>();
  ENTRY.lastIndex = 0;
  while (ENTRY.lastIndex < text.length) {
    const match = ENTRY.exec(text);
    if (match === null) return [];
    const [, type = '', quoted, plain = ''] = match;
    const value = quoted === undefined ? plain : unquote(quoted);
    if (value === null) return [];
    const san = sanOf(type, value);
    if (san !== null) sans.add(san);
  }
  return [...sans];
}

/** One name in its canonical form; null: of an unsupported kind, or not valid. */
export function sanOf(type: string, value: string): string | null {
  switch (type) {
    case 'DNS':
      return prefixed('DNS', hostOf(value));
    case 'URI':
      return prefixed('URI', uriOf(value));
    case 'IP Address':
      return prefixed('IP', classifyAddress(value)?.canonical ?? null);
    case 'email':
      return prefixed('email', mailboxOf(value));
    default:
      return null;
  }
}

function prefixed(kind: string, value: string | null): string | null {
  return value === null ? null : `${kind}:${value}`;
}

/** A wildcard matches many names and so identifies no client; parseHost accepts none. */
function hostOf(value: string): string | null {
  const host = value.startsWith('[') ? null : parseHost(value);
  return host === null || isIP(host) !== 0 ? null : host;
}

function uriOf(value: string): string | null {
  if (value.length > LONGEST_URI || !URI.test(value) || URI_ESCAPES.test(value)) return null;
  return /^spiffe:/i.test(value) && !SPIFFE.test(value) ? null : value;
}

function mailboxOf(value: string): string | null {
  const at = value.indexOf('@');
  const host = hostOf(value.slice(at + 1));
  const local = value.slice(0, Math.max(at, 0));
  return host === null || !LOCAL_PART.test(local) ? null : `${local}@${host}`;
}

function unquote(text: string): string | null {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'string' ? value : null;
  } catch (error) {
    if (error instanceof SyntaxError) return null;
    throw error;
  }
}
