/** Makes and verifies password hashes with scrypt (RFC 7914), off the event loop and in constant time. */
import { randomBytes, scrypt, timingSafeEqual, type ScryptOptions } from 'node:crypto';
import { promisify } from 'node:util';
import { formatPhc, type Phc, readPhc } from './phc.ts';

const deriveKey: (password: string, salt: Buffer, length: number, options: ScryptOptions) => Promise<Buffer> = promisify(scrypt);

/** 32 MiB and some 0.1 s of one core for each look. */
const DEFAULTS = { cost: 2 ** 15, blockSize: 8, parallelization: 1 };
const SALT_BYTES = 16;
const HASH_BYTES = 32;

/**
 * Whether the password is the one that was hashed.
 * @throws {TypeError} for text that is no such hash: the configuration has checked it
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
 * A hash that no password has, as dear to verify as `like`: what an unknown
 * user is held against, so that the time of an answer names no users.
 */
export function decoyOf(like: string): string {
  const known = readPhc(like);
  if (typeof known === 'string') throw new TypeError(`the hash ${known}`);
  return formatPhc({ ...known, salt: randomBytes(known.salt.length), hash: randomBytes(known.hash.length) });
}

function derive(password: string, { cost, blockSize, parallelization }: Omit<Phc, 'salt' | 'hash'>, salt: Buffer, length: number): Promise<Buffer> {
  // Keyboards send the same character in several ways (RFC 8265 §4.2.2). OpenSSL counts a little more than 128 * N * r bytes.
  return deriveKey(password.normalize('NFC'), salt, length, { cost, blockSize, parallelization, maxmem: 256 * cost * blockSize });
}
