/**
 * Reads the value of one Proxy-Authorization field (RFC 9110 §11.7.2) in the
 * only two ways we take. What another reader could take for something else is
 * refused, and no reason repeats what was sent: it may be a secret.
 */

export type PresentedCredentials =
  | { readonly scheme: 'basic'; readonly user: string; readonly password: string }
  | { readonly scheme: 'bearer'; readonly token: string };

/** Longer than any token in use; a header section is bounded besides. */
const LONGEST = 16_384;

/** RFC 9110 §11.4: a scheme, spaces, one token68. Parameters (`Digest a=b, …`) do not fit. */
const CREDENTIALS = /^([A-Za-z]+) +([A-Za-z0-9\-._~+/]+={0,2})$/;
const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;
/** RFC 7519 §3 and RFC 7515 §7.1: three parts, none of them empty, since an empty signature signs nothing. */
const COMPACT_JWS = /^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$/;
const CONTROL = /[\0-\x1f\x7f-\x9f]/;

const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** @returns the credentials, or one sentence that says why they are none */
export function readProxyAuthorization(value: string): PresentedCredentials | string {
  if (value.length > LONGEST) return 'Proxy-Authorization is too long';
  const match = CREDENTIALS.exec(value);
  if (match === null) return 'Proxy-Authorization is not "Basic" or "Bearer", a space and one word of base64 characters';
  const [, scheme = '', word = ''] = match;
  switch (scheme.toLowerCase()) {
    case 'basic':
      return readBasic(word);
    case 'bearer':
      return COMPACT_JWS.test(word) ? { scheme: 'bearer', token: word } : 'the Bearer token is not a signed JWT';
    default:
      return 'Proxy-Authorization has a scheme other than Basic and Bearer';
  }
}

/** RFC 7617 §2. */
function readBasic(word: string): PresentedCredentials | string {
  const bytes = Buffer.from(word, 'base64');
  // The decoder drops what it cannot read, and bits at the end that belong to no byte.
  if (!BASE64.test(word) || bytes.toString('base64') !== word) return 'the Basic credentials are not exact base64 with its padding';
  const text = decodeUtf8(bytes);
  if (text === null) return 'the Basic credentials are not UTF-8';
  if (CONTROL.test(text)) return 'the Basic credentials have control characters';
  const colon = text.indexOf(':');
  if (colon === -1) return 'the Basic credentials have no colon between user and password';
  if (colon === 0) return 'the Basic credentials have no user before the colon';
  return { scheme: 'basic', user: text.slice(0, colon).normalize('NFC'), password: text.slice(colon + 1) };
}

function decodeUtf8(bytes: Buffer): string | null {
  try {
    return UTF8.decode(bytes);
  } catch (error) {
    if (error instanceof TypeError) return null;
    throw error;
  }
}
