/**
 * Reads the public keys of token issuers. Fetching them is the proxy's own
 * traffic, not a client's: it passes neither policy nor dial. Commands that
 * only check a configuration load this file, but not the library that verifies
 * tokens.
 */
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import type { JSONWebKeySet, JWK } from 'jose';
import { isThisMachine } from '../targets/host.ts';

/** A set of ten RSA keys has some 5 KB. */
const LARGEST = 262_144;
const MOST_ISSUER_KEYS = 100;
const PUBLIC_KINDS: ReadonlySet<unknown> = new Set(['RSA', 'EC', 'OKP']);

/** Rejects when the file is missing, too large or no key set; the message says which. */
export async function readKeyFile(path: string, signal: AbortSignal): Promise<JSONWebKeySet> {
  // Without O_NONBLOCK, a pipe would hold one of Node's few threads until somebody writes to it.
  await using file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const stats = await file.stat();
  if (!stats.isFile() && !stats.isDirectory()) throw new Error(`${path} is not a file`);
  if (stats.size > LARGEST) throw tooLarge(path);
  // Without a byte order mark, as when the configuration is loaded.
  return parseKeys(new TextDecoder().decode(await file.readFile({ signal })), path);
}

/**
 * Rejects when the server does not answer 200 with a key set within `timeout`
 * ms. Follows no redirects: keys come from the configured location.
 */
export async function fetchKeys(url: string, fetch: typeof globalThis.fetch, timeout: number, signal: AbortSignal): Promise<JSONWebKeySet> {
  if (!mayCarryKeys(url)) throw new Error(`${url}: keys are fetched over https, or over http from this machine`);
  return parseKeys(await fetchText(url, fetch, AbortSignal.any([signal, AbortSignal.timeout(timeout)])), url);
}

async function fetchText(url: string, fetch: typeof globalThis.fetch, signal: AbortSignal): Promise<string> {
  let response: Response;
  let text: string | null;
  try {
    response = await fetch(url, { headers: { accept: 'application/jwk-set+json, application/json' }, redirect: 'error', signal });
    text = await readBounded(response);
  } catch (error) {
    throw new Error(`${url} cannot be fetched: ${describeFetchError(error)}`, { cause: error });
  }
  if (response.status !== 200) throw new Error(`${url} answered ${response.status}`);
  if (text === null) throw new Error(`${url} sent more than ${LARGEST} bytes`);
  return text;
}

/** fetch reports only that it failed, and has the reason in the cause. */
function describeFetchError(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause instanceof Error ? describeFetchError(error.cause) : error.message;
}

/** An attacker who can change the keys in transit can sign tokens. */
function mayCarryKeys(text: string): boolean {
  const url = URL.parse(text);
  if (url?.protocol === 'https:') return true;
  return url?.protocol === 'http:' && isThisMachine(url);
}

/** Null when it is too large. */
async function readBounded(response: Response): Promise<string | null> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  if (response.body === null) return '';
  // Leaving the loop cancels the body, and with it the connection.
  for await (const chunk of response.body as ReadableStream<Uint8Array>) {
    length += chunk.length;
    if (length > LARGEST) return null;
    chunks.push(chunk);
  }
  return new TextDecoder().decode(Buffer.concat(chunks));
}

/**
 * RFC 7517 §5. Keys that verify no signature are left out, secret ones in
 * particular.
 *
 * @throws Error with what is wrong with the text
 */
export function parseKeys(text: string, place: string): JSONWebKeySet {
  if (Buffer.byteLength(text) > LARGEST) throw tooLarge(place);
  const keys = keysOf(parseJson(text, place));
  if (keys === null) throw new Error(`${place} is not a JSON Web Key Set: it has no list "keys"`);
  if (keys.length > MOST_ISSUER_KEYS) throw new Error(`${place} has more than ${MOST_ISSUER_KEYS} keys`);
  const usable = keys.filter(isPublicKey);
  if (usable.length === 0) throw new Error(`${place} has no public key for signatures`);
  return { keys: usable };
}

function tooLarge(place: string): Error {
  return new Error(`${place} has more than ${LARGEST} bytes`);
}

function parseJson(text: string, place: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Error(`${place} is not JSON`, { cause: error });
  }
}

/** The list of a key set (RFC 7517 §5), of any content; null: it is none. */
export function keysOf(value: unknown): readonly unknown[] | null {
  return typeof value === 'object' && value !== null && 'keys' in value && Array.isArray(value.keys) ? value.keys : null;
}

function isPublicKey(key: unknown): key is JWK {
  return typeof key === 'object' && key !== null && 'kty' in key && PUBLIC_KINDS.has(key.kty) && !('d' in key);
}
