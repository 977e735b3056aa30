/**
 * Proxy-Authorization (RFC 9110 §11.7.2): parses the two supported schemes, and
 * creates and verifies password hashes. Anything ambiguous is refused, and no
 * reason quotes the field: it may be a secret.
 */
import { isUtf8 } from 'node:buffer';
import { randomBytes, scrypt, type ScryptOptions, timingSafeEqual } from 'node:crypto';
import { promisify } from 'node:util';

/** The content of a field; nothing of it has been verified. */
export type PresentedCredentials =
  { readonly scheme: 'basic'; readonly user: string; readonly password: string } | { readonly scheme: 'bearer'; readonly token: string };

/** Longer than any token in use; the header section is limited as well. */
const LONGEST_CREDENTIALS = 16_384;

/** RFC 9110 §11.4: a scheme, spaces, one token68. Parameters (`Digest a=b, …`) do not fit. */
const CREDENTIALS = /^([A-Za-z]+) +([A-Za-z0-9\-._~+/]+={0,2})$/;
const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;
/** RFC 7519 §3 and RFC 7515 §7.1: three non-empty parts, since an empty signature signs nothing. */
const COMPACT_JWS = /^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$/;
const CONTROL_CHARACTER = /[\0-\x1f\x7f-\x9f]/;

/** @returns the credentials, or one sentence with what is wrong */
export function readProxyAuthorization(value: string): PresentedCredentials | string {
  if (value.length > LONGEST_CREDENTIALS) return 'Proxy-Authorization is too long';
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

/**
 * RFC 7617 §2 asks for UTF-8. Python's requests, urllib3 and aiohttp send ISO-8859-1
 * all the same, whose characters beyond ASCII are hardly ever valid UTF-8.
 */
function readBasic(word: string): PresentedCredentials | string {
  const bytes = Buffer.from(word, 'base64');
  // The decoder ignores what it cannot read, and surplus bits at the end.
  if (!BASE64.test(word) || bytes.toString('base64') !== word) return 'the Basic credentials are not exact base64 with its padding';
  const text = bytes.toString(isUtf8(bytes) ? 'utf8' : 'latin1');
  if (CONTROL_CHARACTER.test(text)) return 'the Basic credentials have control characters';
  const colon = text.indexOf(':');
  if (colon === -1) return 'the Basic credentials have no colon between user and password';
  if (colon === 0) return 'the Basic credentials have no user before the colon';
  return { scheme: 'basic', user: text.slice(0, colon).normalize('NFC'), password: text.slice(colon + 1) };
}

// Creates and verifies password hashes with scrypt (RFC 7914), off the event loop and in constant time.

const deriveKey: (password: string, salt: Buffer, length: number, options: ScryptOptions) => Promise<Buffer> = promisify(scrypt);

/** 32 MiB and some 0.1 s of one core for each check. */
const DEFAULTS = { cost: 2 ** 15, blockSize: 8, parallelization: 1 };
const SALT_BYTES = 16;
const HASH_BYTES = 32;

/**
 * Whether the password matches the hash.
 * @throws {TypeError} for text that is no such hash: the configuration checks it
 * before
 */
export async function verifyPassword(phc: string, password: string): Promise<boolean> {
  const known = readPhc(phc);
  if (typeof known === 'string') throw new TypeError(`the hash ${known}`);
  return timingSafeEqual(await derive(password, known, known.salt, known.hash.length), known.hash);
}

/** A new hash with a new salt, for `basic[].hash` of the configuration. */
export async function hashPassword(password: string): Promise<string> {
  const salt = randomBytes(SALT_BYTES);
  return formatPhc({ ...DEFAULTS, salt, hash: await derive(password, DEFAULTS, salt, HASH_BYTES) });
}

/**
 * A hash that no password has, as expensive to verify as `like`: an unknown
 * user is checked against it, so that response times reveal no users.
 */
export function decoyOf(like: string): string {
  const known = readPhc(like);
  if (typeof known === 'string') throw new TypeError(`the hash ${known}`);
  return formatPhc({ ...known, salt: randomBytes(known.salt.length), hash: randomBytes(known.hash.length) });
}

function derive(
  password: string,
  { cost, blockSize, parallelization }: Omit<Phc, 'salt' | 'hash'>,
  salt: Buffer,
  length: number,
): Promise<Buffer> {
  // Keyboards send the same character in several ways (RFC 8265 §4.2.2). OpenSSL counts a little more than 128 * N * r
  // bytes.
  return deriveKey(password.normalize('NFC'), salt, length, { cost, blockSize, parallelization, maxmem: 256 * cost * blockSize });
}

/**
 * Password hashes as text: `$scrypt$ln=15,r=8,p=1$salt$hash` in the PHC string
 * format. Every parameter is limited, so no configuration can make one request
 * cost gigabytes or seconds.
 * https://github.com/P-H-C/phc-string-format/blob/master/phc-sf-spec.md
 */
interface Phc {
  /** scrypt's N. */
  readonly cost: number;
  readonly blockSize: number;
  readonly parallelization: number;
  readonly salt: Buffer;
  readonly hash: Buffer;
}

const SCRYPT = /^\$scrypt\$ln=([1-9][0-9]?),r=([1-9][0-9]?),p=([1-9][0-9]?)\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)$/;

