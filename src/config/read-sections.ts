/** Readers of values for HTTP and identities: gateway prefixes, methods, paths, header fields; users, issuers, subjects, certificate names. */
import { readPhc } from '../identity/proxy-authorization.ts';
import { isThisMachine, parseAuthority, parseHostPattern } from '../targets/host.ts';
import { findAmbiguity } from '../targets/path.ts';
import { coversClaim, fieldName } from './claim-fields.ts';
import type { GatewayConfig } from './config.ts';
import { quoteValue, showValue } from './finding.ts';
import { parseHttpUrl } from './read-address.ts';
import { type Read, invalidValue } from './read-scalar.ts';

/** Segments that mean the same before and after any decoding or normalising. */
const PLAIN_SEGMENTS = /^(?:\/(?!\.{1,2}(?:\/|$))[A-Za-z0-9._~-]+)+$/;

/** Canonical: one or more plain segments, no slash at the end. */
export function readPrefix(value: unknown): Read<string> {
  const prefix = typeof value === 'string' ? value.replace(/\/$/, '') : '';
  if (PLAIN_SEGMENTS.test(prefix)) return { value: prefix };
  if (value === '/' || value === '')
    return invalidValue(`${showValue(value)} would take every request that is meant for a host.`, 'Write a path of its own, like /eco.');
  return invalidValue(
    `${showValue(value)} is not a gateway prefix.`,
    'Write a plain path that starts with a slash, like /eco: letters, digits, and . _ ~ - between slashes.',
  );
}

