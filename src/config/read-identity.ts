/** Readers of what a client is known by besides its address: users, password hashes, token issuers and subjects, certificate names. */
import { readPhc } from '../identity/phc.ts';
import { parseHostPattern } from '../target/host.ts';
import { quote, show } from './finding.ts';
import { wrong, type Read } from './read-scalar.ts';

/** Servers take no longer ones, and an international host name costs the square of its length to read. */
const LONGEST_URL = 2_048;
const CONTROL = /[\0-\x1f\x7f-\x9f]/;

/** A user-id of Basic authentication, in the form NFC (RFC 7617 §2: no colon, no control characters). */
export function readUser(value: unknown): Read<string> {
  if (typeof value !== 'string' || value === '') return wrong(`${show(value)} is not a user.`, 'Write a name, in quotes if it looks like a number.');
  if (value.includes(':') || CONTROL.test(value)) return wrong(`${show(value)} has a colon or a control character, which no Basic user can have.`, 'Take another name.');
  return { value: value.normalize('NFC') };
}

/** The text itself is never shown: a password that was written here by mistake would be. */
export function readPasswordHash(value: unknown): Read<string> {
  const instead = 'Make one from the password with: npx eco-egress hash-password. It looks like $scrypt$ln=15,r=8,p=1$salt$hash.';
  if (typeof value !== 'string') return wrong('This is not a password hash.', instead);
  const read = readPhc(value);
  return typeof read === 'string' ? wrong(`This password hash ${read}.`, instead) : { value };
}

/** An issuer or audience, compared character by character. */
export function readClaim(value: unknown): Read<string> {
  if (typeof value === 'string' && value !== '' && !CONTROL.test(value) && value.trim() === value) {
    if (!value.includes('*')) return { value };
    return wrong(`${show(value)} has a *, but is compared character by character.`, 'Write it whole, as it stands in the tokens. Only subjects may have a *.');
  }
  return wrong(`${show(value)} is not a text as tokens have it.`, 'Write it exactly as in the tokens, like https://kubernetes.default.svc.');
}

/** A token's subject, exact or with `*`. */
export function readSubject(value: unknown): Read<string> {
  const example = 'Write it as in the tokens, like system:serviceaccount:dynatrace-sit:*.';
  if (typeof value !== 'string' || value === '' || CONTROL.test(value) || value.trim() !== value) return wrong(`${show(value)} is not a subject.`, example);
  if (value.includes('**')) return wrong(`${show(value)} has two * in a row.`, 'Write one: at the end it stands for all that follows, elsewhere for characters other than / and :.');
  return { value };
}

/** `DNS:name`, `DNS:*.suffix` or `URI:uri`; a bare name or URI is taken for what it looks like. */
export function readCertificateName(value: unknown): Read<string> {
  const example = 'Write a URI like spiffe://cluster.local/ns/dynatrace-sit/*, or a DNS name like *.dynatrace-sit.svc.';
  if (typeof value !== 'string') return wrong(`${show(value)} is not a name of a certificate.`, example);
  const [, kind, name = ''] = /^(?:(DNS|URI):)?(.*)$/s.exec(value) ?? [];
  if (kind === 'URI' || (kind === undefined && /^[a-z][a-z0-9+.-]*:\/\//i.test(name))) return readUriName(value, name);
  const host = parseHostPattern(name);
  if (host === null || /^[\d.]+$|:/.test(host)) return wrong(`${show(value)} is neither a DNS name nor a URI.`, example);
  return { value: `DNS:${host}` };
}

/** A `*` before the path would accept the certificates of anybody who can name a host. */
function readUriName(written: string, uri: string): Read<string> {
  const match = /^([a-z][a-z0-9+.-]*:\/\/)([^/?#*]+)(\/[^?#]*)?$/.exec(uri);
  if (match === null || /[^\x21-\x7e]/.test(uri)) {
    return wrong(`${show(written)} is not a URI with a host of its own.`, 'Write scheme and host in full, and a * only in the path: spiffe://cluster.local/ns/dynatrace-sit/*.');
  }
  if (uri.includes('**')) return wrong(`${show(written)} has two * in a row.`, 'Write one: at the end it stands for all that follows, elsewhere for characters other than / and :.');
  return { value: `URI:${uri}` };
}

/** Keys that came over plain HTTP could be anybody's. */
export function readJwksUrl(value: unknown): Read<string> {
  const example = 'Write a URL like https://kubernetes.default.svc/openid/v1/jwks, or use jwksFile.';
  const url = typeof value === 'string' && value.length <= LONGEST_URL ? URL.parse(value) : null;
  if (url === null || (url.protocol !== 'https:' && url.protocol !== 'http:')) return wrong(`${show(value)} is not an https URL.`, example);
  if (url.username !== '' || url.password !== '' || url.hash !== '') return wrong(`${quote(url.host)} stands with a user or fragment.`, 'Leave user, password and fragment out of jwksUrl.');
  if (url.protocol === 'http:' && !/^(?:127\.\d+\.\d+\.\d+|\[::1\]|localhost)$/.test(url.hostname)) {
    return wrong(`${show(value)} is plain http: whoever answers first would say which tokens are good.`, 'Write https. http is for this very machine alone, like http://127.0.0.1:8001/keys.');
  }
  return { value: url.href };
}
