/**
 * The public keys of token issuers: where they come from, and how long they
 * are kept. Fetching them is the proxy's own traffic, not a client's: it
 * passes neither policy nor dial.
 */
import { readFile } from 'node:fs/promises';
import { calculateJwkThumbprint, createLocalJWKSet, type CryptoKey, errors, exportJWK, type JSONWebKeySet, type JWK, type JWSHeaderParameters } from 'jose';

/** A set of ten RSA keys has some 5 KB. */
const LARGEST = 262_144;
const MOST_ISSUER_KEYS = 100;
const PUBLIC_KINDS: ReadonlySet<unknown> = new Set(['RSA', 'EC', 'OKP']);

/** Rejects when the file is missing, too large or no key set; the message says which. */
export async function readKeyFile(path: string, signal: AbortSignal): Promise<JSONWebKeySet> {
  const bytes = await readFile(path, { signal });
  if (bytes.length > LARGEST) throw new Error(`${path} has more than ${LARGEST} bytes`);
  return parseKeys(bytes.toString(), path);
}

/**
 * Rejects when the server does not answer 200 with a key set within `timeout`
 * ms. Follows no redirects: keys come from the place the configuration names.
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

/** fetch says only that it failed, and keeps the reason in the cause. */
function describeFetchError(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause instanceof Error ? describeFetchError(error.cause) : error.message;
}

/** Who can change the keys on their way can sign tokens. */
function mayCarryKeys(text: string): boolean {
  const url = URL.parse(text);
  if (url?.protocol === 'https:') return true;
  return url?.protocol === 'http:' && /^(?:127\.\d+\.\d+\.\d+|\[::1\]|localhost)$/.test(url.hostname);
}

/** Null when there is too much of it. */
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
  return Buffer.concat(chunks).toString();
}

/**
 * RFC 7517 §5. Keys that verify no signature are left out, secret ones above all.
 *
 * @throws Error that says what is wrong with the text
 */
export function parseKeys(text: string, place: string): JSONWebKeySet {
  const keys = keysOf(parseJson(text, place));
  if (keys === null) throw new Error(`${place} is not a JSON Web Key Set: it has no list "keys"`);
  if (keys.length > MOST_ISSUER_KEYS) throw new Error(`${place} has more than ${MOST_ISSUER_KEYS} keys`);
  const usable = keys.filter(isPublicKey);
  if (usable.length === 0) throw new Error(`${place} has no public key for signatures`);
  return { keys: usable };
}

function parseJson(text: string, place: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Error(`${place} is not JSON`, { cause: error });
  }
}

function keysOf(value: unknown): readonly unknown[] | null {
  return typeof value === 'object' && value !== null && 'keys' in value && Array.isArray(value.keys) ? value.keys : null;
}

function isPublicKey(key: unknown): key is JWK {
  return typeof key === 'object' && key !== null && 'kty' in key && PUBLIC_KINDS.has(key.kty) && !('d' in key);
}

// The public keys of one issuer, kept fresh: looked at again after a while and
// when a token names a key that is not there; the last good set stays in use
// while the file or server gives nothing better.

interface KeySetOptions {
  /** Reads the set; rejects, with a message fit for the log, when there is none. */
  readonly load: (signal: AbortSignal) => Promise<JSONWebKeySet>;
  /** Ms since the epoch, or any clock that only moves forward. */
  readonly now: () => number;
  /** Ms after which the set is read again. */
  readonly freshFor: number;
  /** Least ms between two reads, whatever tokens ask for. */
  readonly restFor: number;
  /** Ms that a set is used while reading fails. */
  readonly keepFor: number;
  /** A read failed: once for each. */
  readonly onFault: (error: unknown) => void;
}

/** The public keys of one issuer at one place, read again when they are no longer fresh. `close` ends a read that is under way. */
export interface KeySet {
  /**
   * Finds the key of a token. Rejects with a JOSEError when there is none, with KeysUnavailable when there are no keys.
   * @param wait for a read of the set, only called where the key is not at hand: rejects where no more may wait
   */
  find(header: JWSHeaderParameters, wait: (reading: Promise<void>) => Promise<void>): Promise<FoundKey>;
  /** Whether a key is still published. Has the set read again if it is no longer fresh; does not wait for it. */
  has(id: string): boolean;
  close(): void;
}

interface FoundKey {
  readonly key: CryptoKey;
  /** Of the key alone, wherever and however often it is published (RFC 7638). */
  readonly id: string;
}

/** There is no set that may be used, and none to be had now. */
export class KeysUnavailable extends Error {
  override readonly name = 'KeysUnavailable';
}

interface LoadedKeys {
  readonly find: ReturnType<typeof createLocalJWKSet>;
  readonly ids: ReadonlySet<string>;
  /** To tell whether a read brought anything new. */
  readonly text: string;
  readonly keepUntil: number;
}

/** Begins to read at once, so that the first token need not wait long. */
export function createKeySet(options: KeySetOptions): KeySet {
  const { load, now, freshFor, restFor, keepFor, onFault } = options;
  const closing = new AbortController();
  let loaded: LoadedKeys | null = null;
  let refreshAt = 0;
  let restUntil = 0;
  let reading: Promise<void> | null = null;
  const idOf = new WeakMap<CryptoKey, string>();

  const usable = (): LoadedKeys | null => (loaded !== null && now() < loaded.keepUntil ? loaded : null);

  async function read(): Promise<void> {
    try {
      const set = await load(closing.signal);
      const text = JSON.stringify(set);
      // Keys that are the same keep their find: it has them imported already.
      const same = loaded?.text === text ? loaded : { find: createLocalJWKSet(set), text, ids: await idsOf(set.keys) };
      loaded = { ...same, keepUntil: now() + freshFor + keepFor };
      refreshAt = now() + freshFor;
    } catch (error) {
      if (!closing.signal.aborted) onFault(error);
    } finally {
      restUntil = now() + restFor;
      reading = null;
    }
  }

  /** One read at a time, and a rest after each; null while resting. */
  function refresh(): Promise<void> | null {
    if (reading === null && now() >= restUntil && !closing.signal.aborted) reading = read();
    return reading;
  }

  function touch(): void {
    if (now() >= refreshAt) void refresh();
  }

  async function findIn({ find }: LoadedKeys, header: JWSHeaderParameters): Promise<FoundKey> {
    const key = await find(header);
    const id = idOf.get(key) ?? (await calculateJwkThumbprint(await exportJWK(key)));
    idOf.set(key, id);
    return { key, id };
  }

  touch();
  return {
    has(id) {
      touch();
      return usable()?.ids.has(id) === true;
    },
    find: async (header, wait) => {
      touch();
      const waitForRead = async (): Promise<void> => {
        const current = refresh();
        if (current !== null) await wait(current);
      };
      if (usable() === null) await waitForRead();
      const before = usable();
      if (before === null) throw new KeysUnavailable('the keys cannot be fetched');
      try {
        return await findIn(before, header);
      } catch (error) {
        if (!(error instanceof errors.JWKSNoMatchingKey)) throw error;
        await waitForRead();
        const after = usable();
        if (after === null || after.text === before.text) throw error;
        return findIn(after, header);
      }
    },
    close() {
      closing.abort();
    },
  };
}

/** Without those that are no keys: they match no token either. */
async function idsOf(keys: readonly JWK[]): Promise<ReadonlySet<string>> {
  const ids = await Promise.all(keys.map((key) => calculateJwkThumbprint(key).catch(() => null)));
  return new Set(ids.filter((id) => id !== null));
}
