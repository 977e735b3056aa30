/**
 * The public keys of one issuer, kept fresh: read again after a while, and when
 * a token names an unknown key; the last good set stays in use while the file
 * or server yields no new one.
 */
import { createPublicKey } from 'node:crypto';
import {
  calculateJwkThumbprint,
  createLocalJWKSet,
  type CryptoKey,
  errors,
  exportJWK,
  type JSONWebKeySet,
  type JWK,
  type JWSHeaderParameters,
} from 'jose';

interface KeySetOptions {
  /** Reads the set; rejects, with a message for the log, when there is none. */
  readonly load: (signal: AbortSignal) => Promise<JSONWebKeySet>;
  /** Ms, on any monotonic clock. */
  readonly now: () => number;
  /** Ms after which the set is read again. */
  readonly freshFor: number;
  /** Least time between two reads, for any tokens, ms. */
  readonly restFor: number;
  /** How long a set is used while reading fails, ms. */
  readonly keepFor: number;
  /** Called once for each failed read. */
  readonly onFault: (error: unknown) => void;
}

/** The public keys of one issuer at one location, read again when they are no longer fresh. `close` ends a read in progress. */
export interface KeySet {
  /**
   * Finds the key of a token. Rejects with a JOSEError when there is none, with KeysUnavailable when there are no keys.
   * @param wait for a read of the set, only called if the key is not cached: rejects if no more may wait
   */
  find(header: JWSHeaderParameters, wait: (reading: Promise<void>) => Promise<void>): Promise<FoundKey>;
  /** Whether a key is still published. Triggers a read of the set if it is no longer fresh; does not wait for it. */
  has(id: string): boolean;
  close(): void;
}

interface FoundKey {
  readonly key: CryptoKey;
  /** Identifies the key itself, wherever and however often it is published (RFC 7638). */
  readonly id: string;
}

/** There is no set that may be used, and none can be read now. */
export class KeysUnavailable extends Error {
  override readonly name = 'KeysUnavailable';
}

interface LoadedKeys {
  readonly find: ReturnType<typeof createLocalJWKSet>;
  readonly ids: ReadonlySet<string>;
  /** To detect whether a read brought anything new. */
  readonly text: string;
  readonly keepUntil: number;
}

/** Begins to read at once, so the first token need not wait long. */
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
      // Unchanged keys keep their key finder, which has imported them already.
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

  /** One read at a time, and a pause after each; null during the pause. */
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

/** The ids of the keys themselves, as `findIn` computes them: numbers are also published with leading zeros, or with padding. Entries that are not keys match no token either. */
async function idsOf(keys: readonly JWK[]): Promise<ReadonlySet<string>> {
  const ids = await Promise.allSettled(
    keys.map(async (key) => calculateJwkThumbprint(createPublicKey({ key, format: 'jwk' }).export({ format: 'jwk' }))),
  );
  return new Set(ids.flatMap((id) => (id.status === 'fulfilled' ? id.value : [])));
}
