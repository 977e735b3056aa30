/** Readers of what HTTP needs: gateway prefix and url, methods, paths, names of header fields. */
import { parseAuthority } from '../target/host.ts';
import { findAmbiguity } from '../target/path.ts';
import { coversClaim, fieldName } from './claim-fields.ts';
import type { GatewayConfig } from './config.ts';
import { show } from './finding.ts';
import { wrong, type Read } from './read-scalar.ts';

/** Segments that mean the same before and after any decoding or normalising. */
const PLAIN_SEGMENTS = /^(?:\/(?!\.{1,2}(?:\/|$))[A-Za-z0-9._~-]+)+$/;

/** Canonical: one or more plain segments, no slash at the end. */
export function readPrefix(value: unknown): Read<string> {
  const prefix = typeof value === 'string' ? value.replace(/\/$/, '') : '';
  if (PLAIN_SEGMENTS.test(prefix)) return { value: prefix };
  if (value === '/' || value === '') return wrong(`${show(value)} would take every request that is meant for a host.`, 'Write a path of its own, like /eco.');
  return wrong(`${show(value)} is not a gateway prefix.`, 'Write a plain path that starts with a slash, like /eco: letters, digits, and . _ ~ - between slashes.');
}

/** Where requests under the prefix go. */
export function readGatewayUrl(value: unknown): Read<Pick<GatewayConfig, 'scheme' | 'host' | 'port' | 'basePath'>> {
  const example = 'Write a URL like https://eco-sit.telus.internal, with a base path at most.';
  const match = typeof value === 'string' ? /^([a-z][a-z0-9+.-]*):\/\/([^/?#\\]*)([^?#]*)([?#].*)?$/is.exec(value) : null;
  if (match === null) return wrong(`${show(value)} is not a URL.`, example);
  const scheme = match[1]?.toLowerCase();
  if (scheme !== 'http' && scheme !== 'https') return wrong(`${show(value)} is neither http nor https.`, example);
  const authority = parseAuthority(match[2] ?? '', scheme === 'https' ? 443 : 80);
  if (typeof authority === 'string') return wrong(`The host in ${show(value)} ${authority}.`, example);
  if (match[4] !== undefined) return wrong(`${show(value)} has a query or fragment.`, 'Leave it out: the query is the one of each request.');
  const basePath = (match[3] ?? '').replace(/\/$/, '');
  if (basePath !== '' && !PLAIN_SEGMENTS.test(basePath)) return wrong(`The path in ${show(value)} is not a plain path.`, 'Use letters, digits, and . _ ~ - between single slashes.');
  return { value: { scheme, host: authority.host, port: authority.port, basePath } };
}

/** RFC 9110 §9.1: a token, and its case matters. */
export function readMethod(value: unknown): Read<string> {
  if (typeof value !== 'string' || !/^[A-Za-z0-9!#$%&'*+.^_`|~-]+$/.test(value)) return wrong(`${show(value)} is not a method.`, 'Write methods like GET and POST.');
  if (value === '*') return wrong('"*" is not a method.', 'Take methods out: without it, every method may be used.');
  if (value.toUpperCase() === 'CONNECT') return wrong('CONNECT is a request form here, not a method.', 'Write connect under forms, and take it out here.');
  if (value !== value.toUpperCase()) return wrong(`${show(value)} would never match: methods are case-sensitive.`, `Write ${value.toUpperCase()}.`);
  return { value };
}

/** A path with `*` inside segments, `**` for whole segments, and a final `*` for all that follows (policy/path-match.ts). */
export function readPathPattern(value: unknown): Read<string> {
  if (typeof value !== 'string' || !value.startsWith('/')) return wrong(`${show(value)} is not a path.`, 'Write a path that starts with a slash, like /api/orders, or /api/* for all below.');
  if (/[?#]/.test(value)) return wrong(`${show(value)} has a query or fragment.`, 'Write the path alone: queries are not judged.');
  if (/[{}]/.test(value)) return wrong(`${show(value)} has braces, which no path has.`, 'Write * for a part that varies: /orders/*/items.');
  if (value.split('/').some((segment) => segment.includes('**') && segment !== '**')) {
    return wrong(`${show(value)} has ** inside a segment.`, 'Write ** as a segment of its own, like /api/**/items, or one * for a part of a segment.');
  }
  // What is refused before any pattern is compared could never match one.
  const ambiguity = /["<>^`|]/.test(value) ? 'has a character that no path has' : findAmbiguity(value.replaceAll(/\*+/g, 'x'));
  if (ambiguity !== null) return wrong(`${show(value)} can never match: it ${ambiguity}, and such paths are refused.`, 'Write the path in its plain form, like /api/orders.');
  return { value };
}

/** RFC 9110 §5.1: a token; here also with a final `*`. Canonical: lower case, `-` for `_`. */
function readFieldPattern(value: unknown): string | null {
  return typeof value === 'string' && /^[A-Za-z0-9!#$%&'+.^_`|~-]+\*?$/.test(value) ? fieldName(value) : null;
}

/** What says where a message goes and where it ends is written anew for each connection. */
const FRAMING = new Set(['host', 'content-length', 'transfer-encoding', 'connection', 'keep-alive', 'te', 'trailer', 'upgrade', 'expect', 'proxy-authorization', 'proxy-authenticate', 'proxy-connection', 'http2-settings']);
/** Keys of their own decide about these. */
const OWN_KEYS = new Map([
  ['via', 'headers.via'],
  ['forwarded', 'headers.forwarded'],
  ...['for', 'proto', 'host', 'port'].map((what) => [`x-forwarded-${what}`, 'headers.xForwarded'] as const),
]);

/** A header field that is not to reach any partner. */
export function readDroppedField(value: unknown): Read<string> {
  const name = readFieldPattern(value);
  if (name === null) return wrong(`${show(value)} is not the name of a header field.`, 'Write a name like x-corp-user, or x-corp-* for all that begin so.');
  if (FRAMING.has(name)) return wrong(`${show(value)} belongs to each connection, and is never passed on as it came.`, 'Take it out here.');
  const key = OWN_KEYS.get(name);
  return key === undefined ? { value: name } : wrong(`${show(value)} has a key of its own.`, `Take it out here, and set ${key}.`);
}

/** A header field that crosses although it is one of those that do not by default. */
export function readKeptField(value: unknown): Read<string> {
  const name = readFieldPattern(value);
  if (name === null) return wrong(`${show(value)} is not the name of a header field.`, 'Write a name like x-real-ip, or x-ssl-* for all that begin so.');
  const key = OWN_KEYS.get(name);
  if (key !== undefined) return wrong(`${show(value)} has a key of its own.`, `Take it out here, and set ${key}.`);
  if (name === 'x-forwarded-client-cert') return wrong(`${show(value)} names the client's certificate to whoever trusts this proxy, and never crosses.`, 'Take it out here.');
  if (coversClaim(name)) return { value: name };
  return wrong(`${show(value)} is not dropped in the first place.`, 'Take it out here; docs/headers.md lists what is dropped.');
}