/** The target of requests under the prefix. */
export function readGatewayUrl(value: unknown): Read<Pick<GatewayConfig, 'scheme' | 'host' | 'port' | 'basePath'>> {
  const example = 'Write a URL like https://eco-sit.telus.internal, with a base path at most.';
  const match = typeof value === 'string' ? /^([a-z][a-z0-9+.-]*):\/\/([^/?#\\]*)([^?#]*)([?#].*)?$/is.exec(value) : null;
  if (match === null) return invalidValue(`${showValue(value)} is not a URL.`, example);
  const scheme = match[1]?.toLowerCase();
  if (scheme !== 'http' && scheme !== 'https') return invalidValue(`${showValue(value)} is neither http nor https.`, example);
  if (match[2]?.includes('@') === true)
    return invalidValue('The URL holds credentials, which would be shown wherever it is.', 'Leave them out: each client sends its own.');
  const authority = parseAuthority(match[2] ?? '', scheme === 'https' ? 443 : 80);
  if (typeof authority === 'string') return invalidValue(`What follows :// in ${showValue(value)} ${authority}.`, example);
  if (match[4] !== undefined)
    return invalidValue(`${showValue(value)} has a query or fragment.`, 'Leave it out: the query is the one of each request.');
  const basePath = (match[3] ?? '').replace(/\/$/, '');
  if (basePath !== '' && !PLAIN_SEGMENTS.test(basePath))
    return invalidValue(`The path in ${showValue(value)} is not a plain path.`, 'Use letters, digits, and . _ ~ - between single slashes.');
  return { value: { scheme, host: authority.host, port: authority.port, basePath } };
}

/** RFC 9110 §9.1: a token, and its case matters. */
export function readMethod(value: unknown): Read<string> {
  if (typeof value !== 'string' || !/^[A-Za-z0-9!#$%&'*+.^_`|~-]+$/.test(value))
    return invalidValue(`${showValue(value)} is not a method.`, 'Write methods like GET and POST.');
  if (value === '*' || value === 'any' || value === 'all')
    return invalidValue(`${showValue(value)} is not a method.`, 'Take methods out: without it, every method may be used.');
  if (value.toUpperCase() === 'CONNECT')
    return invalidValue('CONNECT is a request form here, not a method.', 'Write connect under forms, and take it out here.');
  if (value !== value.toUpperCase())
    return invalidValue(`${showValue(value)} would never match: methods are case-sensitive.`, `Write ${value.toUpperCase()}.`);
  return { value };
}

/** A path with `*` inside segments, `**` for whole segments, and a final `*` for everything that follows (policy/patterns.ts). */
export function readPathPattern(value: unknown): Read<string> {
  if (typeof value !== 'string' || !value.startsWith('/'))
    return invalidValue(
      `${showValue(value)} is not a path.`,
      'Write a path that starts with a slash, like /api/orders, or /api/* for all below.',
    );
  if (/[?#]/.test(value))
    return invalidValue(`${showValue(value)} has a query or fragment.`, 'Write the path alone: queries are not checked.');
  if (/[{}]/.test(value))
    return invalidValue(
      `${showValue(value)} has braces, which are not allowed in a path.`,
      'Write * for a part that varies: /orders/*/items.',
    );
  if (value.split('/').some((segment) => segment.includes('**') && segment !== '**')) {
    return invalidValue(
      `${showValue(value)} has ** inside a segment.`,
      'Write ** as a segment of its own, like /api/**/items, or one * for a part of a segment.',
    );
  }
  // A path that is refused before patterns are compared could never match one.
  const ambiguity = /["<>^`|]/.test(value) ? 'has a character that is not allowed in a path' : findAmbiguity(value.replaceAll(/\*+/g, 'x'));
  if (ambiguity !== null)
    return invalidValue(
      `${showValue(value)} can never match: it ${ambiguity}, and such paths are refused.`,
      'Write the path in its plain form, like /api/orders.',
    );
  return { value };
}

/** RFC 9110 §5.1: a token; here also with a final `*`. Canonical: as `fieldName` returns it. */
function readFieldPattern(value: unknown): string | null {
  if (typeof value !== 'string' || !/^[A-Za-z0-9!#$%&'+.^_`|~-]+\*?$/.test(value)) return null;
  return value.endsWith('*') ? `${fieldName(value.slice(0, -1))}*` : fieldName(value);
}

/** Fields for routing and framing are written anew for each connection. */
const FRAMING = new Set([
  'host',
  'content-length',
  'transfer-encoding',
  'connection',
  'keep-alive',
  'te',
  'trailer',
  'upgrade',
  'expect',
  'proxy-authorization',
  'proxy-authenticate',
  'proxy-connection',
  'http2-settings',
]);
/** Fields decided by keys of their own. */
const OWN_KEYS = new Map([
  ['via', 'headers.via'],
  ['forwarded', 'headers.forwarded'],
  ...['for', 'proto', 'host', 'port'].map((what) => [`x-forwarded-${what}`, 'headers.xForwarded'] as const),
]);

/** A header field that is not to reach any partner. */
export function readDroppedField(value: unknown): Read<string> {
  const name = readFieldPattern(value);
  if (name === null)
    return invalidValue(
      `${showValue(value)} is not the name of a header field.`,
      'Write a name like x-corp-user, or x-corp-* for all that begin so.',
    );
  if (FRAMING.has(name))
    return invalidValue(`${showValue(value)} belongs to each connection, and is never passed on as it came.`, 'Take it out here.');
  const key = OWN_KEYS.get(name);
  return key === undefined
    ? { value: name }
    : invalidValue(`${showValue(value)} has a key of its own.`, `Take it out here, and set ${key}.`);
}

/** A header field that is forwarded although it is removed by default. */
export function readKeptField(value: unknown): Read<string> {
  const name = readFieldPattern(value);
  if (name === null)
    return invalidValue(
      `${showValue(value)} is not the name of a header field.`,
      'Write a name like x-real-ip, or x-ssl-* for all that begin so.',
    );
  const key = OWN_KEYS.get(name);
  if (key !== undefined) return invalidValue(`${showValue(value)} has a key of its own.`, `Take it out here, and set ${key}.`);
  if (name === 'x-forwarded-client-cert')
    return invalidValue(
      `${showValue(value)} names the client's certificate to peers that trust this proxy, and is never passed on.`,
      'Take it out here.',
    );
  if (coversClaim(name)) return { value: name };
  return invalidValue(`${showValue(value)} is not dropped in the first place.`, 'Take it out here; docs/headers.md lists what is dropped.');
}

// Readers of what identifies a client besides its address: users, password hashes, token issuers and subjects,
// certificate names.

/** Controls, and characters that reorder or hide text: two names that look alike would be two clients. */
const UNSEEN_IN_NAME = /[\p{C}\p{Zl}\p{Zp}]/u;

/** A user-id of Basic authentication, in the form NFC (RFC 7617 §2: no colon, no control characters). */
export function readUser(value: unknown): Read<string> {
  if (typeof value !== 'string' || value === '')
    return invalidValue(`${showValue(value)} is not a user.`, 'Write a name, in quotes if it looks like a number.');
  if (value.includes(':') || UNSEEN_IN_NAME.test(value))
    return invalidValue(
      `${showValue(value)} has ${value.includes(':') ? 'a colon, which no Basic user can have' : 'an invisible character'}.`,
      'Write the name without it.',
    );
  return { value: value.normalize('NFC') };
}

/** The text itself is never shown: it could be a password written here by mistake. */
export function readPasswordHash(value: unknown): Read<string> {
  const instead = 'Make one from the password with: npx eco-egress hash-password. It looks like $scrypt$ln=15,r=8,p=1$salt$hash.';
  if (typeof value !== 'string') return { ...invalidValue('This is not a password hash.', instead), hidden: true };
  const read = readPhc(value);
  return typeof read === 'string' ? { ...invalidValue(`This password hash ${read}.`, instead), hidden: true } : { value };
}

/** An issuer or audience, compared character by character. */
export function readClaim(value: unknown): Read<string> {
  if (typeof value === 'string' && value !== '' && !UNSEEN_IN_NAME.test(value) && value.trim() === value) {
    if (!value.includes('*')) return { value };
    return invalidValue(
      `${showValue(value)} has a *, but is compared character by character.`,
      'Write it whole, as it is in the tokens. Only subjects may have a *.',
    );
  }
  return invalidValue(
    `${showValue(value)} is not a text as tokens have it.`,
    'Write it exactly as in the tokens, like https://kubernetes.default.svc.',
  );
}

/** A token's subject, exact or with `*`. */
export function readSubject(value: unknown): Read<string> {
  const example = 'Write it as in the tokens, like system:serviceaccount:dynatrace-sit:*.';
  if (typeof value !== 'string' || value === '' || UNSEEN_IN_NAME.test(value) || value.trim() !== value)
    return invalidValue(`${showValue(value)} is not a subject.`, example);
  if (value.includes('**'))
    return invalidValue(
      `${showValue(value)} has two * in a row.`,
      'Write one: at the end it matches all that follows, elsewhere characters other than / and :.',
    );
  return { value };
}

/** `DNS:name`, `DNS:*.suffix` or `URI:uri`; a bare name or URI gets the matching prefix. */
export function readCertificateName(value: unknown): Read<string> {
  const example = 'Write a URI like spiffe://cluster.local/ns/dynatrace-sit/*, or a DNS name like *.dynatrace-sit.svc.';
  if (typeof value !== 'string') return invalidValue(`${showValue(value)} is not a name of a certificate.`, example);
  const [, kind, name = ''] = /^(?:(DNS|URI):)?(.*)$/s.exec(value) ?? [];
  if (kind === 'URI' || (kind === undefined && /^[a-z][a-z0-9+.-]*:\/\//i.test(name))) return readUriName(value, name);
  const host = parseHostPattern(name);
  if (host === null || /^[\d.]+$|:/.test(host)) return invalidValue(`${showValue(value)} is neither a DNS name nor a URI.`, example);
  return { value: `DNS:${host}` };
}

/** A `*` before the path would accept certificates of any host. */
function readUriName(written: string, uri: string): Read<string> {
  const match = /^([a-z][a-z0-9+.-]*:\/\/)([^/?#*]+)(\/[^?#]*)?$/.exec(uri);
  if (match === null || /[^\x21-\x7e]/.test(uri)) {
    return invalidValue(
      `${showValue(written)} is not a URI with a host of its own.`,
      'Write scheme and host in full, and a * only in the path: spiffe://cluster.local/ns/dynatrace-sit/*.',
    );
  }
  if (uri.includes('**'))
    return invalidValue(
      `${showValue(written)} has two * in a row.`,
      'Write one: at the end it matches all that follows, elsewhere characters other than / and :.',
    );
  return { value: `URI:${uri}` };
}

/** Keys fetched over plain HTTP could be forged. */
export function readJwksUrl(value: unknown): Read<string> {
  const example = 'Write a URL like https://kubernetes.default.svc/openid/v1/jwks, or use jwksFile.';
  const url = parseHttpUrl(value);
  if (url === null) return invalidValue(`${showValue(value)} is not an https URL.`, example);
  if (url.username !== '' || url.password !== '' || url.hash !== '')
    return invalidValue(`${quoteValue(url.host)} has a user or a fragment.`, 'Leave user, password and fragment out of jwksUrl.');
  if (url.protocol === 'http:' && !isThisMachine(url)) {
    return invalidValue(
      `${showValue(value)} is plain http: an attacker on the network could answer with other keys.`,
      'Write https. http is only for this machine, like http://127.0.0.1:8001/keys.',
    );
  }
  return { value: url.href };
}
