/** Makes sure now that the key files of token issuers can be read; the keys themselves are read again while running. */
import { createPublicKey, type webcrypto } from 'node:crypto';
import { parseKeys } from '../identity/key-sources.ts';
import type { Path } from './finding.ts';
import { readNamedFile } from './read-named-file.ts';
import type { TlsReading } from './tls-files.ts';

export function checkJwksFile(file: string, path: Path, reading: TlsReading): void {
  const found = readNamedFile(file, path, reading);
  if (found === null) return;
  const { name, text } = found;
  const { complain } = reading;
  const keys = keysIn(text);
  if (keys === null) complain(path, `${name} is not a JWK set.`, 'It is JSON with a list of keys: {"keys":[…]}, as issuers serve it under jwks_uri.');
  else if (keys.length === 0) complain(path, `${name} has no keys, so no token would be accepted.`, 'Put the public keys of the issuer there.');
  else if (keys.some(isSecret)) complain(path, `${name} has private or secret keys.`, 'Put the public keys there only: whoever can read that file could make tokens.');
  else tryKeys(name, text, keys.length, path, reading);
}

/** With the call that reads them while running, and with OpenSSL. */
function tryKeys(name: string, text: string, meant: number, path: Path, { complain, warn }: TlsReading): void {
  let usable: number;
  try {
    usable = parseKeys(text, name).keys.filter((key) => isReadable(key)).length;
  } catch (error) {
    complain(path, `${error instanceof Error ? error.message : String(error)}.`, 'Put the public keys of the issuer there, as it serves them under jwks_uri.');
    return;
  }
  if (usable === 0) complain(path, `${name} has no key that can be read, so no token would be accepted.`, 'Put the public keys of the issuer there, as it serves them under jwks_uri.');
  else if (usable < meant) warn('files', path, `${meant - usable} of the ${meant} keys in ${name} verify no signature.`, 'Check that these are the keys with which the issuer signs.');
}

function isReadable(key: webcrypto.JsonWebKey): boolean {
  try {
    createPublicKey({ key, format: 'jwk' });
    return true;
  } catch {
    return false;
  }
}

/** RFC 7517 §5. */
function keysIn(text: string): readonly unknown[] | null {
  try {
    const set: unknown = JSON.parse(text);
    return typeof set === 'object' && set !== null && 'keys' in set && Array.isArray(set.keys) ? set.keys : null;
  } catch (error) {
    if (error instanceof SyntaxError) return null;
    throw error;
  }
}

/** RFC 7518 §6: `d` is the private part of every kind of key pair, `k` a shared secret. */
function isSecret(key: unknown): boolean {
  return typeof key === 'object' && key !== null && ('d' in key || 'k' in key);
}
