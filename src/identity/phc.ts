/**
 * Password hashes as text: `$scrypt$ln=15,r=8,p=1$salt$hash` in the PHC string
 * format. Reading bounds every parameter, so that no configuration can make
 * one request cost gigabytes or seconds.
 * https://github.com/P-H-C/phc-string-format/blob/master/phc-sf-spec.md
 */

export interface Phc {
  /** scrypt's N. */
  readonly cost: number;
  readonly blockSize: number;
  readonly parallelization: number;
  readonly salt: Buffer;
  readonly hash: Buffer;
}

const SCRYPT = /^\$scrypt\$ln=([1-9][0-9]?),r=([1-9][0-9]?),p=([1-9][0-9]?)\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)$/;

/** Below 2^14 a hash is guessed too cheaply; above 2^17 one look costs near half a second. */
const LN = { least: 14, most: 17 };
const P = { least: 1, most: 4 };
/** RFC 7914 §2 recommends r = 8; scrypt takes 128 * N * r bytes. */
const MEMORY = 128 * 1024 * 1024;
const SALT_BYTES = { least: 16, most: 64 };
const HASH_BYTES = { least: 32, most: 64 };

/** @returns the hash, or why the text is none: the rest of a sentence that began with "the hash" */
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
  if (128 * cost * blockSize > MEMORY) return `needs ${(128 * cost * blockSize) / 1024 / 1024} MiB for each look; ${MEMORY / 1024 / 1024} MiB are allowed`;
  if (salt === null || salt.length < SALT_BYTES.least || salt.length > SALT_BYTES.most) return `has a salt that is not ${SALT_BYTES.least} to ${SALT_BYTES.most} bytes in base64 without padding`;
  if (hash === null || hash.length < HASH_BYTES.least || hash.length > HASH_BYTES.most) return `has a last part that is not ${HASH_BYTES.least} to ${HASH_BYTES.most} bytes in base64 without padding`;
  return { cost, blockSize, parallelization, salt, hash };
}

export function formatPhc(phc: Phc): string {
  const { cost, blockSize, parallelization, salt, hash } = phc;
  return `$scrypt$ln=${Math.log2(cost)},r=${blockSize},p=${parallelization}$${writeBase64(salt)}$${writeBase64(hash)}`;
}

/** One spelling per value: base64 without padding and without stray bits at its end. */
function readBase64(text: string): Buffer | null {
  const bytes = Buffer.from(text, 'base64');
  return writeBase64(bytes) === text ? bytes : null;
}

function writeBase64(bytes: Buffer): string {
  return bytes.toString('base64').replace(/=+$/, '');
}