/** Below 2^14 a hash is too cheap to guess; above 2^17 one check takes almost half a second. */
const LN = { least: 14, most: 17 };
const P = { least: 1, most: 4 };
/** RFC 7914 §2 recommends r = 8; scrypt takes 128 * N * r bytes. */
const MEMORY = 128 * 1024 * 1024;
const SALT_RANGE = { least: 16, most: 64 };
const HASH_RANGE = { least: 32, most: 64 };

/** @returns the hash, or what is wrong with the text: the rest of a sentence that began with "the hash" */
export function readPhc(text: string): Phc | string {
  const match = SCRYPT.exec(text);
  if (match === null) return 'is not written as $scrypt$ln=15,r=8,p=1$salt$hash';
  const ln = Number(match[1]);
  const blockSize = Number(match[2]);
  const parallelization = Number(match[3]);
  const salt = readBase64(match[4] ?? '');
  const hash = readBase64(match[5] ?? '');
  if (ln < LN.least || ln > LN.most) return `has ln=${ln}; it must be from ${LN.least} to ${LN.most}`;
  if (parallelization < P.least || parallelization > P.most) return `has p=${parallelization}; it must be from ${P.least} to ${P.most}`;
  if (blockSize < 8) return `has r=${blockSize}; it must be at least 8`;
  const cost = 2 ** ln;
  if (128 * cost * blockSize > MEMORY)
    return `needs ${(128 * cost * blockSize) / 1024 / 1024} MiB for each look; ${MEMORY / 1024 / 1024} MiB are allowed`;
  if (salt === null || salt.length < SALT_RANGE.least || salt.length > SALT_RANGE.most)
    return `has a salt that is not ${SALT_RANGE.least} to ${SALT_RANGE.most} bytes in base64 without padding`;
  if (hash === null || hash.length < HASH_RANGE.least || hash.length > HASH_RANGE.most)
    return `has a last part that is not ${HASH_RANGE.least} to ${HASH_RANGE.most} bytes in base64 without padding`;
  return { cost, blockSize, parallelization, salt, hash };
}

/** The text of a hash. */
export function formatPhc(phc: Phc): string {
  const { cost, blockSize, parallelization, salt, hash } = phc;
  return `$scrypt$ln=${Math.log2(cost)},r=${blockSize},p=${parallelization}$${writeBase64(salt)}$${writeBase64(hash)}`;
}

/** One spelling per value: base64 without padding and without surplus bits at its end. */
function readBase64(text: string): Buffer | null {
  const bytes = Buffer.from(text, 'base64');
  return writeBase64(bytes) === text ? bytes : null;
}

function writeBase64(bytes: Buffer): string {
  return bytes.toString('base64').replace(/=+$/, '');
}
