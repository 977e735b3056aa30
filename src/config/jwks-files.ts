/** Makes sure now that the key files of token issuers can be read; the keys themselves are read again while running. */
import { resolve } from 'node:path';
import { quote, type Path } from './finding.ts';
import { describeReadError, type TlsReading } from './tls-files.ts';

export function checkJwksFile(file: string, path: Path, { directory, readFile, complain }: Pick<TlsReading, 'directory' | 'readFile' | 'complain'>): void {
  const full = resolve(directory, file);
  let text: string;
  try {
    text = readFile(full);
  } catch (error) {
    complain(path, `${quote(full)} cannot be read: ${describeReadError(error)}.`, 'Check the path (relative ones start at the configuration file) and its permissions.');
    return;
  }
  const keys = keysIn(text);
  if (keys === null) complain(path, `${quote(full)} is not a JWK set.`, 'It is JSON with a list of keys: {"keys":[…]}, as issuers serve it under jwks_uri.');
  else if (keys.length === 0) complain(path, `${quote(full)} has no keys, so no token would be accepted.`, 'Put the public keys of the issuer there.');
  else if (keys.some(isSecret)) complain(path, `${quote(full)} has private or secret keys.`, 'Put the public keys there only: whoever can read that file could make tokens.');
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
